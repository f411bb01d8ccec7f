from __future__ import annotations

import torch

from cover.evaluation.sample_views import FRAME_ORDERS, reorder

FRAMES_TC = torch.arange(8)[:, None].expand(8, 2)


def test_reversed_is_the_clip_backwards() -> None:
    assert reorder(FRAMES_TC, "reversed", seed=0)[:, 0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_shuffled_keeps_the_frames_and_single_keeps_one() -> None:
    assert sorted(reorder(FRAMES_TC, "shuffled", seed=3)[:, 0].tolist()) == list(range(8))
    assert len(set(reorder(FRAMES_TC, "single", seed=3)[:, 0].tolist())) == 1


def test_controls_differ_between_clips_and_repeat_for_one_seed() -> None:
    for order in ("shuffled", "single"):
        drawn = [tuple(reorder(FRAMES_TC, order, seed=seed)[:, 0].tolist()) for seed in range(50)]
        assert len(set(drawn)) > 5
        assert drawn[7] == tuple(reorder(FRAMES_TC, order, seed=7)[:, 0].tolist())


def test_an_image_has_only_one_order() -> None:
    for order in FRAME_ORDERS:
        assert torch.equal(reorder(FRAMES_TC[:1], order, seed=1), FRAMES_TC[:1])
