"""Checkpoints of Flax (flax.serialization): a tree of dictionaries with arrays, in msgpack.

Only the tree is read at first. An array is read when you need it. The format is described at
https://github.com/msgpack/msgpack/blob/master/spec.md; Flax adds a kind of extension for arrays.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), strict=True))
LENGTHS = {
    **dict.fromkeys((0xC4, 0xC7, 0xD9), ">B"),
    **dict.fromkeys((0xC5, 0xC8, 0xDA, 0xDC, 0xDE), ">H"),
    **dict.fromkeys((0xC6, 0xC9, 0xDB, 0xDD, 0xDF), ">I"),
}
"""How the length of a value is stored, by its first byte: of bytes, extensions, texts, lists and dictionaries."""
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
BYTES, EXTENSIONS, TEXTS, LISTS = (0xC4, 0xC5, 0xC6), (0xC7, 0xC8, 0xC9), (0xD9, 0xDA, 0xDB), (0xDC, 0xDD)
ARRAY = 1
"""The extension that is an array: a list of its shape, the name of its type, and its bytes in C order."""
MAX_DEPTH = 64
TYPES = {"float64", "float32", "float16", "bfloat16"}
OPTIMIZERS = ("optimizer/state/", "opt_state/")
"""What an optimizer keeps is as large as the weights and has the same names."""


class Span(NamedTuple):
    """Bytes of the file."""

    start: int
    size: int


class Array(NamedTuple):
    """An array in the file."""

    shape: tuple[int, ...]
    dtype: str
    span: Span

    def read(self, path: Path) -> Tensor:
        """Read the array."""
        with path.open("rb") as file:
            file.seek(self.span.start)
            data = bytearray(file.read(self.span.size))
        flat = torch.frombuffer(data, dtype=getattr(torch, self.dtype)) if data else torch.empty(0)
        return flat.reshape(self.shape)


def looks_like_flax(start: bytes) -> bool:
    """Return whether a file begins with a dictionary whose first key is text."""
    is_short, is_long = 0x81 <= start[0] <= 0x8F, start[0] == 0xDE
    key = start[3 if is_long else 1]
    return (is_short or is_long) and (0xA1 <= key <= 0xBF or key == 0xD9)


def read_arrays(path: Path) -> dict[str, Array]:
    """Find the arrays of floating-point numbers in a checkpoint, except those of its optimizer.

    Args:
        path: The file.

    Returns:
        {keys joined by "/": array}.

    Raises:
        ValueError: The file is damaged.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        tree = reader.value()
        if reader.at != len(data):
            raise ValueError(f"{len(data) - reader.at} bytes follow the tree")
    arrays = dict(_flat(tree, ""))
    return {name: array for name, array in arrays.items() if not name.startswith(OPTIMIZERS) and array.dtype in TYPES}


def _flat(tree: object, prefix: str) -> Iterator[tuple[str, Array]]:
    if isinstance(tree, Array):
        yield prefix.removesuffix("/"), tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}/")


class _Reader:
    """Reads values one after another.

    Args:
        data: The file.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def value(self, depth: int = 0) -> object:
        """Read the next value. Bytes and arrays are only located."""
        if depth > MAX_DEPTH:
            raise ValueError(f"values are nested more than {MAX_DEPTH} deep")
        kind = int(self._unpack(">B"))
        if kind < 0x80 or kind >= 0xE0:  # a small number
            return kind if kind < 0x80 else kind - 0x100
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind in NUMBERS:
            return self._unpack(NUMBERS[kind])
        if 0xD4 <= kind <= 0xD8:
            return self._extension(2 ** (kind - 0xD4), depth)
        if kind < 0x90:
            return self._dictionary(kind & 0x0F, depth)
        if kind < 0xA0:
            return self._list(kind & 0x0F, depth)
        if kind < 0xC0:
            return self._text(kind & 0x1F)
        if kind not in LENGTHS:
            raise ValueError(f"no value begins with the byte {kind}")
        length = int(self._unpack(LENGTHS[kind]))
        if kind in BYTES:
            return self._span(length)
        if kind in EXTENSIONS:
            return self._extension(length, depth)
        if kind in TEXTS:
            return self._text(length)
        return self._list(length, depth) if kind in LISTS else self._dictionary(length, depth)

    def _span(self, size: int) -> Span:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise ValueError("it ends within a value")
        return Span(start, size)

    def _unpack(self, format: str) -> float:
        start, size = self._span(struct.calcsize(format))
        number: float = struct.unpack(format, self.data[start : start + size])[0]
        return number

    def _text(self, length: int) -> str:
        start, size = self._span(length)
        return self.data[start : start + size].decode()

    def _list(self, length: int, depth: int) -> list[object]:
        return [self.value(depth + 1) for _ in range(length)]

    def _dictionary(self, length: int, depth: int) -> dict[object, object]:
        found: dict[object, object] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            found[str(key)] = self.value(depth + 1)
        return found

    def _extension(self, length: int, depth: int) -> object:
        kind, (start, size) = int(self._unpack(">b")), self._span(length)
        if kind != ARRAY:
            return None
        self.at = start
        parts = self.value(depth + 1)
        if self.at != start + size:
            raise ValueError(f"an array of {size} bytes has {self.at - start}")
        if not (isinstance(parts, list) and len(parts) == 3 and isinstance(parts[0], list)):
            raise ValueError("an array has no shape, type and bytes")
        shape, dtype, span = tuple(int(side) for side in parts[0]), str(parts[1]), parts[2]
        if not isinstance(span, Span) or min(shape, default=1) < 0:
            raise ValueError(f"an array has the shape {list(shape)} and no bytes")
        if dtype in TYPES and span.size != prod(shape) * getattr(torch, dtype).itemsize:
            raise ValueError(f"an array {list(shape)} of {dtype} has {span.size} bytes")
        return Array(shape, dtype, span)
