"""Frames in, one feature a clip, one set of logits a dataset: the TimeSformer, its variants, and its weights on disk."""
