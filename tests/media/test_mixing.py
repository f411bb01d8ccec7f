from __future__ import annotations

import numpy as np
import pytest
import torch

from cover.media.mixing import Mixing

ZEROS, ONES = torch.zeros(4, 3, 20, 30, dtype=torch.uint8), torch.full((4, 3, 20, 30), 200, dtype=torch.uint8)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.8), Mixing(cutmix=1.0), Mixing(mixup=0.8, cutmix=1.0)])
def test_the_weight_says_how_much_of_a_mixed_clip_is_its_own(mixing: Mixing) -> None:
    for seed in range(50):
        mixed, weight = mixing(ONES, ZEROS, np.random.default_rng(seed))
        assert mixed.shape == ONES.shape and mixed.dtype == torch.uint8
        assert 0.5 <= weight <= 1
        assert mixed.float().mean().item() / 200 == pytest.approx(weight, abs=0.5 / 200)


def test_blending_is_the_same_for_all_frames_and_rounds() -> None:
    mixed, weight = Mixing(mixup=1.0)(ONES, ZEROS, np.random.default_rng(1))
    assert mixed.unique().tolist() == [round(200 * weight)]


def test_pasting_puts_one_box_of_the_partner_into_all_frames() -> None:
    clip = torch.randint(0, 100, (4, 3, 20, 30), dtype=torch.uint8)
    partner = torch.randint(100, 200, (4, 3, 20, 30), dtype=torch.uint8)
    boxes = set()
    for seed in range(50):
        mixed, weight = Mixing(cutmix=1.0)(clip, partner, np.random.default_rng(seed))
        pasted = mixed >= 100
        assert (pasted == pasted[0, 0]).all()
        assert mixed.equal(torch.where(pasted, partner, clip))
        assert 1 - weight == pytest.approx(pasted.float().mean().item())
        rows, columns = pasted[0, 0].any(1), pasted[0, 0].any(0)
        assert pasted[0, 0].equal(rows[:, None] & columns)
        boxes.add((*rows.tolist(), *columns.tolist()))
    assert len(boxes) > 30


def test_weights_follow_the_beta_distribution_folded_at_a_half() -> None:
    """|2w - 1| of Beta(1, 1) is uniform; a larger α brings weights nearer to a half."""

    def weights(alpha: float) -> np.ndarray:
        return np.array([Mixing(mixup=alpha)(ONES, ZEROS, np.random.default_rng(seed))[1] for seed in range(1000)])

    assert np.quantile(weights(1.0), [0.25, 0.5, 0.75]) == pytest.approx([0.625, 0.75, 0.875], abs=0.02)
    assert weights(8.0).mean() < 0.65 < 0.85 < weights(0.2).mean()


def test_with_both_on_half_of_the_clips_get_either() -> None:
    both = Mixing(mixup=1.0, cutmix=1.0)
    blended = [len(both(ONES, ZEROS, np.random.default_rng(seed))[0].unique()) == 1 for seed in range(400)]
    assert 160 < sum(blended) < 240


def test_it_is_off_by_default() -> None:
    assert not Mixing().is_on and Mixing(mixup=0.1).is_on and Mixing(cutmix=0.1).is_on
