"""Explanations of clips whose answer is known: which patch of which frame decides, or attention set by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.timesformers import backbone_of
from torch import Tensor

from cover.models.classifier import VideoClassifier, class_score
from cover.models.create import create_model
from cover.models.timesformer.attribution import roll_out
from cover.models.timesformer.config import Attention
from cover.models.timesformer.plain_forward import BlockAttention, plain_forward

NUM_FRAMES, SIDE, PATCH_PX = 3, 2, 4
NUM_PATCHES = SIDE**2
COLORS = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])
NOTHING = len(COLORS)


def with_square(frames_TCYX: Tensor, color: int, place: int) -> Tensor:
    """The clip with one patch of one frame in a bright colour; places count the patches of all frames."""
    frame, patch = divmod(place, NUM_PATCHES)
    top, left = (PATCH_PX * index for index in divmod(patch, SIDE))
    frames_TCYX = frames_TCYX.clone()
    frames_TCYX[frame, :, top : top + PATCH_PX, left : left + PATCH_PX] = COLORS[color, :, None, None]
    return frames_TCYX


def dark_clips(num_clips: int) -> Tensor:
    return 0.2 * torch.randn(NUM_FRAMES, num_clips, 3, SIDE * PATCH_PX, SIDE * PATCH_PX) - 0.5


@pytest.fixture(scope="module")
def model() -> VideoClassifier:
    """Knows the colour of the one bright square in a clip, wherever and whenever it is, and when there is none."""
    torch.manual_seed(0)
    model = create_model(
        "timesformer_tiny",
        depth=2,
        width=32,
        num_heads=2,
        patch_size=PATCH_PX,
        image_size=SIDE * PATCH_PX,
        num_frames=NUM_FRAMES,
        heads={"colors": ["red", "green", "blue", "nothing"]},
        temporal_init="random",
    )
    with torch.no_grad():  # so small a model learns slowly from the usual start
        backbone = backbone_of(model)
        for parameter in [
            backbone.patch_embed.proj.weight,
            *(p for p in backbone.blocks.parameters() if p.ndim == 2),
        ]:
            parameter.mul_(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        labels = torch.randint(NOTHING + 1, (32,))
        places = torch.randint(NUM_FRAMES * NUM_PATCHES, (32,))
        frames = dark_clips(32)
        for clip, (label, place) in enumerate(zip(labels.tolist(), places.tolist(), strict=True)):
            if label != NOTHING:
                frames[:, clip] = with_square(frames[:, clip], label, place)
        optimizer.zero_grad()
        F.cross_entropy(model({"colors": frames})["colors"], labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def test_relevance_peaks_at_the_patch_and_frame_that_decide(model: VideoClassifier) -> None:
    torch.manual_seed(1)
    for place in range(NUM_FRAMES * NUM_PATCHES):
        for color in range(len(COLORS)):
            clip = with_square(dark_clips(1)[:, 0], color, place)
            assert model.predict(clip[:, None])["colors"].argmax() == color
            relevance = model.attribute(clip, "colors", color).relevance
            assert relevance.flatten().argmax() == place
            assert relevance.flatten()[place] > 0.5
            assert relevance.sum() == pytest.approx(1)


def test_of_two_squares_each_explains_its_own_class(model: VideoClassifier) -> None:
    torch.manual_seed(2)
    for place in range(NUM_FRAMES * NUM_PATCHES):
        other_place = (place + 5) % (NUM_FRAMES * NUM_PATCHES)
        clip = with_square(with_square(dark_clips(1)[:, 0], 0, place), 1, other_place)
        for color, expected in ((0, place), (1, other_place)):
            assert model.attribute(clip, "colors", color).relevance.flatten().argmax() == expected


def test_the_score_is_as_steep_as_the_log_odds() -> None:
    logits = torch.randn(5, requires_grad=True)
    probability = logits.softmax(0)[3]
    (expected,) = torch.autograd.grad(torch.log(probability / (1 - probability)), logits)
    (gradient,) = torch.autograd.grad(class_score(logits, 3), logits)
    torch.testing.assert_close(gradient, expected)
    assert class_score(torch.tensor([2.0]), 0) == 2  # a head of one class


def test_rollout_of_one_block_worked_out_by_hand() -> None:
    """Two frames of one patch. The class token looks at the patch by 0.8 in frame 0 and 0.4 in frame 1; its residual is
    their mean, so 0.4 and 0.2 of it, halved by the residual connection. Frame 0's patch has 0.3 from frame 1."""
    spatial = torch.tensor([[[0.2, 0.8], [0.0, 1.0]], [[0.6, 0.4], [0.0, 1.0]]])[:, None]
    temporal = torch.tensor([[[0.7, 0.3], [0.0, 1.0]]])[:, None]
    weights = roll_out((BlockAttention(None, spatial),), one_class_token=True)
    torch.testing.assert_close(weights, torch.tensor([[0.2], [0.1]]))
    weights = roll_out((BlockAttention(temporal, spatial),), one_class_token=True)
    torch.testing.assert_close(weights, torch.tensor([[0.2 * 0.85], [0.1 + 0.2 * 0.15]]))


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_rollout_is_the_class_row_of_the_product_of_whole_matrices(attention: Attention) -> None:
    blocks = attentions_of(attention)
    whole = torch.eye(1 + 3 * 4)
    for block in blocks:
        for step in whole_steps(block, attention):
            torch.testing.assert_close(step.sum(1), torch.ones(1 + 3 * 4))
            whole = step @ whole
    weights = roll_out(blocks, one_class_token=attention == "divided")
    torch.testing.assert_close(weights.flatten(), whole[0, 1:])


def test_rollout_without_time_is_the_mean_of_the_frames_own() -> None:
    blocks = attentions_of("space_only")
    frames = [tuple(BlockAttention(None, b.spatial[t : t + 1]) for b in blocks) for t in range(3)]
    expected = torch.cat([roll_out(frame, one_class_token=False) / 3 for frame in frames])
    torch.testing.assert_close(roll_out(blocks, one_class_token=False), expected)


def attentions_of(attention: Attention) -> tuple[BlockAttention, ...]:
    """Those of 3 blocks for a clip of 3 frames of 4 patches."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 48, "num_heads": 3, "depth": 3, "num_frames": 3, "image_size": 32}
    model = create_model("timesformer_tiny", **sizes, attention=attention, heads={})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return plain_forward(backbone_of(model), torch.randn(3, 3, 32, 32)).blocks


def whole_steps(block: BlockAttention, attention: str) -> list[Tensor]:
    """The steps of a block on one class token and the 3 · 4 patches, as matrices [13, 13]."""
    if attention == "joint":
        return [(torch.eye(13) + block.spatial[0].mean(0)) / 2]
    patches = torch.arange(1, 13).view(3, 4)
    steps = []
    if block.temporal is not None:
        temporal = torch.eye(13)
        for patch in range(4):
            places = patches[:, patch]
            temporal[places[:, None], places] = (torch.eye(3) + block.temporal[patch].mean(0)) / 2
        steps.append(temporal)
    spatial = torch.zeros(13, 13)
    for frame in range(3):
        places, probabilities = torch.cat([torch.tensor([0]), patches[frame]]), block.spatial[frame].mean(0)
        spatial[places[1:, None], places] = probabilities[1:]
        spatial[0, places] += probabilities[0] / 3
    return [*steps, (torch.eye(13) + spatial) / 2]


def test_an_image_is_explained_too(model: VideoClassifier) -> None:
    relevance, rollout = model.attribute(dark_clips(1)[:1, 0], "colors", NOTHING)
    assert relevance.shape == rollout.shape == (1, SIDE, SIDE)
    assert rollout.sum() == pytest.approx(1)
