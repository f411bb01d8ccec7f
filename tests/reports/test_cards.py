from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cover.datasets.manifest import Manifest
from cover.media.reader import ClipReader
from cover.reports.cards import frames_of, sample_strips


def second_class(clips: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.tensor([[0.0, 2.0]]).expand(frames.shape[1], 2) for name, frames in clips.items()}


def test_strips_show_what_the_model_saw_and_said(video_manifest: Manifest) -> None:
    reader = ClipReader(video_manifest, num_frames=4, crop_px=32, short_side_px=(36, 45), horizontal_flip=False)
    strips = sample_strips(second_class, reader, "clips", num_samples=4, seed=5)
    assert len({strip.sample_id for strip in strips}) == 4
    assert [strip.sample_id for strip in sample_strips(second_class, reader, "clips", 4, 5)] == [
        strip.sample_id for strip in strips
    ]
    for strip in strips:
        assert strip.frames.shape == (4, 32, 32, 3)
        assert strip.true_classes == (strip.sample_id.split("/")[0],)
        assert [name for name, _ in strip.predictions] == ["run", "jump"]
        assert sum(probability for _, probability in strip.predictions) == pytest.approx(1)
        assert strip.correct == (strip.true_classes == ("run",))


def test_an_unreadable_clip_is_passed_over(video_manifest: Manifest) -> None:
    video_manifest[2].file.write_bytes(b"no video")
    reader = ClipReader(video_manifest, num_frames=4, crop_px=32, short_side_px=(36, 45), horizontal_flip=False)
    strips = sample_strips(second_class, reader, "clips", num_samples=99, seed=0)
    assert len(strips) == 5


def test_chosen_samples_are_shown_and_those_that_are_gone_are_left_out(video_manifest: Manifest) -> None:
    reader = ClipReader(video_manifest, num_frames=4, crop_px=32, short_side_px=(36, 45), horizontal_flip=False)
    wanted = [video_manifest[index].sample_id for index in (1, 4)]
    video_manifest[4].file.write_bytes(b"no video")
    frames = frames_of(reader, [*wanted, "gone"])
    assert list(frames) == wanted[:1]
    assert frames[wanted[0]].shape == (4, 32, 32, 3)
