from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from cover.config.clips import ScaleJitter
from cover.media.augment import (
    CropBox,
    crop,
    erase,
    evaluation_boxes,
    jitter_colors,
    random_box,
    random_resized_box,
)

NumbersOf = Callable[[Any], list[int]]
DrawNumber = Callable[[int, int, int], npt.NDArray[np.uint8]]


def draw_boxes(count: int, flip_probability: float = 0.5, scale_jitter: ScaleJitter = "uniform") -> list[CropBox]:
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"crop_px": 224, "short_side_px": (256, 320), "flip_probability": flip_probability}
    options["scale_jitter"] = scale_jitter
    return [random_box(340, 256, rng=rng, **options) for _ in range(count)]


def test_random_boxes_lie_inside_and_have_the_sizes_of_the_short_side_range() -> None:
    boxes = draw_boxes(2000)
    sides = np.array([box.width for box in boxes])
    assert all(box.width == box.height for box in boxes)
    assert sides.min() == round(224 * 256 / 320) and sides.max() == 224
    assert (256 * 224 / sides).mean() == pytest.approx(288, abs=1.5)  # U(256, 320)
    assert all(box.left >= 0 and box.left + box.width <= 340 for box in boxes)
    assert all(box.top >= 0 and box.top + box.height <= 256 for box in boxes)
    assert np.mean([box.left / (340 - box.width) for box in boxes]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([box.flip for box in boxes]) == pytest.approx(0.5, abs=0.04)


def test_the_inverse_of_the_short_side_can_be_even() -> None:
    """The sides of the boxes in the source, which are in proportion to it, then have their mean in the middle."""
    sides = np.array([box.width for box in draw_boxes(2000, scale_jitter="inverse_uniform")])
    smallest, largest = 224 * 256 / 320, 224
    assert (sides.min(), sides.max()) == (round(smallest), largest)
    assert sides.mean() == pytest.approx((smallest + largest) / 2, abs=1)
    assert np.median(sides) == pytest.approx((smallest + largest) / 2, abs=1.5)
    assert (256 * 224 / sides).mean() == pytest.approx(285.6, abs=1.5)  # ln(320 / 256) / (1 / 256 - 1 / 320)


def test_resized_boxes_lie_inside_and_have_the_areas_and_aspects_asked_for() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_resized_box(340, 256, area=(0.2, 0.6), flip_probability=0.5, rng=rng) for _ in range(2000)]
    areas = np.array([box.width * box.height / (340 * 256) for box in boxes])
    aspects = np.log([box.width / box.height for box in boxes])
    assert areas.min() == pytest.approx(0.2, abs=0.01) and areas.max() == pytest.approx(0.6, abs=0.01)
    assert areas.mean() == pytest.approx(0.4, abs=0.02) and aspects.mean() == pytest.approx(0, abs=0.02)
    assert np.abs(aspects).max() == pytest.approx(np.log(4 / 3), abs=0.02)
    assert all(0 <= box.left <= 340 - box.width and 0 <= box.top <= 256 - box.height for box in boxes)
    assert np.mean([box.flip for box in boxes]) == pytest.approx(0.5, abs=0.04)
    assert random_resized_box(1000, 10, area=(1, 1), flip_probability=0, rng=rng) == CropBox(495, 0, 10, 10)


def a_clip() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(60, 180, (4, 3, 40, 60), dtype=np.uint8))


def test_erasing_fills_one_box_of_all_frames_as_often_as_asked() -> None:
    clip, rng = a_clip(), np.random.default_rng(0)
    shares = []
    for _ in range(300):
        changed = (erase(clip, 0.25, rng) != clip).any(1)
        if changed.any():
            rows, columns = changed.any(0).any(1).nonzero()[:, 0], changed.any(0).any(0).nonzero()[:, 0]
            box = changed[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.float().mean() > 0.97 and int(changed.sum()) == int(box.sum())
            shares.append(box[0].numel() / changed[0].numel())
    assert 50 < len(shares) < 100 and min(shares) > 0.015 and max(shares) < 0.35
    assert erase(clip, 0.0, rng) is clip


def test_color_jitter_changes_all_frames_alike_and_less_the_weaker_it_is() -> None:
    still = a_clip()[:1].repeat(4, 1, 1, 1)
    changes = []
    for strength in (0.1, 0.4, 1.0):
        clips = [jitter_colors(still, strength, np.random.default_rng(seed)) for seed in range(30)]
        assert all(frame.equal(clip[0]) for clip in clips for frame in clip)
        changes.append(np.mean([(clip.float() - still.float()).abs().mean() for clip in clips]))
    assert changes == sorted(changes) and changes[0] > 0
    bright = [jitter_colors(still, 0.4, np.random.default_rng(seed)).float().mean() for seed in range(100)]
    assert np.mean(bright) == pytest.approx(float(still.float().mean()), rel=0.08)


def test_a_picture_of_one_pixel_has_a_box() -> None:
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"crop_px": 112, "short_side_px": (128, 512), "flip_probability": 0.0}
    assert {random_box(1, 1, rng=rng, **options) for _ in range(20)} == {CropBox(0, 0, 1, 1)}


def test_switching_the_flip_off_leaves_the_crops() -> None:
    with_flip, without = draw_boxes(50), draw_boxes(50, flip_probability=0.0)
    assert not any(box.flip for box in without)
    assert [(box.left, box.top, box.width) for box in with_flip] == [(box.left, box.top, box.width) for box in without]


def test_evaluation_boxes_span_the_longer_side() -> None:
    assert evaluation_boxes(340, 256) == [CropBox(0, 0, 256, 256), CropBox(42, 0, 256, 256), CropBox(84, 0, 256, 256)]
    assert evaluation_boxes(100, 300) == [CropBox(0, 0, 100, 100), CropBox(0, 100, 100, 100), CropBox(0, 200, 100, 100)]
    assert evaluation_boxes(340, 256, num_crops=1) == [CropBox(42, 0, 256, 256)]
    assert evaluation_boxes(3, 2, num_crops=1) == [CropBox(0, 0, 2, 2)]


def test_crop_cuts_the_box_out_of_every_frame_and_mirrors(draw_number: DrawNumber, numbers_of: NumbersOf) -> None:
    frames = np.zeros((3, 100, 150, 3), np.uint8)
    for index in range(3):
        frames[index, 10:90, 60:140] = draw_number(index + 5, 80, 80)
    clip = crop(frames, CropBox(60, 10, 80, 80), 48)
    assert clip.shape == (3, 3, 48, 48)
    assert numbers_of(clip) == [5, 6, 7]
    mirrored = crop(frames, CropBox(60, 10, 80, 80, flip=True), 48)
    assert mirrored.equal(clip.flip(-1))


@pytest.mark.parametrize("flip", [False, True])
def test_a_box_of_the_size_of_the_crop_is_copied(flip: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    clip = crop(frames, CropBox(7, 3, 16, 16, flip), 16)
    expected = frames[:, 3:19, 7:23].transpose(0, 3, 1, 2)
    assert np.array_equal(clip.numpy(), expected[..., ::-1] if flip else expected)


@pytest.mark.parametrize("side_px", [20, 48, 100])
def test_pixels_are_those_of_pillow_to_rounding(side_px: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 120, 130, 3), np.uint8)
    clip = crop(frames, CropBox(30, 20, side_px, side_px), 48).permute(0, 2, 3, 1).numpy().astype(int)
    for frame, cut in zip(frames, clip, strict=True):
        box = Image.fromarray(frame[20 : 20 + side_px, 30 : 30 + side_px])
        assert np.abs(np.asarray(box.resize((48, 48), Image.Resampling.BILINEAR)) - cut).max() <= 1


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((1, 128, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255
    grey = crop(stripes, CropBox(0, 0, 128, 128), 16).numpy()[..., 2:-2]
    assert np.abs(grey.astype(int) - 127).max() <= 8
