from __future__ import annotations

import pytest
import torch

from cover.core.batch import ClipBatch, MixedBatch
from cover.errors import RecipeError
from cover.training.device import Prefetcher, fewest
from cover.training.packed_batch import PackedBatch


def mixed_batch(step: int, px: int = 4) -> MixedBatch:
    """Two clips of random pixels whose labels tell the step."""
    frames = torch.randint(256, (2, 2, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(step))
    clips = ClipBatch("clips", frames, torch.tensor([step, step]), ("a", "b"), torch.tensor([1, 2]))
    return MixedBatch({"clips": clips}, {"clips": 2.0}, step)


def prefetcher(name: str) -> Prefetcher:
    device = torch.device(name)
    return Prefetcher(device, lambda batch: PackedBatch.of(batch, {"clips": 1.0}, device))


def test_a_batch_arrives_as_it_was_sent() -> None:
    sent = mixed_batch(3)
    arrived = prefetcher("cpu")(sent)
    assert arrived.sample_ids == ("a", "b") and arrived.labels.tolist() == [3, 3]
    assert arrived.inputs.equal(sent["clips"].frames.flatten(0, 1))


@pytest.mark.needs_cuda
def test_copies_do_not_wait_for_what_is_computed() -> None:
    upload, computing = prefetcher("cuda"), torch.cuda.current_stream()
    torch.cuda._sleep(2_000_000_000)  # cycles, about a second
    asleep = computing.record_event()
    upload(mixed_batch(0).pin_memory())
    assert upload.stream is not None
    upload.stream.synchronize()
    assert not asleep.query()


@pytest.mark.needs_cuda
def test_what_is_computed_waits_for_its_copy() -> None:
    upload, sums = prefetcher("cuda"), []
    batches = [mixed_batch(step, px=512) for step in range(40)]
    for batch in batches:
        uploaded = upload(batch.pin_memory())
        torch.cuda._sleep(1_000_000)
        sums.append(uploaded.inputs.long().sum())
    assert [int(total) for total in sums] == [int(batch["clips"].frames.long().sum()) for batch in batches]


@pytest.mark.parametrize(
    ("needed", "most", "tried"),
    [(1, 16, [1]), (2, 16, [1, 2]), (5, 16, [1, 2, 4, 8]), (6, 6, [1, 2, 4, 6]), (1, 1, [1])],
)
def test_the_fewest_micro_batches_that_fit_are_sought_by_doubling(needed: int, most: int, tried: list[int]) -> None:
    asked: list[int] = []

    def fits(number: int) -> bool:
        asked.append(number)
        return number >= needed

    assert fewest(fits, most) == tried[-1]
    assert asked == tried


def test_a_clip_too_large_for_the_memory_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"not even one clip at a time fits .*; set training\.activation_checkpointing"
    ):
        fewest(lambda _: False, most=6)
