"""Clips of many requests in one forward pass.

    threads of requests ── frames [T,B,C,Y,X] ──▶ queue ──▶ one thread: all that wait, a pass for each T ──▶ logits

No clip waits for others to come: while a pass runs, the next batch gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, Queue
from threading import Lock, Thread
from typing import NamedTuple

import torch
from torch import Tensor

from cover.inference.prediction import PredictHeads


class _Request(NamedTuple):
    """Frames uint8 [T,B,C,Y,X], and their future logits {head: [B,classes]}."""

    frames: Tensor
    logits: Future[dict[str, Tensor]]


class Batcher:
    """A PredictHeads for any number of threads, in front of a model that one thread calls.

    Args:
        predict_heads: The model.
        max_clips: A batch with this many clips takes no more requests.
        on_batch: Called with the number of clips of each forward pass.

    Attributes:
        model_lock: Held during each forward pass; other users of the model must hold it too.
    """

    def __init__(self, predict_heads: PredictHeads, max_clips: int, on_batch: Callable[[int], None]) -> None:
        self._predict_heads = predict_heads
        self._max_clips = max_clips
        self._on_batch = on_batch
        self._requests = Queue[_Request | None]()
        self.model_lock = Lock()
        self._thread = Thread(target=self._work, name="model")
        self._thread.start()

    def __call__(self, frames: Tensor) -> dict[str, Tensor]:
        """Compute the logits {head: [B,classes]} of uint8 clips [T,B,C,Y,X]; waits for them."""
        request = _Request(frames, Future())
        self._requests.put(request)
        return request.logits.result()

    @property
    def num_waiting(self) -> int:
        """About how many requests wait for a pass."""
        return self._requests.qsize()

    def close(self) -> None:
        """End the thread, after all requests that wait."""
        self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._requests.get()) is not None:
            by_length: dict[int, list[_Request]] = {}
            for request in self._waiting(first):
                by_length.setdefault(len(request.frames), []).append(request)
            for requests in by_length.values():
                self._answer(requests)

    def _waiting(self, first: _Request) -> Iterator[_Request]:
        yield first
        num_clips = first.frames.shape[1]
        while num_clips < self._max_clips:
            try:
                request = self._requests.get_nowait()
            except Empty:
                return
            if request is None:
                self._requests.put(None)
                return
            num_clips += request.frames.shape[1]
            yield request

    def _answer(self, requests: list[_Request]) -> None:
        sizes = [request.frames.shape[1] for request in requests]
        try:
            with self.model_lock:
                logits = self._predict_heads(torch.cat([request.frames for request in requests], dim=1))
        except Exception as error:
            for request in requests:
                request.logits.set_exception(error)
            return
        self._on_batch(sum(sizes))
        parts = {head: values.split(sizes) for head, values in logits.items()}
        for index, request in enumerate(requests):
            request.logits.set_result({head: values[index] for head, values in parts.items()})
