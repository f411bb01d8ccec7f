"""A file and the times wanted from it become uint8 frames: sampling, decoding, scaling and cropping."""
