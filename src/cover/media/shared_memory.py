"""A batch on its way out of the process that decoded it, in memory that no container limits.

torch by itself hands tensors over in /dev/shm, of which Docker gives a container 64 MB. A batch that finds no room
there is lost in a thread of the worker, and the main process waits for it forever. So tensors travel in nameless files
(memfd), which only the machine's memory limits.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import pickle
import socket
import tempfile
from io import BytesIO
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_ALIGNMENT = 64
_FILE = "_memory_file"
"""Attribute of a tensor that lies in a file."""


def empty_frames(*shape: int) -> Tensor:
    """A uint8 tensor to write frames to: in a decoding process, it reaches the main process without a copy."""
    num_bytes = math.prod(shape)
    if not num_bytes or not get_worker_info():
        return torch.empty(shape, dtype=torch.uint8)
    file = memory_file()
    file.truncate(num_bytes)
    frames = torch.frombuffer(mmap.mmap(file.fileno(), num_bytes), dtype=torch.uint8).reshape(shape)
    setattr(frames, _FILE, file)
    return frames


def memory_file() -> BinaryIO:
    """A file that needs neither a disk nor /dev/shm, which is small in containers; where there is none, a temporary
    one."""
    return open(os.memfd_create("frames"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


class SharedBatch:
    """A batch on its way: pickled, while the files with its tensors follow through a socket.

    theirs, ours: ends of the worker's socket, in the main process and in this one; parcels of a worker are opened in
    the order in which they were made.
    """

    def __init__(self, batch: Any, theirs: socket.socket, ours: socket.socket) -> None:
        content = BytesIO()
        pickler = _Pickler(content)
        pickler.dump(batch)
        self._content, self._num_files, self._channel = content.getvalue(), len(pickler.files), theirs.fileno()
        if pickler.files:
            socket.send_fds(ours, [b"."], [file.fileno() for file in pickler.files])

    def open(self) -> Any:
        """The batch, in the main process."""
        files: list[int] = []
        if self._num_files:
            channel = socket.socket(fileno=self._channel)
            _, files, *_ = socket.recv_fds(channel, 1, self._num_files)
            channel.detach()
        try:
            if len(files) < self._num_files:  # the system drops those that there is no number left for
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return _Unpickler(BytesIO(self._content), [mmap.mmap(file, 0) for file in files]).load()
        finally:
            for file in files:
                os.close(file)

    def pin_memory(self) -> Any:
        """The batch in page-locked memory; torch's DataLoader calls this."""
        return self.open().pin_memory()


_Place = tuple[int, int, torch.dtype, torch.Size]
"""Where the numbers of a tensor lie: in which file, from which byte on."""


class _Pickler(pickle.Pickler):
    """Writes tensors into files: those of `empty_frames` are in one already, and others are put into one together."""

    def __init__(self, content: BytesIO) -> None:
        super().__init__(content, pickle.HIGHEST_PROTOCOL)
        self.files: list[BinaryIO] = []
        self._together: int | None = None

    def persistent_id(self, value: Any) -> _Place | None:
        if not isinstance(value, Tensor) or not value.numel():
            return None
        if file := getattr(value, _FILE, None):
            self.files.append(file)
            return len(self.files) - 1, 0, value.dtype, value.shape
        if self._together is None:
            self._together = len(self.files)
            self.files.append(memory_file())
        file = self.files[self._together]
        offset = file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
        file.write(value.contiguous().numpy().data)
        file.flush()
        return self._together, offset, value.dtype, value.shape


class _Unpickler(pickle.Unpickler):
    """Maps the tensors that a _Pickler has written."""

    def __init__(self, content: BytesIO, memory: list[mmap.mmap]) -> None:
        super().__init__(content)
        self._memory = memory

    def persistent_load(self, place: _Place) -> Tensor:
        number, offset, dtype, shape = place
        return torch.frombuffer(self._memory[number], dtype=dtype, count=shape.numel(), offset=offset).reshape(shape)
