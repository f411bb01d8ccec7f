"""Datasets on disk are made ready for training: checked, freed of leaks, packed."""
