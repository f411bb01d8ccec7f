"""A run behind a page and an HTTP API: `cover serve`."""
