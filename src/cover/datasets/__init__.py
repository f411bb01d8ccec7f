"""Datasets on disk become manifests: one memory-mapped Arrow file a split."""
