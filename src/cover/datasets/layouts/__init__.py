"""Public datasets as they are distributed, and your own folders and lists: a module for each layout."""
