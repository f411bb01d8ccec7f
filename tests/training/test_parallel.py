"""What is put around a model on one process; tests/runs/test_parallel.py has several."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from cover.core.batch import ClipBatch, MixedBatch
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.training.loss import loss
from cover.training.parallel import compile_blocks, recompute_blocks

HEADS = {"k400": 5, "imagenet": 4}
DEPTH = 4


def model() -> VideoClassifier:
    torch.manual_seed(0)
    return create_model(
        "timesformer_tiny", depth=DEPTH, width=24, num_heads=2, num_frames=2, image_size=32, heads=HEADS,
        drop_path_rate=0.3, temporal_init="random",
    ).train()  # fmt: skip


def batch(num_videos: int, num_images: int) -> MixedBatch:
    torch.manual_seed(num_videos)
    clips = {
        name: ClipBatch(
            name,
            torch.randint(256, (num_frames, num_clips, 3, 32, 32), dtype=torch.uint8),
            torch.randint(4, (num_clips,)),
            ("",) * num_clips,
            torch.arange(num_clips),
        )
        for name, num_frames, num_clips in (("k400", 2, num_videos), ("imagenet", 1, num_images))
        if num_clips
    }
    return MixedBatch(clips, {"k400": 3.0, "imagenet": 3.0}, step=0)


def gradients(learning: VideoClassifier, mixed: MixedBatch) -> dict[str, Tensor]:
    learning.zero_grad()
    loss(learning(mixed), mixed).backward()
    return {
        name: parameter.grad.clone() for name, parameter in learning.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(("every", "recomputed"), [(1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2])])
def test_recomputed_blocks_give_the_same_gradients_to_the_bit(every: int, recomputed: list[int]) -> None:
    """drop_path on. Each recomputed block runs twice a step, the others once."""
    plain, changed = model(), model()
    runs = [0] * DEPTH
    for number, block in enumerate(changed.backbone.units()):
        block.get_submodule("mlp").register_forward_pre_hook(
            lambda *_, number=number: runs.__setitem__(number, runs[number] + 1)
        )
    recompute_blocks(changed, every)
    expected, found = gradients(plain, batch(3, 2)), gradients(changed, batch(3, 2))
    assert runs == [2 if number in recomputed else 1 for number in range(DEPTH)]
    assert expected.keys() == found.keys() == dict(plain.named_parameters()).keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_compiled_blocks_compute_the_same_for_changing_numbers_of_clips(recompute: bool) -> None:
    plain, compiled = model(), model()
    if recompute:
        recompute_blocks(compiled, 1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compile_blocks(compiled)
    shapes = [(3, 2), (2, 3), (3, 2), (0, 2)]
    for num_videos, num_images in shapes:
        mixed = batch(num_videos, num_images)
        expected, found = gradients(plain, mixed), gradients(compiled, mixed)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=partial("{}: {}".format, name))
    stats = torch._dynamo.utils.counters["stats"]
    # Nothing fell back to eager, and all blocks between the first and the last, which differ, share what was compiled.
    assert stats["unique_graphs"] == 3 * len(set(shapes))
