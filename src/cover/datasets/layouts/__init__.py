"""Public datasets as they are distributed → manifests: a module for each."""
