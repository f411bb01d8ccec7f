"""What reading 16 frames of a 10 s video costs before and after `cover pack`, and what the copy loses.

    python benchmarks/pack.py [--num-clips 2] [--seconds 2] [--only scene]

One process and one thread, times of the CPU. Videos are H.264 with a keyframe every 250 frames, made on the spot:
`pan` is a window that moves over a random texture, the easiest of motions and the hardest of stills; `scene` has the
spectrum of natural pictures, things that move by themselves, and the noise of a camera. Below each video stand its
copies: that of `cover pack`, and the same frames by other codecs that players know. PSNR is that of all frames of a
copy against the video's, in RGB; of large ones after they were scaled.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType
from rich.console import Console
from rich.table import Column, Table

from cover.curation.pack import PackFormat
from cover.curation.packed_video import ShortClip, shorten, write_short_clip
from cover.datasets.manifest import ManifestRow
from cover.media.sampling import Sampling
from cover.media.video import decode_video
from loader import texture
from results import write_results

FPS, NUM_FRAMES, NUM_READ = 25, 250, 16
FORMAT = PackFormat()

Frames = npt.NDArray[np.uint8]
Draw = Callable[[int, int, np.random.Generator], Iterator[Frames]]


def pan(width_px: int, height_px: int, rng: np.random.Generator) -> Iterator[Frames]:
    """uint8 [Y,X,3], one after another."""
    picture = texture(height_px + NUM_FRAMES, width_px + 2 * NUM_FRAMES, rng)
    for index in range(NUM_FRAMES):
        yield picture[index : index + height_px, 2 * index : 2 * index + width_px]


def scene(width_px: int, height_px: int, rng: np.random.Generator) -> Iterator[Frames]:
    """uint8 [Y,X,3], one after another; whatever its size, the same things move across it."""
    unit = height_px / 256
    room = round(64 * unit)
    background = natural_picture(height_px + room, width_px + room, rng)
    noise = rng.normal(0, 2, (2 * height_px, 2 * width_px, 3)).astype(np.float32)  # each frame shows another part of it
    thing_height_px, thing_width_px = round(80 * unit), round(60 * unit)
    things = [natural_picture(thing_height_px, thing_width_px, rng) for _ in range(3)]
    for index in range(NUM_FRAMES):
        top, left = round((32 + 30 * np.sin(index / 70)) * unit), round((32 + 30 * np.cos(index / 50)) * unit)
        frame = background[top : top + height_px, left : left + width_px].copy()
        for number, thing in enumerate(things):
            top = round((88 + 80 * np.sin(index / 20 + number)) * unit)
            left = round((140 + 130 * np.cos(index / 25 + 2 * number)) * unit)
            frame[top : top + thing_height_px, left : left + thing_width_px] = thing
        top, left = rng.integers(height_px), rng.integers(width_px)
        yield (frame + noise[top : top + height_px, left : left + width_px]).clip(0, 255).astype(np.uint8)


def natural_picture(height_px: int, width_px: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """[Y,X,3] in 0 to 255: amplitudes fall with frequency as in natural pictures, and colours vary less than light."""
    frequency = np.hypot(np.fft.fftfreq(height_px)[:, None], np.fft.fftfreq(width_px)[None])
    amplitude = 1 / np.maximum(frequency, 1 / width_px) ** 1.4
    light, *colours = (
        np.fft.ifft2(np.fft.fft2(rng.standard_normal((height_px, width_px))) * amplitude).real for _ in range(4)
    )
    picture = np.stack([light + 0.3 * colour for colour in colours], axis=2)
    return np.asarray((128 + 50 * (picture - picture.mean()) / picture.std()).clip(0, 255), np.float32)


class Case(NamedTuple):
    """A kind of video."""

    name: str
    draw: Draw
    width_px: int
    height_px: int


CASES = [
    Case("pan 340×256", pan, 340, 256),
    Case("scene 340×256", scene, 340, 256),
    Case("scene 1280×720", scene, 1280, 720),
]


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


def write_video(path: Path, case: Case, seed: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = case.width_px, case.height_px, "yuv420p"
        stream.gop_size = 250
        for frame in case.draw(case.width_px, case.height_px, np.random.default_rng(seed)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))


def write_with(codec: Codec, path: Path, clip: ShortClip) -> None:
    with av.open(str(path), "w") as container:
        rate = Fraction(len(clip.frames)) / (clip.end * clip.time_base)
        stream = container.add_stream(codec.name, rate=rate, options=codec.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = clip.frames[0].width, clip.frames[0].height
        stream.pix_fmt, stream.gop_size = codec.pixel_format, codec.gop_size
        for index, frame in enumerate(clip.frames):
            small = frame.reformat(format=codec.pixel_format)
            small.pts, small.time_base, small.pict_type = index, 1 / rate, PictureType.NONE
            container.mux(stream.encode(small))
        container.mux(stream.encode(None))


def read(path: Path) -> Frames:
    """uint8 [16,Y,X,3], as training reads it."""
    return decode_video(path, Sampling(NUM_READ), short_side_px=FORMAT.short_side_px)


def read_by_plain_loop(path: Path) -> list[Frames]:
    """The same frames, neither skipping nor scaling any."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = list(container.decode(stream))
    chosen = ((2 * part + 1) * len(frames) // (2 * NUM_READ) for part in range(NUM_READ))
    return [np.asarray(frames[index].to_ndarray(format="rgb24"), np.uint8) for index in chosen]


def milliseconds(paths: list[Path], seconds: float, read: Callable[[Path], object] = read) -> float:
    """CPU time in which the 16 frames of one of them are read."""
    read(paths[0])
    started = time.process_time()
    for count, path in enumerate(itertools.cycle(paths), start=1):
        read(path)
        spent = time.process_time() - started
        if spent > seconds and count % len(paths) == 0:
            return 1e3 * spent / count
    raise AssertionError("unreachable")


def psnr_db(path: Path, clip: ShortClip) -> float:
    with av.open(str(path)) as container:
        pairs = zip(container.decode(video=0), clip.frames, strict=True)
        errors = [
            np.mean((np.float64(copy.to_ndarray(format="rgb24")) - frame.to_ndarray(format="rgb24")) ** 2)
            for copy, frame in pairs
        ]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def measure(table: Table, case: Case, folder: Path, num_clips: int, seconds: float) -> dict[str, float]:
    """Add the rows of a kind of video; how many times as fast as the video each copy is read."""
    videos = [folder / f"{seed}.mp4" for seed in range(num_clips)]
    for seed, path in enumerate(videos):
        write_video(path, case, seed)
    before = milliseconds(videos, seconds)
    plain = milliseconds(videos, seconds, read_by_plain_loop)
    table.add_row(case.name, kilobytes(videos), f"{before:.1f}", f"{1e3 / before:.0f}")
    times = {"plain loop": before / plain}
    table.add_row("  by a plain loop", "", f"{plain:.1f}", f"{1e3 / plain:.0f}", f"{before / plain:.1f}")
    rows = (ManifestRow("", path.name, 0, root=folder) for path in videos)
    clips = [shorten(row, FORMAT.num_frames, FORMAT.short_side_px) for row in rows]
    ways = {"cover pack": write_short_clip}
    ways |= {name: partial(write_with, codec) for name, codec in CODECS.items()}
    for name, write in ways.items():
        copies = [path.with_suffix(".copy.mp4") for path in videos]
        for path, clip in zip(copies, clips, strict=True):
            write(path, clip)
        now = milliseconds(copies, seconds)
        psnr = np.mean([psnr_db(path, clip) for path, clip in zip(copies, clips, strict=True)])
        times[name] = before / now
        columns = f"{now:.1f}", f"{1e3 / now:.0f}", f"{times[name]:.1f}", f"{psnr:.1f}"
        table.add_row(f"  {name}", kilobytes(copies), *columns)
    return {f"{case.name}: {name}, times as fast": value for name, value in times.items()}


def kilobytes(paths: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / len(paths) / 1e3:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=2, help="videos of each kind")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each measurement")
    parser.add_argument("--only", default="", help="kinds of videos with this in their name")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    columns = ("kB", "ms", "clips/s", "times as fast", "PSNR, dB")
    table = Table(Column("file", no_wrap=True), *(Column(name, justify="right") for name in columns))
    ratios: dict[str, float] = {}
    for case in CASES:
        if arguments.only in case.name:
            with tempfile.TemporaryDirectory() as folder:
                ratios |= measure(table, case, Path(folder), arguments.num_clips, arguments.seconds)
    Console(width=110).print(table)
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
