"""Files of weights, of this library and of others: they are recognised, read without running code, and checked.

tensor_files.py   opens safetensors, .npz and PyTorch files as tensors by name
pickles.py        reads PyTorch files without running code
not_weights.py    says what a file is if it is not weights
naming.py         the names and layout of another code base's tensors
views.py          the models in a file, by our names and in our layout
settings.py       the settings that transformers saves beside weights
integrity.py      digests of the files of our own checkpoints
"""
