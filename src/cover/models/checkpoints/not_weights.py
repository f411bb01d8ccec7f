"""Files and folders that are not weights: each message says what the file is, and what to do."""

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
    b"\x89HDF": "an HDF5 file (Keras, TensorFlow), which cover does not read; export the weights to safetensors",
    b"GGUF": "a GGUF file, whose weights are quantised; use the original weights",
    b"\x93NUMPY": "a single array (.npy); give all arrays of the model in one .npz",
    b"\x1f\x8b": "a gzip archive; unpack it and give the file inside",
    b"BZh": "a bzip2 archive; unpack it and give the file inside",
    b"\xfd7zXZ": "an xz archive; unpack it and give the file inside",
    b"(\xb5/\xfd": "a Zstandard archive; unpack it and give the file inside",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it and give the file inside",
    b"Rar!": "a RAR archive; unpack it and give the file inside",
}
SUFFIXES = {
    ".onnx": "an ONNX graph, which cover does not read; use the weights it was exported from",
    ".msgpack": "a Flax file, which cover does not read; export the weights to safetensors",
    ".engine": "a TensorRT engine, which cover does not read; use the weights it was built from",
    ".pb": "a TensorFlow graph, which cover does not read; export the weights to safetensors",
    ".tflite": "a TensorFlow Lite graph, which cover does not read; export the weights to safetensors",
}
FOLDERS = {
    "adapter_config.json": (
        "a LoRA adapter, not a model; merge it into its base model (merge_and_unload of peft), then give the folder "
        "that save_pretrained writes"
    ),
    ".metadata": (
        "a distributed checkpoint of torch; convert it to a file with "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch`"
    ),
    "zero_to_fp32.py": "a checkpoint of DeepSpeed; convert it to one file with the zero_to_fp32.py inside",
}
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pyth", ".npz", ".ckpt", ".tar")


def describe_file(start: bytes, path: Path) -> str:
    """Say what a file is that is not weights, and what to do.

    Args:
        start: Its first bytes, at least 262.
        path: The file, for its suffix.

    Returns:
        A phrase that completes "FILE is …".
    """
    if not start:
        return f"empty; {AGAIN}"
    for beginning, what in BEGINNINGS.items():
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give the file inside"
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    return f"not a file of weights: neither safetensors, nor PyTorch, nor .npz, nor Flax; {AGAIN}"


def describe_zip(names: Sequence[str]) -> str | None:
    """Say what a zip archive is, and what to do.

    Args:
        names: Its members.

    Returns:
        A phrase that completes "FILE is …", or None if torch.save wrote the file.
    """
    members = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        return "a TorchScript program; load it with torch.jit.load and save its state_dict() with safetensors"
    if "archive_format" in members or "serialized_exported_program.json" in members:
        return "a program of torch.export; use the weights it was exported from"
    if any(name.endswith(".weights.h5") for name in members):
        return "a Keras model, which cover does not read; export the weights to safetensors"
    if "data.pkl" in members:
        return None
    inside = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"a zip archive ({inside or 'empty'}); unpack it and give the file inside"


def describe_folder(folder: Path, expected: Sequence[str]) -> str:
    """Say what a folder contains in place of weights, and what to do.

    Args:
        folder: A folder without any of the expected files.
        expected: The usual names of files of weights.

    Returns:
        A phrase that completes "FOLDER contains …".
    """
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
