"""Pass batches from the processes that decode to the main process, in memory that no container limits.

By default, torch passes tensors in /dev/shm, which Docker limits to 64 MB. A batch that does not fit is lost in a
thread of the worker, and the main process waits for it forever. Here, tensors travel in anonymous files (memfd), which
only the machine's memory limits.
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
"""The attribute of a tensor that holds its file."""


def empty_frames(*shape: int) -> Tensor:
    """Return a uint8 tensor to write frames to. In a decoding process, it reaches the main process without a copy."""
    num_bytes = math.prod(shape)
    if not num_bytes or not get_worker_info():
        return torch.empty(shape, dtype=torch.uint8)
    file = memory_file()
    file.truncate(num_bytes)
    frames = torch.frombuffer(mmap.mmap(file.fileno(), num_bytes), dtype=torch.uint8).reshape(shape)
    setattr(frames, _FILE, file)
    return frames


def memory_file() -> BinaryIO:
    """Return a file in memory that is not in /dev/shm, which is small in containers.

    On systems without memfd, it is a temporary file.
    """
    return open(os.memfd_create("frames"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


class SharedBatch:
    """A batch on its way to the main process: it is pickled, and the files with its tensors follow through a socket.

    The batches of a worker must be opened in the order in which they were made.

    Args:
        batch: The batch.
        theirs: The main process's end of the worker's socket.
        ours: The worker's end.
    """

    def __init__(self, batch: Any, theirs: socket.socket, ours: socket.socket) -> None:
        content = BytesIO()
        pickler = _Pickler(content)
        pickler.dump(batch)
        self._content, self._num_files, self._channel = content.getvalue(), len(pickler.files), theirs.fileno()
        if pickler.files:
            socket.send_fds(ours, [b"."], [file.fileno() for file in pickler.files])

    def open(self) -> Any:
        """Return the batch, in the main process.

        Raises:
            OSError: This process has too many files open.
        """
        files: list[int] = []
        if self._num_files:
            channel = socket.socket(fileno=self._channel)
            _, files, *_ = socket.recv_fds(channel, 1, self._num_files)
            channel.detach()
        try:
            if len(files) < self._num_files:  # the system drops files if the process has too many open
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return _Unpickler(BytesIO(self._content), [mmap.mmap(file, 0) for file in files]).load()
        finally:
            for file in files:
                os.close(file)

    def pin_memory(self) -> Any:
        """Return the batch in page-locked memory; torch's DataLoader calls this."""
        return self.open().pin_memory()


_Place = tuple[int, int, torch.dtype, torch.Size]
"""Where the numbers of a tensor are: which file, from which byte, their type and shape."""


class _Pickler(pickle.Pickler):
    """Writes tensors to files.

    The tensors of `empty_frames` already are in files of their own; all others go into one file together.
    """

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
