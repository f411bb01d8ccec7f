"""Files and folders that appear whole or not at all, and one line for whatever keeps them from being written."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from safetensors import SafetensorError

from cover.core.progress import Terminal
from cover.errors import CoverError, system_reason

ELSEWHERE = "name another place"
"""What a user can do about a file that cannot be written, besides making room."""


@contextmanager
def writing(path: Path, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Raise CoverError, naming `path`, where the block cannot write: a full disk, no permission, a name too long.

    Errors of connections and of other files pass through: the block may print, and read what it writes.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except (OSError, SafetensorError) as error:
        if _is_of_another_file(error, path):
            raise
        raise CoverError(f"{path} cannot be written ({system_reason(error)}); {remedy}") from error


def _is_of_another_file(error: OSError | SafetensorError, path: Path) -> bool:
    """Whether an error names a file that is neither `path`, nor above or below it, nor the unfinished one beside it."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | Path):
        return False
    named, place = Path(os.path.realpath(error.filename)), Path(os.path.realpath(path))
    is_unfinished = named.parent == place.parent and named.name.startswith(_unfinished(place, "").name)
    return not (is_unfinished or named.is_relative_to(place) or place.is_relative_to(named))


def _unfinished(place: Path, suffix: str) -> Path:
    """What is beside `place` until it is whole. The system allows its name, however long that of `place` is."""
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()
    return place.with_name(f".{place.name[:40]}.{digest[:12]}.{suffix}")


@contextmanager
def whole_file(path: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """A path beside `path` to write to, which becomes `path` when the block ends well, and is deleted if not.

    Folders above it are made. A link stays, and the file it leads to is replaced.

    Raises:
        CoverError: The file cannot be written.
    """
    with writing(path, remedy):
        place = Path(os.path.realpath(path))
        if place.exists() and not place.is_file():
            raise OSError(f"it is {'a folder' if place.is_dir() else 'a device or a pipe'}")
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _unfinished(place, secrets.token_hex(4))
        try:
            unfinished.touch()
            yield unfinished
            unfinished.replace(place)
        finally:
            unfinished.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text. Raises CoverError as `whole_file` does."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str, remedy: str = ELSEWHERE) -> None:
    """Add a line to a file, all of it or nothing; make the file and the folders above it where there are none.

    Raises:
        CoverError: The file cannot be written.
    """
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            add_line(file, line)


def add_line(file: FileIO, line: str) -> None:
    """Add a line to an open file that is not buffered, all of it or nothing. Raises OSError."""
    content = f"{line}\n".encode()
    written = file.write(content)
    if written < len(content):
        file.truncate(os.fstat(file.fileno()).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def whole_folder(folder: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """A folder beside `folder` to fill, which becomes `folder` when the block ends well, and is deleted if not.

    What a killed process has left there is deleted, so no two processes may fill it at once.

    Raises:
        CoverError: The folder cannot be written.
    """
    with writing(folder, remedy):
        place = Path(os.path.realpath(folder))
        unfinished = _unfinished(place, "part")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            yield unfinished
            unfinished.replace(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def fill_once(folder: Path, fill: Callable[[Path], None], *, waiting_for: str, remedy: str = ELSEWHERE) -> None:
    """Have `fill` fill a folder, unless that has been done; of several processes one does it, and the others wait.

    waiting_for: what those who wait say on the error stream.

    Raises:
        CoverError: The folder cannot be written.
    """
    if folder.is_dir():
        return
    with locked(folder.with_name(f"{folder.name}.lock"), waiting_for, remedy):
        if not folder.is_dir():
            with whole_folder(folder, remedy) as unfinished:
                fill(unfinished)


@contextmanager
def locked(path: Path, waiting_for: str, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Hold the lock of a file, which the system releases with the process. The file stays.

    Raises:
        CoverError: The file cannot be written.
    """
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Terminal(stderr=True).print(f"waiting for {waiting_for}", soft_wrap=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing it is not enough while a forked process has it open, too
