"""Thousands of damaged files: each gives frames or a DecodeError in time, and none leaks memory.

Decoding runs in child processes, as it does in the workers of training and of `cover check`: nothing within a process
can promise to outlive a fault in a C library.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media.decode import decode_clip, probe_row

TIME_LIMIT_SECONDS = 20.0
"""For one file; intact ones take a few milliseconds."""

HEVC = {"x265-params": "log-level=none:pools=1"}
VIDEOS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "codec_options": HEVC},
    "av1.mp4": {"codec": "libsvtav1", "codec_options": {"preset": "12", "svtav1-params": "lp=1"}},
    "h264.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "mpeg4.avi": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "h264.flv": {},
    "h264.ts": {},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "wmv2.wmv": {"codec": "wmv2"},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8"},
}
IMAGES: dict[str, dict[str, Any]] = {
    "a.jpg": {},
    "progressive.jpg": {
        "progressive": True,
        "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
    },
    "a.png": {},
    "a.webp": {},
    "a.avif": {},
    "a.gif": {},
    "a.bmp": {},
    "a.tif": {"compression": "tiff_lzw"},
    "a.jp2": {},
}


@pytest.fixture(scope="module")
def whole_files(
    tmp_path_factory: pytest.TempPathFactory,
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
    draw_number: Callable[[int, int, int], Any],
) -> list[tuple[Path, Kind]]:
    folder = tmp_path_factory.mktemp("whole")
    images = [Image.fromarray(draw_number(number, 64, 48)) for number in range(10)]
    animations = [folder / name for name in ("animation.webp", "animation.png", "animation.avif")]
    for path in animations:
        images[0].save(path, save_all=True, append_images=images[1:], duration=80)
    videos = [write_video(folder / name, num_frames=30, **made_with) for name, made_with in VIDEOS.items()]
    stills = [write_image(folder / "images" / name, 7, **options) for name, options in IMAGES.items()]
    return [(path, "video") for path in [*videos, *animations]] + [(path, "image") for path in stills]


def damaged(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`content` with bits flipped, cut, with extreme numbers or noise in it, or with the head of another file."""
    data = bytearray(content)
    head = min(len(data), 1024) if rng.random() < 0.5 else len(data)  # parsers mostly read headers
    match rng.integers(6):
        case 0:
            for place in rng.integers(head, size=rng.integers(1, 30)):
                data[place] ^= 1 << int(rng.integers(8))
        case 1:
            del data[int(rng.integers(len(data))) :]
        case 2:
            for place in rng.integers(head, size=rng.integers(1, 4)):
                extremes = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x01")
                data[place : place + 4] = extremes[rng.integers(len(extremes))]
        case 3:
            place, size = int(rng.integers(head)), int(rng.integers(1, 200))
            data[place : place + size] = rng.bytes(size)
        case 4:
            place, size = int(rng.integers(head)), int(rng.integers(1, 200))
            data[place:place] = data[place : place + size]
        case _:
            size = int(rng.integers(4, 600))
            data[:size] = other[:size]
    return bytes(data)


def write_damaged(folder: Path, whole: Sequence[tuple[Path, Kind]], count: int) -> list[tuple[Path, Kind]]:
    rng = np.random.default_rng(0)
    folder.mkdir()
    files: list[tuple[Path, Kind]] = []
    for number in range(count):
        path, kind = whole[number % len(whole)]
        other = whole[int(rng.integers(len(whole)))][0]
        target = folder / f"{number}-{path.name}"
        target.write_bytes(damaged(path.read_bytes(), other.read_bytes(), rng))
        files.append((target, kind))
    return files


def outcome(path: Path, kind: Kind) -> str:
    row = ManifestRow("a", str(path), 0)
    try:
        probe_row(row, kind)
        frames = decode_clip(row, kind, 4, short_side_px=32)
    except DecodeError as error:
        message = str(error)
        return "DecodeError" if message.startswith(str(path)) and "\n" not in message else message
    return "frames" if len(frames) == (4 if kind == "video" else 1) and frames.shape[3] == 3 else str(frames.shape)


def decode_in_child(files: Sequence[tuple[Path, Kind]], results: Connection) -> None:
    gibibytes = 4
    resource.setrlimit(resource.RLIMIT_AS, (gibibytes * 2**30, gibibytes * 2**30))
    for path, kind in files:
        results.send(outcome(path, kind))


def outcomes(files: Sequence[tuple[Path, Kind]]) -> Iterator[tuple[Path, str]]:
    """Yield the outcome of each file. A child that dies or hangs is replaced, and the next file follows."""
    context = multiprocessing.get_context("fork")
    done = 0
    while done < len(files):
        here, there = context.Pipe()
        child = context.Process(target=decode_in_child, args=(files[done:], there))
        child.start()
        there.close()
        fault = ""
        while done < len(files) and not fault:
            try:
                result = here.recv() if here.poll(TIME_LIMIT_SECONDS) else (fault := "hangs")
            except EOFError:
                child.join()
                result = fault = f"dies with {child.exitcode}"
            yield files[done][0], result
            done += 1
        child.kill()
        child.join()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def growth_in_child(files: Sequence[tuple[Path, Kind]], num_decodes: int, result: Connection) -> None:
    """Send how much memory the last `num_decodes` decodes took, after a tenth as many to warm up."""
    for number in range(num_decodes // 10):
        outcome(*files[number % len(files)])
    before = resident_bytes()
    for number in range(num_decodes):
        outcome(*files[number % len(files)])
    result.send(resident_bytes() - before)


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_files_give_frames_or_a_decode_error_in_time(
    tmp_path: Path, whole_files: list[tuple[Path, Kind]], count: int
) -> None:
    assert all(outcome(path, kind) == "frames" for path, kind in whole_files)
    results = dict(outcomes(write_damaged(tmp_path / "damaged", whole_files, count)))
    print(Counter(results.values()))
    assert {path.name: result for path, result in results.items() if result not in ("frames", "DecodeError")} == {}
    assert len(results) == count and len(set(results.values())) == 2


@pytest.mark.slow
def test_thousands_of_decodes_of_good_and_bad_files_keep_no_memory(
    tmp_path: Path, whole_files: list[tuple[Path, Kind]]
) -> None:
    files = whole_files + write_damaged(tmp_path / "damaged", whole_files, 200)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=growth_in_child, args=(files, 2000, there))
    child.start()
    there.close()
    growth = here.recv()
    child.join()
    print(f"{growth / 2**20:.1f} MiB")
    assert growth <= 20 * 2**20
