"""Files of tensors, whatever their kind, as names with shapes; a tensor is read when it is asked for.

No file can run code here: safetensors and .npz are plain data, and pickles (.pyth, .pt, .bin) go through torch's
restricted unpickler (`weights_only=True`), which refuses everything but tensors and plain values.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from cover.errors import CheckpointError

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder's weights are called; with ".index.json" behind it, a list of the files they are spread over."""
WRAPPERS = ("model_state", "state_dict", "model")
"""Keys under which training code keeps the state dict in a file of more things."""


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name. wrapper: the key of WRAPPERS that they were found under, "" for none."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    wrapper: str = ""


def open_tensors(path: Path) -> TensorFile:
    """The tensors of a file, or of a folder with WEIGHTS_FILES. Raises CheckpointError where there are none."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; give a file or folder of weights, or a run")
    if not path.is_dir():
        return _open_file(path)
    for name in WEIGHTS_FILES:
        if (path / name).exists():
            return _open_file(path / name)
        if (path / f"{name}.index.json").exists():
            return _open_shards(path / f"{name}.index.json")
    raise CheckpointError(
        f"{path} holds no weights ({' or '.join(WEIGHTS_FILES)}); give a run, or name the file itself"
    )


def _open_file(path: Path) -> TensorFile:
    try:
        return _opener(path)(path)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle, zip or header fails in any way there is
        raise CheckpointError(f"{path} is damaged or cut short ({brief(error)}); copy or download it again") from None


def brief(error: Exception) -> str:
    """The first line of what an error of another library says, or else its kind."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _opener(path: Path) -> Callable[[Path], TensorFile]:
    """How to open a file, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            is_npz = all(name.endswith(".npy") for name in archive.namelist())
        return _open_npz if is_npz else _open_pickle
    if start[8:] == b"{":
        return _open_safetensors
    if start[:1] == b"\x80":
        return _open_pickle
    raise CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is no file of weights: neither safetensors, nor PyTorch, nor .npz; "
        "copy or download it again"
    )


def _open_safetensors(path: Path) -> TensorFile:
    file = safe_open(path, framework="pt")
    return TensorFile({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, file.get_tensor)  # noqa: SIM118


def _open_pickle(path: Path) -> TensorFile:
    try:
        # A damaged or hostile file is refused below, so torch need not warn of it. Only its zip archives can be mapped,
        # and it takes a path, but not an open file, called .safetensors for what the name says.
        mmap = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            loaded = torch.load(path if mmap else file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        if "Unsupported" not in str(error) and "weights_only" not in str(error).lower():
            raise
        raise CheckpointError(
            f"{path} holds more than tensors, and reading the rest could run code, so it is not read; "
            "if you trust it, load it yourself and save its state_dict() with safetensors"
        ) from None
    state, wrapper = loaded, ""
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            state, wrapper = loaded[key], key
            break
    tensors = {str(name): value for name, value in _items(state) if isinstance(value, Tensor)}
    return TensorFile({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__, wrapper)


def _items(state: object) -> list[tuple[Any, Any]]:
    return list(state.items()) if isinstance(state, dict) else []


def _open_npz(path: Path) -> TensorFile:
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version[0]](file)
            if dtype.hasobject:
                raise CheckpointError(
                    f"{path} holds Python objects ({member}), and reading them could run code, so it is not read; "
                    "save its arrays as plain numbers"
                )
            shapes[member.removesuffix(".npy")] = tuple(shape)

    def read(name: str) -> Tensor:
        with np.load(path, allow_pickle=False) as arrays:
            return torch.from_numpy(arrays[name])

    return TensorFile(shapes, read)


def _open_shards(index: Path) -> TensorFile:
    try:
        homes: dict[str, str] = json.loads(index.read_text())["weight_map"]
        names = sorted(set(homes.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is damaged ({error!r}); copy or download it again") from None
    for name in names:
        if not (index.parent / name).exists():
            raise CheckpointError(f"{index.parent / name} is missing, {index.name} lists it; copy or download it too")
    files = {name: _open_file(index.parent / name) for name in names}
    shapes = {name: shape for file in files.values() for name, shape in file.shapes.items()}
    if missing := sorted(homes.keys() - shapes.keys()):
        raise CheckpointError(f"{index.parent / homes[missing[0]]} lacks {missing[0]}; copy or download it again")
    return TensorFile(shapes, lambda name: files[homes[name]].read(name))
