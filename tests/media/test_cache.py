from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cover.media.cache
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.errors import CoverError, DecodeError
from cover.media.cache import FrameCache
from cover.media.decode import decode_clip


@pytest.mark.parametrize("num_processes", [0, 2])
def test_a_cache_holds_the_decoded_frames_and_remembers_the_errors(many_images: Manifest, num_processes: int) -> None:
    cache = FrameCache.fill(many_images, num_frames=1, max_short_side_px=64, num_processes=num_processes)
    assert len(cache) == len(many_images)
    for index, row in enumerate(many_images):
        if index % 5 == 1:
            with pytest.raises(DecodeError, match=f"{row.file} is not a file"):
                cache[index]
        else:
            assert np.array_equal(cache[index], decode_clip(row, "image", 1))


def test_a_cache_with_nothing_readable_is_empty(video_manifest: Manifest) -> None:
    for row in video_manifest:
        row.file.write_bytes(b"")
    assert FrameCache.fill(video_manifest, num_frames=4, max_short_side_px=64).num_bytes == 0


def test_frames_turned_upright_are_kept_so(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    row = ManifestRow("turned", "turned.mp4", 0, root=tmp_path)
    write_video(row.file, width_px=96, rotation=90)
    manifest = write_manifest(
        tmp_path / "x.arrow", [row], name="x", kind="video", split="train", class_names=["a"], root=tmp_path
    )
    frames = FrameCache.fill(manifest, num_frames=4, max_short_side_px=64)[0]
    assert frames.shape == (4, 96, 64, 3) and np.array_equal(frames, decode_clip(row, "video", 4))


def test_it_tells_how_long_it_took(video_manifest: Manifest, capfd: pytest.CaptureFixture[str]) -> None:
    FrameCache.fill(video_manifest, num_frames=4, max_short_side_px=64)
    assert capfd.readouterr().err.startswith("decoded 6 clips of clips in 0 s (")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGKILL, pytest.raises(CoverError, match=r"was killed, .* or switch off cache_frames, for which many")),
        (signal.SIGINT, pytest.raises(KeyboardInterrupt)),
    ],
)
def test_a_killed_process_and_ctrl_c_end_the_decoding(
    many_images: Manifest, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, error: AbstractContextManager[Any]
) -> None:
    main = os.getpid()

    def strike(row: ManifestRow, *_: object, **options: object) -> None:
        if row.sample_id == "100":  # not before the loader is set up, when an interrupt can leave torch's queues locked
            os.kill(main if number == signal.SIGINT else os.getpid(), number)
            time.sleep(60)  # the decoding must not be through before the signal is seen
        raise DecodeError(row.sample_id)

    monkeypatch.setattr(cover.media.cache, "decode_clip", strike)
    with error:
        FrameCache.fill(many_images, num_frames=1, max_short_side_px=64, num_processes=2)
