"""The former place of cover.datasets, for scripts that import `Manifest` from here. New code uses `cover.Manifest`."""
