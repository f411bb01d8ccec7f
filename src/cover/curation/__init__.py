"""A dataset on disk → checked, packed: work over all of its files, in processes that broken files may hang or kill."""
