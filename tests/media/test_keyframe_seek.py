"""Seeking by keyframe gives exactly the pixels of decoding from the beginning, whichever frames are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from cover.media import keyframe_seek as packets
from cover.media.demux import open_video
from cover.media.keyframe_seek import Unreliable, frames_by_packets
from cover.media.pixels import make_pictures
from cover.media.sampling import Sampling
from cover.media.sequential import frames_one_by_one
from cover.media.source import MediaSource
from cover.media.video import decode_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]

X264 = [
    "keyint=12",
    "keyint=250",
    "keyint=1",
    "open-gop=1:bframes=5:keyint=15",
    "bframes=16:b-adapt=0:ref=16:b-pyramid=none:open-gop=1:keyint=30",
    "bframes=8:b-pyramid=strict:direct=temporal:weightb=1:weightp=2",
    "interlaced=1:bframes=3:open-gop=1:keyint=15",
    "bframes=3:scenecut=80:min-keyint=2:slices=4",
]
MADE_WITH: list[tuple[str, dict[str, Any]]] = [
    *(("mp4", {"codec_options": {"x264-params": params}}) for params in X264),
    *(("mkv", {"codec_options": {"x264-params": params}}) for params in X264[:4]),
    *(
        ("mp4", {"codec": "libx265", "codec_options": {"x265-params": f"log-level=none:pools=1:{params}"}})
        for params in ("open-gop=1:bframes=5:keyint=15", "temporal-layers=3:bframes=7:keyint=30")
    ),
    ("webm", {"codec": "libvpx-vp9", "codec_options": {"auto-alt-ref": "1", "lag-in-frames": "25"}}),
    ("mp4", {"codec": "mpeg4", "codec_options": {"bf": "3"}}),
    ("mov", {"codec": "mpeg2video", "codec_options": {"bf": "2"}}),
]


def rgb_of(frames: Iterator[av.VideoFrame]) -> Any:
    return np.stack([picture.rgb for picture in make_pictures(frames)])


def quick_frames(path: Path, times: Sequence[int]) -> Any:
    with MediaSource(path).open() as media, open_video(media) as video:  # `opened` would rename errors
        return rgb_of(frames_by_packets(video, times))


def begins_of(path: Path) -> list[int]:
    with open_video(MediaSource(path)) as video:
        return sorted(packet.pts for packet in video.container.demux(video.stream) if packet.pts is not None)


def sure_frames(path: Path, times: Sequence[int]) -> Any:
    with open_video(MediaSource(path)) as video:
        return rgb_of(frames_one_by_one(video, times))


@pytest.mark.parametrize(("suffix", "made_with"), MADE_WITH)
def test_the_quick_way_gives_the_pixels_of_the_sure_way(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, suffix: str, made_with: dict[str, Any]
) -> None:
    video = write_video(tmp_path / f"a.{suffix}", num_frames=60, keyframe_interval=30, **made_with)
    begins = begins_of(video)
    every = sure_frames(video, begins)
    assert numbers_of(every) == list(range(60))
    rng = np.random.default_rng(0)
    choices = [[index] for index in range(60)] + [sorted(rng.choice(60, count)) for count in (2, 3, 4, 6, 8, 16)]
    for chosen in choices:
        assert np.array_equal(quick_frames(video, [begins[index] for index in chosen]), every[chosen])


def test_times_between_before_and_after_the_frames(tmp_path: Path, write_video: WriteVideo) -> None:
    times_ms = [100 * index for index in range(40)]
    for suffix in ("mp4", "mkv"):
        video = write_video(tmp_path / f"a.{suffix}", num_frames=40, times_ms=times_ms)
        begins = begins_of(video)
        middles = [begin + (begins[1] - begins[0]) // 2 for begin in begins]
        every = sure_frames(video, begins)
        assert np.array_equal(quick_frames(video, middles), every)
        assert np.array_equal(quick_frames(video, [-9, begins[3], begins[-1] + 10**9]), every[[0, 3, 39]])


def damage(video: Path, numbers: Sequence[int]) -> None:
    """Overwrite the packets of some frames."""
    begins = begins_of(video)
    content = bytearray(video.read_bytes())
    with open_video(MediaSource(video)) as opened:
        for packet in opened.container.demux(opened.stream):
            if packet.pos is not None and packet.pts in [begins[number] for number in numbers]:
                content[packet.pos + 5 : packet.pos + packet.size] = b"\xff" * (packet.size - 5)
    video.write_bytes(content)


def test_packets_that_the_chosen_frames_do_not_need_are_not_decoded(tmp_path: Path, write_video: WriteVideo) -> None:
    params = {"x264-params": "bframes=3:b-adapt=0:b-pyramid=none:keyint=20:min-keyint=20:scenecut=0"}
    video = write_video(tmp_path / "a.mp4", num_frames=60, codec_options=params)
    begins = begins_of(video)
    chosen = [0, 13, 45]  # 13 depends on 0, 4, 8, 12 and 16; 45 depends on 40, 44 and 48
    whole = sure_frames(video, [begins[index] for index in chosen])
    damage(video, [1, 2, 3, 5, 14, 15, *range(17, 40), 41, 49, 55])
    assert np.array_equal(quick_frames(video, [begins[index] for index in chosen]), whole)


def test_a_file_that_breaks_its_promises_is_unreliable(tmp_path: Path, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60, codec="mpeg4")
    content, begins = video.read_bytes(), begins_of(video)
    video.write_bytes(content.replace(b"stss", b"free"))  # without this list, every frame counts as a keyframe
    with pytest.raises(Unreliable):
        quick_frames(video, [begins[17]])
    video = write_video(tmp_path / "b.mp4", num_frames=60)
    damage(video, [17])
    with pytest.raises((Unreliable, av.FFmpegError)):
        quick_frames(video, [begins_of(video)[17]])


def test_without_keyframes_not_all_of_a_long_video_is_held(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=60, keyframe_interval=60)
    monkeypatch.setattr(packets, "_MAX_STRETCH", 40)
    with pytest.raises(Unreliable):
        quick_frames(video, [begins_of(video)[50]])
    assert numbers_of(decode_video(video, Sampling(3))) == [10, 30, 50]
