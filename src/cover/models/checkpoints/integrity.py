"""Digests of a checkpoint's files, which reveal a damaged or exchanged file before anything is read from it.

state.json has the values that training stores in it, the size and digest of every other file, and its own digest:

    {"step": 1200, …, "files": {"model.safetensors": {"num_bytes": 1718907824, "digest": "9f2c…"}, …}, "digest": "5…"}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cover.core.run_files import STATE_FILE, STEP
from cover.core.text_files import read_json

CHUNK_BYTES = 2**24
"""Several threads hash a file in chunks of 16 MiB: 1.7 GB take about half a second on two cores."""


def file_digest(path: Path) -> str:
    """Return the digest of a file: the SHA-256 of the SHA-256 digests of its chunks of CHUNK_BYTES, in hex digits.

    Raises:
        OSError: The file cannot be read.
    """

    def digest(start: int) -> bytes:
        return hashlib.sha256(os.pread(descriptor, CHUNK_BYTES, start)).digest()

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: do not wait for a pipe in its place
    try:
        starts = range(0, os.fstat(descriptor).st_size, CHUNK_BYTES)
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            return hashlib.sha256(b"".join(threads.map(digest, starts))).hexdigest()
    finally:
        os.close(descriptor)


def write_state(folder: Path, values: dict[str, Any]) -> None:
    """Write FOLDER/state.json, with the digests of all other files in the folder.

    Args:
        folder: A checkpoint that is otherwise complete.
        values: What training stores in state.json.
    """
    files = {
        file.name: {"num_bytes": file.stat().st_size, "digest": file_digest(file)} for file in sorted(folder.iterdir())
    }
    values = values | {"files": files}
    (folder / STATE_FILE).write_text(json.dumps(values | {"digest": _digest_of(values)}, indent=2) + "\n")


def read_state(folder: Path) -> dict[str, Any]:
    """Read FOLDER/state.json.

    Returns:
        The values that `write_state` was given, and the digests under "files".

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not as it was written, or belongs to another step.
    """
    values = read_json(folder / STATE_FILE)
    if not isinstance(values, dict):
        raise ValueError(f"{STATE_FILE} is not a JSON object")
    digest = values.pop("digest", None)
    if (digest or "files" in values) and digest != _digest_of(values):
        raise ValueError(f"{STATE_FILE} has changed since it was written")
    if folder.name.startswith(STEP) and folder.name != f"{STEP}{values.get('step')}":
        raise ValueError(f"{STATE_FILE} belongs to step {values.get('step')}")
    return values


def damage(folder: Path, names: Collection[str] | None = None) -> str | None:
    """Find damage in the files of a checkpoint.

    Checkpoints of older versions state only sizes, so only sizes are compared. A folder without state.json is damaged.

    Args:
        folder: The checkpoint.
        names: The files to check, all by default.

    Returns:
        The first damage, or None if the files are as they were written.
    """
    try:
        values = read_state(folder)
        files = values.get("files") or {name: {"num_bytes": size} for name, size in values["sizes_bytes"].items()}
        for name, stated in files.items():
            if names is not None and name not in names:
                continue
            path = folder / Path(name).name
            if (num_bytes := path.stat().st_size) != stated["num_bytes"]:
                return f"{name} has {num_bytes:,} of {stated['num_bytes']:,} bytes"
            if "digest" in stated and file_digest(path) != stated["digest"]:
                return f"{name} has changed since it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return None


def _digest_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
