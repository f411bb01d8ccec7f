"""A video with planted segments, and a model that knows what it sees: the frames show their numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cover.errors import CoverError, DecodeError
from cover.inference.timeline import Change, Timeline, find_changes, find_timeline
from cover.inference.windows import WindowFormat
from cover.media.live_stream import LiveWindow

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]

FPS = 25
PLANTED = [("run", 0.0, 5.2), ("jump", 5.2, 9.0), ("run", 9.0, 12.4)]
CLASS_NAMES = {"actions": ("jump", "run", "swim"), "halves": ("first", "second")}
WINDOW = WindowFormat(num_frames=8, crop_px=32, window_seconds=2.0, stride_seconds=0.5)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, write_video: WriteVideo) -> Path:
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", num_frames=310, fps=FPS, width_px=80)


class Heads:
    """The logit of a class is as high as frames of a window show it. Keeps how many windows it was asked about."""

    def __init__(self, numbers_of: NumbersOf) -> None:
        self._numbers_of = numbers_of
        self.batches: list[int] = []

    def __call__(self, frames_tbcyx: Tensor) -> dict[str, Tensor]:
        self.batches.append(frames_tbcyx.shape[1])
        windows = [self._numbers_of(frames_tbcyx[:, index]) for index in range(frames_tbcyx.shape[1])]
        actions = [[_count(numbers, "jump"), _count(numbers, "run"), 0] for numbers in windows]
        halves = [[_num_before(numbers, 155), 8 - _num_before(numbers, 155)] for numbers in windows]
        return {"actions": torch.tensor(actions).float(), "halves": torch.tensor(halves).float()}


def _count(numbers: list[int], action: str) -> int:
    spans = [(start, end) for name, start, end in PLANTED if name == action]
    return sum(start <= number / FPS < end for number in numbers for start, end in spans)


def _num_before(numbers: list[int], limit: int) -> int:
    return sum(number < limit for number in numbers)


def timeline_of(video: Path, numbers_of: NumbersOf, **options: Any) -> Timeline:
    defaults: dict[str, Any] = {"class_names": CLASS_NAMES, "window": WINDOW}
    return find_timeline(Heads(numbers_of), video, **defaults | options)


def test_planted_segments_are_found_within_a_window(video: Path, numbers_of: NumbersOf) -> None:
    timeline = timeline_of(video, numbers_of)
    actions = [segment for segment in timeline.segments if segment.head == "actions"]
    assert [segment.class_name for segment in actions] == [name for name, _, _ in PLANTED]
    for segment, (_, start, end) in zip(actions, PLANTED, strict=True):
        assert abs(segment.start_seconds - start) <= WINDOW.stride_seconds
        assert abs(segment.end_seconds - end) <= WINDOW.stride_seconds
        assert 0.8 < segment.probability <= 1
    assert actions[0].start_seconds == 0 and actions[-1].end_seconds == pytest.approx(12.4)
    halves = [segment for segment in timeline.segments if segment.head == "halves"]
    assert [segment.class_name for segment in halves] == ["first", "second"]
    assert timeline.duration_seconds == pytest.approx(12.4) and timeline.heads == ("actions", "halves")


@pytest.mark.slow
def test_what_is_planted_in_half_an_hour_is_found_within_a_window(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    fps, planted = 5, [(301.0, 331.0), (1200.0, 1207.6)]
    video = write_video(tmp_path / "long.mp4", num_frames=30 * 60 * fps, fps=fps, width_px=80)

    def heads(frames_tbcyx: Tensor) -> dict[str, Tensor]:
        logits = []
        for index in range(frames_tbcyx.shape[1]):
            seconds = [number / fps for number in numbers_of(frames_tbcyx[:, index])]
            inside = sum(start <= second < end for second in seconds for start, end in planted)
            logits.append([float(inside), float(len(seconds) - inside)])
        return {"actions": torch.tensor(logits)}

    timeline = find_timeline(heads, video, class_names={"actions": ("goal", "none")}, window=WINDOW)
    goals = [segment for segment in timeline.segments if segment.class_name == "goal"]
    assert len(goals) == len(planted)
    for segment, (start, end) in zip(goals, planted, strict=True):
        assert abs(segment.start_seconds - start) <= WINDOW.window_seconds
        assert abs(segment.end_seconds - end) <= WINDOW.window_seconds


def test_batches_change_nothing(video: Path, numbers_of: NumbersOf) -> None:
    heads = Heads(numbers_of)
    one_by_one = find_timeline(heads, video, class_names=CLASS_NAMES, window=WINDOW, batch_size=1)
    assert set(heads.batches) == {1} and len(heads.batches) == 22
    assert one_by_one == timeline_of(video, numbers_of, batch_size=16)


def test_a_threshold_leaves_out_what_is_improbable(video: Path, numbers_of: NumbersOf) -> None:
    actions = {"actions": CLASS_NAMES["actions"]}
    certain = timeline_of(video, numbers_of, threshold=0.99, class_names=actions).segments
    assert [segment.class_name for segment in certain] == ["run", "jump", "run"]
    assert all(segment.probability >= 0.99 for segment in certain)
    gaps = [after.start_seconds - before.end_seconds for before, after in itertools.pairwise(certain)]
    assert all(gap > 0 for gap in gaps)


def test_several_classes_at_a_time(video: Path, numbers_of: NumbersOf) -> None:
    both = timeline_of(
        video, numbers_of, top=2, threshold=0.1, class_names={"actions": CLASS_NAMES["actions"]}
    ).segments
    assert [segment.class_name for segment in both] == ["run", "jump", "run"]
    assert all(before.end_seconds > after.start_seconds for before, after in itertools.pairwise(both))


def test_a_video_shorter_than_a_window(write_video: WriteVideo, numbers_of: NumbersOf, tmp_path: Path) -> None:
    (run, first) = timeline_of(write_video(tmp_path / "short.mp4", num_frames=5), numbers_of).segments
    assert (run.class_name, first.class_name) == ("run", "first")
    assert (run.start_seconds, run.end_seconds) == (0.0, pytest.approx(0.2))


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_an_animation_has_a_timeline_and_a_picture_none(
    draw_number: Callable[..., Any], numbers_of: NumbersOf, tmp_path: Path, name: str
) -> None:
    first, *others = [Image.fromarray(draw_number(number, 64, 64)) for number in range(50)]
    first.save(tmp_path / name, save_all=True, append_images=others, duration=1000 // FPS)
    (run, half) = timeline_of(tmp_path / name, numbers_of).segments
    assert (run.class_name, half.class_name) == ("run", "first") and (run.start_seconds, run.end_seconds) == (0.0, 2.0)
    first.save(tmp_path / "still", "PNG")
    with pytest.raises(CoverError, match="still is not a video, which a timeline needs"):
        timeline_of(tmp_path / "still", numbers_of)


def test_what_cannot_be_decoded_is_named(numbers_of: NumbersOf, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    with pytest.raises(DecodeError, match=r"broken\.mp4"):
        timeline_of(tmp_path / "broken.mp4", numbers_of)


LIVE_WINDOW = WindowFormat(num_frames=4, crop_px=16, window_seconds=4.0, stride_seconds=2.0)
NAMES = {"light": ("dark", "bright")}


def brightness(frames_tbcyx: Tensor) -> dict[str, Tensor]:
    """dark and bright as much as the newest frame is; another head that is not asked for."""
    bright = frames_tbcyx[-1].float().mean((1, 2, 3)) / 255
    return {"light": torch.stack([10 * (1 - bright), 10 * bright], dim=1), "other": torch.zeros(len(bright), 3)}


def windows(*shades: int, first: tuple[int, ...] = (0,)) -> Iterator[LiveWindow]:
    for number, shade in enumerate(shades):
        yield LiveWindow([np.full((16, 24, 3), shade, np.uint8)] * 4, is_first=number in first)


def labels(found: Iterator[Change]) -> list[str | None]:
    return [change.class_name for change in found]


def test_only_changes_are_told() -> None:
    (first, second) = find_changes(brightness, windows(0, 0, 255, 255, 255), class_names=NAMES, window=LIVE_WINDOW)
    assert (first.head, first.class_name, second.class_name) == ("light", "dark", "bright")
    assert first.probability == pytest.approx(1, abs=1e-3)


def test_a_word_is_the_mean_of_the_windows_that_overlap() -> None:
    one_flash = windows(0, 0, 140, 0)  # a little brighter than half, for one window of two
    assert labels(find_changes(brightness, one_flash, class_names=NAMES, window=LIVE_WINDOW)) == ["dark"]


def test_nothing_of_the_time_before_a_lost_connection_is_kept() -> None:
    shades = windows(0, 0, 140, first=(0, 2))
    assert labels(find_changes(brightness, shades, class_names=NAMES, window=LIVE_WINDOW)) == ["dark", "bright"]


def test_below_the_threshold_there_is_no_class() -> None:
    shades = windows(128, 0, 0, 128, 128, first=(0, 1, 3))
    assert labels(find_changes(brightness, shades, class_names=NAMES, window=LIVE_WINDOW, threshold=0.9)) == [
        None,
        "dark",
        None,
    ]
