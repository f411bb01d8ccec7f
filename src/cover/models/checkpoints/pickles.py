"""State dicts in files that torch.save wrote, read without running code.

torch's restricted unpickler builds tensors and plain values, and refuses everything else.
"""

from __future__ import annotations

import mmap
import re
import warnings
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.errors import CheckpointError

MAX_DEPTH = 8
"""How deep dictionaries in dictionaries are searched."""


def read_state_dicts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Find the dictionaries of tensors in a pickle.

    Args:
        path: The file.

    Returns:
        {keys: {name: tensor}}, with the keys that lead to each dictionary, such as "", "state_dict" or "model.ema". The
        dictionaries in a list have numbers: "classifiers.0".

    Raises:
        CheckpointError: The pickle contains more than tensors and plain values.
    """
    _check_bounds(path)
    found: dict[str, dict[str, Tensor]] = {}
    pending: list[tuple[tuple[str, ...], Any]] = [((), _load(path))]
    seen: set[int] = set()  # a dictionary may contain itself
    for keys, value in pending:
        if isinstance(value, list):
            value = dict(enumerate(value))
        if not isinstance(value, dict) or id(value) in seen or len(keys) > MAX_DEPTH:
            continue
        seen.add(id(value))
        named = {str(name): part for name, part in value.items() if isinstance(name, str | int)}
        if tensors := {name: part for name, part in named.items() if isinstance(part, Tensor)}:
            found[".".join(keys)] = tensors
        pending += [((*keys, name), part) for name, part in named.items() if isinstance(part, dict | list)]
    return found


def _load(path: Path) -> object:
    # torch can map only its zip archives, and only if it gets a path. It takes a path that ends in .safetensors for a
    # safetensors file, whatever its content, so such a file is opened here.
    mapped = zipfile.is_zipfile(path) and path.suffix != ".safetensors"
    # Training code often stores its command line with the weights. It is a Namespace of plain values.
    plain = torch.serialization.safe_globals([Namespace])
    try:
        # A damaged or hostile file is refused below, so warnings of torch add nothing.
        with warnings.catch_warnings(action="ignore"), plain, path.open("rb") as file:
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        if "Unsupported" not in str(error) and "weights_only" not in str(error).lower():
            raise
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise CheckpointError(
            f"{path} contains more than tensors{what}, and reading the rest could run code, so it is not read; "
            "if you trust it, load it yourself and save its state_dict() with safetensors"
        ) from None


def _check_bounds(path: Path) -> None:
    """Raise ValueError if a small file would fill the memory.

    The restricted unpickler builds bytearrays of any length that a file states; no state dict has one. torch.save never
    compresses, so a compressed file might hide one.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed, which torch.save never does")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("it unpacks to more bytes than it has")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\nbytearray\n") >= 0:
            raise ValueError("it contains a bytearray, which no state dict does")
