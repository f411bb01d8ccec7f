"""The former home of `cover.datasets`, kept for scripts that import `Manifest` from here."""
