"""Files of tensors of any kind, as names and shapes. A tensor is read only when you need it.

No file can run code here: safetensors, .npz and Flax's msgpack are plain data, and torch's restricted unpickler reads
pickles (.pyth, .pt, .bin; see pickles.py). No file can make this process read a pipe, read another folder, or unpack
more bytes than the file has.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from cover.core.run_files import WEIGHTS_FILE
from cover.core.text_files import read_json
from cover.errors import CheckpointError
from cover.models.checkpoints.flax_files import looks_like_flax, read_arrays
from cover.models.checkpoints.not_weights import describe_file, describe_folder, describe_zip
from cover.models.checkpoints.pickles import read_state_dicts

WEIGHTS_FILES = (WEIGHTS_FILE, "pytorch_model.bin")
"""The file of weights in a folder. With ".index.json" added, it lists the files that the weights are split into."""
OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Those of OpenCLIP, which may lie beside the same weights for transformers."""
MAX_HEADER_BYTES = 2**16
"""The longest header of an array in a .npz file; numpy writes 128 bytes."""
MAX_NAME_LENGTH = 255
"""The longest name of a tensor or file. Messages show these names."""
SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file.

    Attributes:
        shapes: {name: shape}.
        types: {name: type of the numbers}. Floating-point types have torch's names ("float32"), others the file's own.
        read: name → tensor.
    """

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    read: Callable[[str], Tensor]


def open_tensors(path: Path) -> dict[str, TensorFile]:
    """Open a file, or a folder with one of WEIGHTS_FILES or OPEN_CLIP_FILES.

    Args:
        path: The file or folder.

    Returns:
        {key: tensors}. Most files have one key, "". In checkpoints of training code, keys may be "state_dict", or
        "teacher" and "student".

    Raises:
        CheckpointError: The file is missing, damaged, or not a file of weights.
    """
    if not os.path.isdir(path):
        return _open_file(path)
    for name in (*WEIGHTS_FILES, *OPEN_CLIP_FILES):
        if os.path.exists(path / name):
            return _open_file(path / name)
        if os.path.exists(path / f"{name}.index.json"):
            return {"": _open_shards(path / f"{name}.index.json")}
    raise CheckpointError(f"{path} contains {describe_folder(path, WEIGHTS_FILES)}")


def open_one_file(path: Path) -> TensorFile:
    """Open a file that has its tensors at the top level.

    Args:
        path: The file.

    Raises:
        CheckpointError: It has them under keys, or `open_tensors` raises it.
    """
    files = _open_file(path)
    if [*files] != [""]:
        raise CheckpointError(f"{path} is a checkpoint of other code with a changed name; copy or download it again")
    return files[""]


def _open_file(path: Path) -> dict[str, TensorFile]:
    if not os.path.exists(path):
        raise CheckpointError(f"{path} does not exist; give a run, a file or folder of weights, or hf://owner/name")
    if not os.path.isfile(path):
        raise CheckpointError(f"{path} is a pipe, a device or a folder, not a file; give a file of weights")
    try:
        files = _opener(path)(path)
        if any(len(name) > MAX_NAME_LENGTH for file in files.values() for name in file.shapes):
            raise ValueError(f"a tensor has a name of more than {MAX_NAME_LENGTH} characters")
        return files
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({brief(error)}); copy or download it again") from None
    except Exception as error:  # a damaged pickle, zip or header can raise anything
        raise CheckpointError(f"{path} is damaged or cut short ({brief(error)}); copy or download it again") from None


def brief(error: Exception) -> str:
    """Return the first line of another library's error message, or the kind of error if it has no message."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _opener(path: Path) -> Callable[[Path], dict[str, TensorFile]]:
    """Choose how to open a file by its first bytes."""
    with path.open("rb") as file:
        start = file.read(512)
    if start[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if all(name.endswith(".npy") for name in names):
            return _open_npz
        if other := describe_zip(names):
            raise CheckpointError(f"{path} is {other}")
        return _open_pickle
    if start[8:9] == b"{":
        return _open_safetensors
    if start[:1] == b"\x80":
        return _open_pickle
    if len(start) > 3 and looks_like_flax(start):
        return _open_flax
    raise CheckpointError(f"{path} ({path.stat().st_size:,} bytes) is {describe_file(start, path)}")


def _open_pickle(path: Path) -> dict[str, TensorFile]:
    return {
        key: TensorFile(
            {name: tuple(tensor.shape) for name, tensor in tensors.items()},
            {name: _type_of(tensor) for name, tensor in tensors.items()},
            tensors.__getitem__,
        )
        for key, tensors in read_state_dicts(path).items()
    }


def _type_of(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        return f"{name} without its data"
    return name if tensor.layout == torch.strided else f"{name} as a sparse tensor"


def _open_safetensors(path: Path) -> dict[str, TensorFile]:
    file = safe_open(path, framework="pt")
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    types = {name: part.get_dtype() for name, part in slices.items()}
    return {
        "": TensorFile(
            {name: tuple(part.get_shape()) for name, part in slices.items()},
            {name: SAFETENSORS_TYPES.get(type, type) for name, type in types.items()},
            file.get_tensor,
        )
    }


def _open_npz(path: Path) -> dict[str, TensorFile]:
    shapes, types = {}, {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                shape, _, dtype = _read_header(file.read(MAX_HEADER_BYTES))
            if dtype.hasobject:
                raise CheckpointError(
                    f"{path} contains Python objects ({member}), and reading them could run code, so it is not read; "
                    "save its arrays as plain numbers"
                )
            name = member.removesuffix(".npy")
            shapes[name], types[name] = shape, dtype.name

    def read(name: str) -> Tensor:
        with np.load(path, allow_pickle=False) as arrays:
            array = arrays[name]
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))

    return {"": TensorFile(shapes, types, read)}


def _open_flax(path: Path) -> dict[str, TensorFile]:
    arrays = read_arrays(path)
    return {
        "": TensorFile(
            {name: array.shape for name, array in arrays.items()},
            {name: array.dtype for name, array in arrays.items()},
            lambda name: arrays[name].read(path),
        )
    }


def _read_header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read shape, order and type from an array's header. Raises ValueError if it is longer than `start`."""
    file = io.BytesIO(start)
    is_first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return tuple(shape), is_fortran, dtype


def _open_shards(index: Path) -> TensorFile:
    homes = _read_index(index)
    for name in sorted(set(homes.values())):
        if not os.path.isfile(index.parent / name):
            raise CheckpointError(
                f"{index.parent / name} is missing, but {index.name} lists it; copy or download it too"
            )
    files = {name: open_one_file(index.parent / name) for name in sorted(set(homes.values()))}
    for name, home in homes.items():
        if name not in files[home].shapes:
            raise CheckpointError(f"{index.parent / home} lacks {name}; copy or download it again")
    return TensorFile(
        {name: files[home].shapes[name] for name, home in homes.items()},
        {name: files[home].types[name] for name, home in homes.items()},
        lambda name: files[homes[name]].read(name),
    )


def _read_index(index: Path) -> dict[str, str]:
    """Return {tensor: file}. Each file is in the folder of the index, so its name must not have folders."""
    try:
        values = read_json(index)
        homes = values.get("weight_map") if isinstance(values, dict) else None
        if not isinstance(homes, dict):
            raise ValueError("it has no weight_map")
        for home in homes.values():
            is_name = isinstance(home, str) and Path(home).name == home and len(home) <= MAX_NAME_LENGTH
            if not is_name or home in ("", "..") or "\0" in home:
                raise ValueError(f"{str(home)[:50]!r} is not the name of a file in this folder")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{index} is damaged ({brief(error)}); copy or download it again") from None
    return homes
