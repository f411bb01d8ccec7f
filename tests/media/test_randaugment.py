from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cover.media.randaugment import NAMES, OF_A_CLIP, OPERATIONS, RandAugment, apply

Frames = npt.NDArray[np.uint8]
STRENGTHS = [-1.0, -0.5, 0.5, 1.0]


@pytest.fixture
def frames() -> Frames:
    """Three frames of 24 × 32 pixels with eight colours, each darker than the one before."""
    rng = np.random.default_rng(0)
    return np.stack([rng.choice([10, 120], (24, 32, 3)) + 60 - 30 * frame for frame in range(3)]).astype(np.uint8)


def clip(frames: Frames) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("magnitude", [0.0, 5.0, 10.0])
def test_equal_frames_stay_equal(frames: Frames, magnitude: float) -> None:
    still = clip(frames[:1].repeat(4, axis=0))
    for seed in range(30):
        out = RandAugment(3, magnitude)(still, np.random.default_rng(seed))
        assert out.shape == still.shape and out.dtype == torch.uint8
        assert all(frame.equal(out[0]) for frame in out)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", OF_A_CLIP)
def test_a_colour_becomes_the_same_colour_in_every_frame(frames: Frames, name: str, strength: float) -> None:
    bright, dark = np.array([100, 150, 200]), np.array([20, 40, 60])
    frames[0, 3, 5] = frames[2, 20, 1] = bright
    frames[1, 7, 7] = frames[2, 0, 0] = dark
    out = apply(name, frames, strength)
    assert (out[0, 3, 5] == out[2, 20, 1]).all() and (out[1, 7, 7] == out[2, 0, 0]).all()


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_A_CLIP])
def test_what_moves_pixels_treats_each_frame_as_a_picture(frames: Frames, name: str, strength: float) -> None:
    out = apply(name, frames, strength)
    assert (out == np.concatenate([apply(name, frame[None], strength) for frame in frames])).all()
    assert (out != frames).any()


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("name", NAMES)
def test_what_goes_to_the_right_still_does(name: str, strength: float) -> None:
    """In the first two frames, a square is left and then right of the centre; the last one is empty."""
    moving = np.full((3, 60, 60, 3), 90, np.uint8)
    moving[0, 26:34, 18:26] = moving[1, 26:34, 34:42] = (250, 20, 160)
    out = apply(name, moving, strength / 2).astype(int)
    columns = [np.abs(frame - out[2]).sum((0, 2)) for frame in out[:2]]
    left, right = (np.average(np.arange(60), weights=weights) for weights in columns)
    assert left + 10 < right


def test_the_full_range_is_the_papers() -> None:
    """The ranges of AutoAugment (Cubuk et al., 2019), which RandAugment uses."""
    picture = np.tile(np.arange(200, dtype=np.uint8)[None, None, :, None], (1, 100, 1, 3))
    assert (apply("translate_x", picture, 1.0)[0, :, 0] == 90).all()  # 0.45 · 200
    assert (apply("translate_x", picture, 1.0)[0, :, 150:] == 128).all()
    assert apply("shear_x", picture, 1.0)[0, 50, 20, 0] == 35  # 20 + 0.3 · 50
    assert set(np.unique(apply("posterize", picture, 1.0) % 16)) == {0}  # four bits
    assert (apply("posterize", picture, 0.0) == picture).all()
    assert (apply("solarize", picture, 1.0) == 255 - picture).all()
    assert (apply("solarize", picture, 0.0) == picture).all()
    assert apply("brightness", picture, 0.5)[0, 0, 100, 0] == 145
    assert apply("brightness", picture, -1.0)[0, 0, 100, 0] == 10
    white = apply("rotate", np.full((1, 101, 101, 3), 255, np.uint8), 1.0)
    assert (white[0, 50] == 255).all() and (white[0, 0, 0] == 128).all()
    # Turned by 30°, the lower edge is 50 / cos 30° = 57.7 px below the centre, and 57.7 - 40 · tan 30° = 34.6 px below
    # the middle row in a column 40 px to the side.
    assert (white[0, 50 + 36 :, 90] == 128).all() and (white[0, 50 : 50 + 33, 90] == 255).all()


def test_every_operation_is_drawn_and_a_seed_repeats_it(frames: Frames) -> None:
    """Each gives a different picture here; one with a direction gives two."""
    one = RandAugment(1, 7.0)
    outcomes = {one(clip(frames), np.random.default_rng(seed)).numpy().tobytes() for seed in range(400)}
    expected = {clip(apply(name, frames, sign * 0.7)).numpy().tobytes() for name in NAMES for sign in (1, -1)}
    assert outcomes == expected
    assert one(clip(frames), np.random.default_rng(3)).equal(one(clip(frames), np.random.default_rng(3)))


def test_timms_operations_have_its_ranges() -> None:
    """As timm's auto_augment.py maps levels 0 to 10 with "inc1"."""
    picture = np.tile(np.arange(256, dtype=np.uint8)[None, None, :, None], (1, 4, 1, 3))
    assert (apply("invert", picture, 0.3) == 255 - picture).all()
    for strength, bits in ((0.0, 4), (0.24, 4), (0.5, 2), (0.9, 1), (1.0, 0)):
        assert (apply("posterize_to_0", picture, -strength) == picture & (256 - 2 ** (8 - bits))).all()
    added = apply("solarize_add", picture, 0.5)[0, 0, :, 0]
    assert (added[:128] == np.arange(128) + 55).all() and (added[128:] == np.arange(128, 256)).all()
    assert len(OPERATIONS["timm"]) == len(set(OPERATIONS["timm"])) == 15


def test_a_policy_applies_each_operation_with_its_probability_and_a_varying_magnitude(frames: Frames) -> None:
    """Of one operation that is inversion, which has no strength, and of all others."""
    half, always = (RandAugment(1, 9.0, probability, 0.5, "timm") for probability in (0.5, 1.0))
    outcomes = [always(clip(frames), np.random.default_rng(seed)) for seed in range(600)]
    inverted = [outcome.equal(255 - clip(frames)) for outcome in outcomes]
    assert 20 < sum(inverted) < 60  # 600 / 15
    unchanged = [half(clip(frames), np.random.default_rng(seed)).equal(clip(frames)) for seed in range(400)]
    assert 160 < sum(unchanged) < 240
    assert len({outcome.numpy().tobytes() for outcome in outcomes}) > 2 * 15  # magnitudes differ
    assert always(clip(frames), np.random.default_rng(5)).equal(outcomes[5])


def test_no_operations_leave_the_clip_and_the_random_state_alone(frames: Frames) -> None:
    rng = np.random.default_rng(0)
    assert RandAugment()(clip(frames), rng).equal(clip(frames))
    assert rng.random() == np.random.default_rng(0).random()
