"""A file and some times in, uint8 frames out: sampling, decoding, scaling, cropping and augmentation."""
