"""Datasets as they are distributed, and your own folders and lists → manifests: a module for each layout."""
