from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from cover.inference.live import Change, changes
from cover.inference.windows import WindowFormat
from cover.media.live_stream import LiveWindow

WINDOW = WindowFormat(num_frames=4, crop_px=16, window_seconds=4.0, stride_seconds=2.0)
NAMES = {"light": ("dark", "bright")}


def brightness(frames_tbcyx: Tensor) -> dict[str, Tensor]:
    """dark and bright as much as the newest frame is; another head that is not asked for."""
    bright = frames_tbcyx[-1].float().mean((1, 2, 3)) / 255
    return {"light": torch.stack([10 * (1 - bright), 10 * bright], dim=1), "other": torch.zeros(len(bright), 3)}


def windows(*shades: int, first: tuple[int, ...] = (0,)) -> Iterator[LiveWindow]:
    for number, shade in enumerate(shades):
        yield LiveWindow([np.full((16, 24, 3), shade, np.uint8)] * 4, is_first=number in first)


def labels(found: Iterator[Change]) -> list[str | None]:
    return [change.label for change in found]


def test_only_changes_are_told() -> None:
    (first, second) = changes(brightness, windows(0, 0, 255, 255, 255), class_names=NAMES, window=WINDOW)
    assert (first.head, first.label, second.label) == ("light", "dark", "bright")
    assert first.score == pytest.approx(1, abs=1e-3)


def test_a_word_is_the_mean_of_the_windows_that_overlap() -> None:
    one_flash = windows(0, 0, 140, 0)  # a little brighter than half, for one window of two
    assert labels(changes(brightness, one_flash, class_names=NAMES, window=WINDOW)) == ["dark"]


def test_nothing_of_the_time_before_a_lost_connection_is_kept() -> None:
    shades = windows(0, 0, 140, first=(0, 2))
    assert labels(changes(brightness, shades, class_names=NAMES, window=WINDOW)) == ["dark", "bright"]


def test_below_the_threshold_there_is_no_class() -> None:
    shades = windows(128, 0, 0, 128, 128, first=(0, 1, 3))
    assert labels(changes(brightness, shades, class_names=NAMES, window=WINDOW, threshold=0.9)) == [None, "dark", None]
