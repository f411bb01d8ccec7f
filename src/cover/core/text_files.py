"""Read text and JSON files from untrusted places: a pipe, an endless or a hostile file is an error at once."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_BYTES = 2**26
"""The largest text file that is read by default, 64 MiB. The class names of ImageNet-21k take 1 MiB."""

_CHUNK_BYTES = 2**20
"""Bytes read at a time. If asked for `max_bytes` at once, Python would allocate that much for the smallest file."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def read_text(path: Path, *, max_bytes: int = MAX_BYTES, errors: str = "strict") -> str:
    """Read a regular UTF-8 text file, without its byte order mark.

    Args:
        path: The file.
        max_bytes: The largest size that is accepted.
        errors: How to treat bytes that are not UTF-8, as in `bytes.decode`. "surrogateescape" keeps them as Python does
            in file names.

    Returns:
        The text.

    Raises:
        OSError: The file does not exist or cannot be opened.
        ValueError: It is a folder, pipe, socket or device, it is larger than `max_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path, max_bytes=max_bytes)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is UTF-16 text; save it as UTF-8")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text; save it as UTF-8") from None


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        max_bytes: The largest size that is accepted.

    Returns:
        What `json.loads` returns.

    Raises:
        OSError: As in `read_text`.
        ValueError: As in `read_text`, or the text is not JSON.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file.

    Args:
        path: The file.
        max_bytes: The largest size that is accepted.

    Returns:
        The content.

    Raises:
        OSError: The file does not exist or cannot be opened.
        ValueError: It is a folder, pipe, socket or device, or it is larger than `max_bytes`.
    """
    content = bytearray()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            content += chunk
            if len(content) > max_bytes:
                raise ValueError(f"it is larger than {max_bytes:,} bytes")
    return bytes(content)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Anything that could block or never end is refused.

    Returns:
        The open file.

    Raises:
        OSError: The file does not exist or cannot be opened.
        ValueError: It is a folder, pipe, socket or device.
    """
    kind = stat.S_IFMT(path.stat().st_mode)  # checked first, because opening some devices has effects
    if kind in _KINDS:
        raise ValueError(f"it is {_KINDS[kind]}, not a file")
    # O_NONBLOCK: if a pipe has replaced the file in the meantime, opening it must not block either.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
