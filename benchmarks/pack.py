"""What reading 16 frames of a 10 s video costs before and after `cover pack`, and what the copy loses.

    python benchmarks/pack.py [--num-clips 4] [--seconds 2]

One process and one thread, times of the CPU. Videos are 340×256, H.264 with a keyframe every 250 frames, made on the
spot: `pan` is a window that moves over a random texture, the easiest of motions and the hardest of stills; `scene` has
the spectrum of natural pictures, things that move by themselves, and the noise of a camera. Below each video stand its
copies: that of `cover pack`, and the same frames by other codecs that every player knows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Column, Table

from cover.catalog.manifest import ManifestRow
from cover.media.sampling import Sampling
from cover.media.video import decode_video
from cover.preparation.packed_video import ShortClip, shorten, write_short_clip
from loader import texture

WIDTH_PX, HEIGHT_PX, FPS, NUM_FRAMES = 340, 256, 25, 250
NUM_PACKED, NUM_READ = 64, 16

Frames = npt.NDArray[np.uint8]


def pan(rng: np.random.Generator) -> Iterator[Frames]:
    """uint8 [Y,X,3], one after another."""
    picture = texture(HEIGHT_PX + NUM_FRAMES, WIDTH_PX + 2 * NUM_FRAMES, rng)
    for index in range(NUM_FRAMES):
        yield picture[index : index + HEIGHT_PX, 2 * index : 2 * index + WIDTH_PX]


def scene(rng: np.random.Generator) -> Iterator[Frames]:
    """uint8 [Y,X,3], one after another."""
    background = natural_picture(HEIGHT_PX + 64, WIDTH_PX + 64, rng)
    things = [natural_picture(80, 60, rng) for _ in range(3)]
    for index in range(NUM_FRAMES):
        top, left = round(32 + 30 * np.sin(index / 70)), round(32 + 30 * np.cos(index / 50))
        frame = background[top : top + HEIGHT_PX, left : left + WIDTH_PX].copy()
        for number, thing in enumerate(things):
            top, left = round(88 + 80 * np.sin(index / 20 + number)), round(140 + 130 * np.cos(index / 25 + 2 * number))
            frame[top : top + 80, left : left + 60] = thing
        yield (frame + rng.normal(0, 2, frame.shape)).clip(0, 255).astype(np.uint8)


def natural_picture(height_px: int, width_px: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """[Y,X,3] in 0 to 255: amplitudes fall with frequency as in natural pictures, and colours vary less than light."""
    frequency = np.hypot(np.fft.fftfreq(height_px)[:, None], np.fft.fftfreq(width_px)[None])
    amplitude = 1 / np.maximum(frequency, 1 / width_px) ** 1.4
    light, *colours = (
        np.fft.ifft2(np.fft.fft2(rng.standard_normal((height_px, width_px))) * amplitude).real for _ in range(4)
    )
    picture = np.stack([light + 0.3 * colour for colour in colours], axis=2)
    return (128 + 50 * (picture - picture.mean()) / picture.std()).clip(0, 255)


def write_video(path: Path, frames: Iterator[Frames]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH_PX, HEIGHT_PX, "yuv420p", 250
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))


class Codec(NamedTuple):
    """Another way to write the frames of a copy, keyframes all."""

    name: str
    pixel_format: str
    gop_size: int
    options: dict[str, str]


CODECS = {
    "MJPEG, quality 2": Codec("mjpeg", "yuvj420p", 0, {"qmin": "2", "qmax": "2"}),
    "MJPEG, quality 3": Codec("mjpeg", "yuvj420p", 0, {"qmin": "3", "qmax": "3"}),
    "H.264, crf 16, fastdecode": Codec("libx264", "yuv420p", 1, {"crf": "16", "tune": "fastdecode"}),
}


def write_with(codec: Codec, path: Path, clip: ShortClip) -> None:
    with av.open(str(path), "w") as container:
        rate = Fraction(len(clip.frames)) / (clip.end * clip.time_base)
        stream = container.add_stream(codec.name, rate=rate, options=codec.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, codec.pixel_format
        stream.gop_size = codec.gop_size
        for index, frame in enumerate(clip.frames):
            small = frame.reformat(format=codec.pixel_format)
            small.pts, small.time_base, small.pict_type = index, 1 / rate, av.video.frame.PictureType.NONE
            container.mux(stream.encode(small))
        container.mux(stream.encode(None))


def milliseconds(paths: list[Path], seconds: float) -> float:
    """CPU time in which the 16 frames of one of them are read."""
    rounds = 0
    for path in paths:
        decode_video(path, Sampling(NUM_READ))
    started = time.process_time()
    while time.process_time() - started < seconds:
        for path in paths:
            decode_video(path, Sampling(NUM_READ))
        rounds += 1
    return 1e3 * (time.process_time() - started) / rounds / len(paths)


def psnr_db(paths: list[Path], originals: list[Path]) -> float:
    """Over all of the frames read, RGB."""
    pairs = [
        (decode_video(a, Sampling(NUM_READ)), decode_video(b, Sampling(NUM_READ)))
        for a, b in zip(paths, originals, strict=True)
    ]
    error = np.mean([np.mean((copy.astype(np.float64) - original) ** 2) for copy, original in pairs])
    return float(10 * np.log10(255**2 / error))


def add_rows(
    table: Table,
    name: str,
    content: Callable[[np.random.Generator], Iterator[Frames]],
    folder: Path,
    arguments: argparse.Namespace,
) -> None:
    originals = [folder / f"{number}.mp4" for number in range(arguments.num_clips)]
    for number, path in enumerate(originals):
        write_video(path, content(np.random.default_rng(number)))
    before = milliseconds(originals, arguments.seconds)
    add_row(table, f"{name}: H.264, 10 s", originals, before, None, None)
    clips = [shorten(ManifestRow("", path.name, 0, root=folder), NUM_PACKED, HEIGHT_PX) for path in originals]
    copies = [path.with_suffix(".packed.mp4") for path in originals]
    for copy, clip in zip(copies, clips, strict=True):
        write_short_clip(copy, clip)
    add_row(table, "  cover pack: MPEG-4", copies, milliseconds(copies, arguments.seconds), before, originals)
    for title, codec in CODECS.items():
        for copy, clip in zip(copies, clips, strict=True):
            write_with(codec, copy, clip)
        add_row(table, f"  {title}", copies, milliseconds(copies, arguments.seconds), before, originals)


def add_row(
    table: Table, name: str, paths: list[Path], now: float, before: float | None, originals: list[Path] | None
) -> None:
    kilobytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e3
    table.add_row(
        name,
        f"{kilobytes:,.0f}",
        f"{now:.1f}",
        f"{1e3 / now:.0f}",
        f"{before / now:.1f}" if before else "",
        f"{psnr_db(paths, originals):.1f}" if originals else "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=4, help="videos of each kind")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each measurement")
    arguments = parser.parse_args()
    table = Table(
        Column("file", no_wrap=True),
        *(Column(name, justify="right") for name in ("kB", "ms", "clips/s", "times as fast", "PSNR, dB")),
    )
    for name, content in {"pan": pan, "scene": scene}.items():
        with tempfile.TemporaryDirectory() as folder:
            add_rows(table, name, content, Path(folder), arguments)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
