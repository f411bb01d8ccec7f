"""Clips of many requests in one forward pass.

    threads of requests ── frames [T,B,C,Y,X] ──▶ queue ──▶ one thread: all that wait, a pass for each T ──▶ logits

Nothing waits for company: while a pass runs, the next batch gathers.
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
    """frames: uint8 [T,B,C,Y,X]. logits: {head: [B,classes]}."""

    frames: Tensor
    logits: Future[dict[str, Tensor]]


class Batcher:
    """A PredictHeads for any number of threads, in front of a model that one thread calls.

    max_clips: a batch takes no more requests once it has so many clips.
    on_batch: is told of the clips of each forward pass.
    model_lock: is held during each; who else uses the model holds it, too.
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
        """Logits {head: [B,classes]} of uint8 clips [T,B,C,Y,X], waited for."""
        request = _Request(frames, Future())
        self._requests.put(request)
        return request.logits.result()

    @property
    def num_waiting(self) -> int:
        """Requests that no pass has taken yet, about."""
        return self._requests.qsize()

    def close(self) -> None:
        """End the thread, after all that wait."""
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
