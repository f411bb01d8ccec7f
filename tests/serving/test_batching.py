"""Clips that wait share a forward pass, and each request gets its own logits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import Tensor

from cover.serving.batching import Batcher


def test_waiting_clips_of_a_length_share_a_pass() -> None:
    go_on, begun, sizes = Event(), Event(), list[int]()

    def mean(frames_TBCYX: Tensor) -> dict[str, Tensor]:
        begun.set()
        assert go_on.wait(10)
        return {"a": frames_TBCYX.float().mean((0, 2, 3, 4))[:, None]}

    batcher = Batcher(mean, max_clips=16, on_batch=sizes.append)
    clips = [torch.full((1 if number == 3 else 4, 2, 3, 8, 8), number, dtype=torch.uint8) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(batcher, clips[0])
        assert begun.wait(10)
        others = [pool.submit(batcher, clip) for clip in clips[1:]]
        while batcher.num_waiting < 5:
            pass
        go_on.set()
        means = [float(answer.result()["a"].mean()) for answer in [first, *others]]
    batcher.close()
    assert means == [0, 1, 2, 3, 4, 5]
    assert sorted(sizes) == [2, 2, 8]  # the first alone; then the image, and four clips of one length


def test_a_fault_of_the_model_reaches_those_who_asked() -> None:
    def fail(frames: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    batcher = Batcher(fail, max_clips=4, on_batch=lambda clips: None)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            batcher(torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8))
    batcher.close()
