"""Datasets on disk → manifests. Needs neither torch nor PyAV."""
