"""What an upload may take is enforced from outside of the code that decodes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.conftest import LIMITS

from cover.inference.views import Views
from cover.inference.windows import WindowFormat
from cover.serving.decoding import Decoder, Job
from cover.serving.limits import MEBIBYTE, UploadLimits, UploadRejected

VIEWS = Views(num_frames=4, crop_px=32)


@contextmanager
def decoder(limits: UploadLimits) -> Iterator[Decoder]:
    with closing(Decoder(limits, num_processes=1)) as decoder:
        yield decoder


@pytest.mark.slow
def test_time_and_memory_are_limited_for_each_file(
    tmp_path: Path, write_video: Callable[..., Path], write_image: Callable[..., Path]
) -> None:
    """A PNG has to be decoded whole, 75 MB of pixels here."""
    image = Job(write_image(tmp_path / "large.png", 3, width_px=5000, height_px=5000), VIEWS)
    video = Job(write_video(tmp_path / "a.mp4"), WindowFormat(4, 32, window_seconds=0.4, stride_seconds=0.1))
    limits = replace(LIMITS, max_pixels=25_000_000)
    with (
        decoder(replace(limits, decode_seconds=0.02)) as hurried,
        pytest.raises(UploadRejected, match=r"after 0\.02 s"),
    ):
        hurried(image)
    with decoder(replace(limits, decode_bytes=64 * MEBIBYTE)) as narrow:
        with pytest.raises(UploadRejected, match=r"it cannot be decoded|decoding was stopped") as raised:
            narrow(image)
        assert raised.value.refusal.status == 422
        assert narrow(video).frames.shape == (12, 32, 32, 3)
