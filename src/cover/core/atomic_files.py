"""Files and folders that appear complete or not at all, and one error for everything that prevents writing them."""

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
"""The default remedy for a file that cannot be written."""


@contextmanager
def writing(path: Path, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Turn errors while writing into a CoverError that names `path`.

    These are a full disk, missing permission, a name that is too long, and so on. Errors of connections and of other
    files pass through unchanged, because the block may also print and read.

    Args:
        path: The file or folder that the block writes.
        remedy: What the user can do, for the message.

    Raises:
        CoverError: The block cannot write.
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
    """Whether an error names a file that is neither `path`, nor above or below it, nor its unfinished version."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | Path):
        return False
    named, place = Path(os.path.realpath(error.filename)), Path(os.path.realpath(path))
    is_unfinished = named.parent == place.parent and named.name.startswith(_unfinished(place, "").name)
    return not (is_unfinished or named.is_relative_to(place) or place.is_relative_to(named))


def _unfinished(place: Path, suffix: str) -> Path:
    """Return the temporary path beside `place`. Its name is short enough for every file system."""
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()
    return place.with_name(f".{place.name[:40]}.{digest[:12]}.{suffix}")


@contextmanager
def whole_file(path: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block succeeds and is deleted when it fails.

    Folders above the file are created. A symbolic link stays, and the file that it points to is replaced.

    Args:
        path: The file to write.
        remedy: What the user can do if it cannot be written, for the message.

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
    """Write a text file atomically.

    Raises:
        CoverError: The file cannot be written.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str, remedy: str = ELSEWHERE) -> None:
    """Append a line to a file, completely or not at all. The file and the folders above it are created if needed.

    Raises:
        CoverError: The file cannot be written.
    """
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            add_line(file, line)


def add_line(file: FileIO, line: str) -> None:
    """Append a line to an open, unbuffered file, completely or not at all.

    Raises:
        OSError: The line cannot be written.
    """
    content = f"{line}\n".encode()
    written = file.write(content)
    if written < len(content):
        file.truncate(os.fstat(file.fileno()).st_size - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def whole_folder(folder: Path, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a temporary folder to fill, which becomes `folder` when the block succeeds and is deleted when it fails.

    Leftovers of a killed process are deleted first, so two processes must not fill the same folder at once.

    Args:
        folder: The folder to create.
        remedy: What the user can do if it cannot be written, for the message.

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
    """Call `fill` to fill a folder, unless the folder exists.

    If several processes call this, one fills the folder and the others wait.

    Args:
        folder: The folder to create.
        fill: Takes the path of a temporary folder and writes files into it.
        waiting_for: What a waiting process says it waits for, on the error stream.
        remedy: What the user can do if the folder cannot be written, for the message.

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
    """Hold the lock of a file. The system releases it if the process ends. The file stays.

    Args:
        path: The lock file.
        waiting_for: What the process says it waits for, on the error stream, while another one holds the lock.
        remedy: What the user can do if the file cannot be written, for the message.

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
            fcntl.flock(file, fcntl.LOCK_UN)  # closing the file is not enough while a forked process has it open, too
