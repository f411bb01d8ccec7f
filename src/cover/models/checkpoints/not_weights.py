"""What people give in place of weights: told apart, to say what it is and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

AGAIN = "copy or download it again"
BEGINNINGS: dict[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull`, or download the file",
    b"<": "a page (HTML or XML), not a file of weights; the download failed: download the file itself",
    b"{": "a JSON file, not a file of weights; give the weights beside it, or the folder",
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow), which is not read; export the weights to safetensors",
    b"GGUF": "a GGUF file, whose weights are quantised; take the original weights",
    b"\x93NUMPY": "a single array (.npy); give all arrays of the model in one .npz",
    b"\x1f\x8b": "a gzip archive; unpack it and give the file inside",
    b"BZh": "a bzip2 archive; unpack it and give the file inside",
    b"\xfd7zXZ": "an xz archive; unpack it and give the file inside",
    b"(\xb5/\xfd": "a Zstandard archive; unpack it and give the file inside",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it and give the file inside",
    b"Rar!": "a RAR archive; unpack it and give the file inside",
}
SUFFIXES = {
    ".onnx": "an ONNX graph, which is not read; take the weights it was exported from",
    ".msgpack": "a Flax file, which is not read; export the weights to safetensors",
    ".engine": "a TensorRT engine, which is not read; take the weights it was built from",
    ".pb": "a TensorFlow graph, which is not read; export the weights to safetensors",
    ".tflite": "a TensorFlow Lite graph, which is not read; export the weights to safetensors",
}
FOLDERS = {
    "adapter_config.json": (
        "a LoRA adapter, not a model; merge it into its base model (merge_and_unload of peft) and give what "
        "save_pretrained writes then"
    ),
    ".metadata": (
        "one of torch's distributed checkpoints; convert it to a file with "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch`"
    ),
    "zero_to_fp32.py": "a checkpoint of DeepSpeed; make one file of it with the zero_to_fp32.py that lies in it",
}
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pyth", ".npz", ".ckpt", ".tar")


def describe_file(start: bytes, path: Path) -> str:
    """What a file is that begins with these bytes, and what to do."""
    if not start:
        return f"empty; {AGAIN}"
    for beginning, what in BEGINNINGS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give the file inside"
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    return f"no file of weights: neither safetensors, nor PyTorch, nor .npz; {AGAIN}"


def describe_zip(names: Sequence[str]) -> str | None:
    """What a zip archive with these members is, None if it is a file of torch.save."""
    members = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        return "a TorchScript program; load it with torch.jit.load and save its state_dict() with safetensors"
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "a program of torch.export; take the weights it was exported from"
    if any(name.endswith(".weights.h5") for name in members):
        return "a Keras model, which is not read; export the weights to safetensors"
    if "data.pkl" in members:
        return None
    inside = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a zip archive ({inside or 'empty'}); unpack it and give the file inside"


def describe_folder(folder: Path, expected: Sequence[str]) -> str:
    """What a folder without the `expected` files holds, and what to do."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"files that cannot be listed ({error.strerror}); change its permissions"
    for name, what in FOLDERS.items():
        if name in names:
            return what
    weights = [name for name in names if name.endswith(WEIGHTS_SUFFIXES)]
    if shards := [name for name in weights if re.search(r"-\d+-of-\d+\.", name)]:
        return f"{shards[0]}, but not the index of the shards ({expected[0]}.index.json); download it too"
    if weights:
        shown = ", ".join(weights[:4]) + (", …" if len(weights) > 4 else "")
        return f"no {' or '.join(expected)}, but {shown}; name the file that you mean"
    return f"no weights ({' or '.join(expected)}); give a run, or name the file itself"
