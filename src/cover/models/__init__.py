"""Frames in, one feature a clip and one set of logits a dataset out: the TimeSformer, its variants, its weights."""
