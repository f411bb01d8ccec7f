"""Clips a second on one core, and frames wrong, for 16 frames spread evenly over a file: ours beside other decoders.

    python benchmarks/decode.py [--rounds 15] [--only h.264]

Each kind of file is made on the spot from a texture that moves; a strip of black and white blocks at the top of each
frame holds its number. All contestants decode with one thread. They take turns in every round, and the median of the
rounds counts, in seconds of the processor, so that other work on the machine disturbs little and all alike. The bare
loop decodes every frame through PyAV and converts the chosen ones. torchcodec, decord and opencv-python-headless take
part if they are installed; they are told the numbers of the frames shown at the wanted times, or those times, while
ours finds the times by itself.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

os.environ["OPENCV_FFMPEG_THREADS"] = "1"

import av
import numpy as np
import numpy.typing as npt
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.media.decode import decode_clip
from cover.media.pixels import scaled_size
from results import write_results

Frames = npt.NDArray[np.uint8]
FPS = 25
NUM_CHOSEN = 16


@dataclass(frozen=True)
class Case:
    """A kind of file. A `suffix` of an image with one frame is an image, with more a folder of frames."""

    name: str
    suffix: str = "mp4"
    codec: str = "libx264"
    keyframe_interval: int = 250
    width_px: int = 340
    height_px: int = 256
    num_frames: int = 250
    pixel_format: str = "yuv420p"
    variable_rate: bool = False
    short_side_px: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_video_file(self) -> bool:
        return self.suffix != "jpg"

    @property
    def kind(self) -> Kind:
        return "video" if self.num_frames > 1 else "image"

    @property
    def num_chosen(self) -> int:
        return min(self.num_frames, NUM_CHOSEN)

    def times_ms(self) -> list[int]:
        """When each frame begins to be shown."""
        steps = np.full(self.num_frames, 1000 // FPS)
        if self.variable_rate:
            steps = np.random.default_rng(0).integers(10, 100, self.num_frames)
        return [0, *np.cumsum(steps)[:-1].tolist()]


CASES = [
    Case("H.264, keyframes every 250"),
    Case("H.264, keyframes every 12", keyframe_interval=12),
    Case("H.264, variable frame rate", keyframe_interval=50, variable_rate=True),
    Case("H.264, MKV, keyframes every 50", "mkv", keyframe_interval=50),
    Case("H.264 1280×720, 4 s", keyframe_interval=50, width_px=1280, height_px=720, num_frames=100),
    Case("H.264 1280×720, 4 s, at 320", "mp4", "libx264", 50, 1280, 720, 100, short_side_px=320),
    Case("HEVC", codec="libx265", options={"preset": "fast", "x265-params": "log-level=error:pools=1"}),
    Case("VP9, WebM", "webm", "libvpx-vp9", 128, options={"cpu-used": "8", "deadline": "realtime", "b": "600k"}),
    Case("AV1", codec="libsvtav1", options={"preset": "10", "svtav1-params": "lp=1"}),
    Case("MPEG-4, AVI, 320×240", "avi", "mpeg4", 12, 320, 240, options={"qscale": "4", "bf": "2"}),
    Case("GIF, 240×180, 4 s", "gif", "gif", 12, 240, 180, 100, "rgb8"),
    Case("JPEG image, 500×375", "jpg", width_px=500, height_px=375, num_frames=1),
    Case("folder of 250 JPEGs", "jpg"),
]


def texture(height_px: int, width_px: int, rng: np.random.Generator) -> Frames:
    """uint8 [Y,X,3] with detail at several scales, so that files are about as large as those of real scenes."""
    total = np.zeros((height_px, width_px, 3))
    for scale in (4, 16, 64):
        noise = rng.integers(0, 256, (height_px // scale + 1, width_px // scale + 1, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((width_px, height_px), Image.Resampling.BICUBIC)) / 3
    return total.astype(np.uint8)


def scenes(case: Case) -> Iterable[Frames]:
    """Frame after frame: a window that moves over a texture, with its number in sixteen blocks at the top."""
    scene = texture(case.height_px + case.num_frames, case.width_px + 2 * case.num_frames, np.random.default_rng(1))
    blocks = np.arange(case.width_px) * 16 // case.width_px
    for number in range(case.num_frames):
        frame = scene[number:, 2 * number :][: case.height_px, : case.width_px].copy()
        frame[: case.height_px // 8] = 255 * (number >> blocks & 1)[None, :, None]
        yield frame


def read_number(frame: Frames) -> int:
    strip = frame[frame.shape[0] // 32 : frame.shape[0] // 10].mean(axis=(0, 2))
    centres = (2 * np.arange(16) + 1) * len(strip) // 32
    return int(((strip[centres] > 127) << np.arange(16)).sum())


def write_file(folder: Path, case: Case) -> Path:
    path = folder / f"file.{case.suffix}"
    if not case.is_video_file:
        folder.mkdir()
        for number, frame in enumerate(scenes(case)):
            Image.fromarray(frame).save(folder / f"img_{number + 1:05}.jpg", quality=90)
        return folder if case.num_frames > 1 else folder / "img_00001.jpg"
    folder.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(case.codec, rate=FPS, options=case.options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = case.width_px, case.height_px, case.pixel_format
        stream.gop_size = case.keyframe_interval
        time_base = Fraction(1, 1000) if case.variable_rate else Fraction(1, FPS)
        stream.codec_context.time_base = time_base
        for index, (pixels, time_ms) in enumerate(zip(scenes(case), case.times_ms(), strict=True)):
            picture = av.VideoFrame.from_ndarray(pixels)
            picture.pts, picture.time_base = (time_ms if case.variable_rate else index), time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Task:
    """A file, and what is wanted of it: the frames numbered `numbers`, which are shown at `times_seconds`."""

    case: Case
    path: Path
    numbers: list[int]
    times_seconds: list[float]

    @classmethod
    def of(cls, case: Case, path: Path) -> Task:
        """The middles of 16 equal parts of the video. A player shows the last frame for 1 / FPS."""
        begins = np.asarray(case.times_ms()) / 1000
        seconds = (begins[-1] + 1 / FPS) / case.num_chosen
        times = [(part + 0.5) * seconds for part in range(case.num_chosen)]
        return cls(case, path, [int(np.searchsorted(begins, time + 1e-9, "right")) - 1 for time in times], times)

    @property
    def images(self) -> list[Path]:
        """The image, or those of the folder that are chosen."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return [folder / f"img_{number + 1:05}.jpg" for number in self.numbers]

    @property
    def size(self) -> tuple[int, int]:
        return scaled_size(self.case.width_px, self.case.height_px, self.case.short_side_px)

    def scaled(self, frame: Frames) -> Frames:
        if self.case.short_side_px is None:
            return frame
        return np.asarray(Image.fromarray(frame).resize(self.size, Image.Resampling.BILINEAR))


Decoder = Callable[[Task], Frames]


def ours(task: Task) -> Frames:
    row = ManifestRow("a", str(task.path), 0)
    return decode_clip(row, task.case.kind, NUM_CHOSEN, short_side_px=task.case.short_side_px)


def bare_loop(task: Task) -> Frames:
    if not task.case.is_video_file:
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in task.images])
    with av.open(str(task.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = [frame for index, frame in enumerate(container.decode(stream)) if index in task.numbers]
    reformatter = VideoReformatter()
    pictures = (reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray() for frame in frames)
    return np.stack([task.scaled(np.asarray(picture, np.uint8)) for picture in pictures])


def torchcodec_exact(task: Task) -> Frames:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(task.path), num_ffmpeg_threads=1, seek_mode="exact", dimension_order="NHWC")
    return np.stack([task.scaled(frame) for frame in decoder.get_frames_played_at(task.times_seconds).data.numpy()])


def decord(task: Task) -> Frames:
    from decord import VideoReader

    width_px, height_px = task.size if task.case.short_side_px else (-1, -1)
    reader = VideoReader(str(task.path), width=width_px, height=height_px, num_threads=1)
    return np.asarray(reader.get_batch(task.numbers).asnumpy())


def opencv(task: Task) -> Frames:
    """Grabs every frame and retrieves the chosen ones."""
    import cv2

    if not task.case.is_video_file:
        return np.stack([cv2.imread(str(path))[..., ::-1] for path in task.images])
    capture = cv2.VideoCapture(str(task.path))
    frames: list[Frames] = []
    for number in range(task.numbers[-1] + 1):
        if capture.grab() and number in task.numbers:
            frame = capture.retrieve()[1]
            if task.case.short_side_px:
                frame = cv2.resize(frame, task.size, interpolation=cv2.INTER_AREA)
            frames.append(frame[..., ::-1])
    return np.stack(frames)


def contestants() -> dict[str, Decoder]:
    """By name; those that cannot be imported are left out, and said to be."""
    found: dict[str, Decoder] = {"ours": ours, "bare loop": bare_loop}
    others = {"torchcodec exact": torchcodec_exact, "decord": decord, "OpenCV": opencv}
    for (name, decode), module in zip(others.items(), ("torchcodec.decoders", "decord", "cv2"), strict=True):
        try:
            importlib.import_module(module)
            found[name] = decode
        except (ImportError, OSError, RuntimeError) as error:
            print(f"without {name}: {str(error).strip().splitlines()[0]}")
    return found


@dataclass
class Score:
    """Of one contestant at one file."""

    seconds: list[float] = field(default_factory=list)
    num_wrong: int = 0
    fault: str = ""

    def take_turn(self, decode: Decoder, task: Task) -> None:
        started = time.process_time()
        try:
            frames = decode(task)
        except Exception as error:
            self.fault = type(error).__name__
            return
        self.seconds.append(time.process_time() - started)
        found = [read_number(frame) for frame in frames]
        self.num_wrong = sum(a != b for a, b in zip_longest(found, task.numbers))

    @property
    def clips_per_second(self) -> float:
        return 1 / statistics.median(self.seconds) if self.seconds else 0.0

    def __str__(self) -> str:
        if self.fault:
            return f"cannot ({self.fault})"
        rate = f"{self.clips_per_second:,.{0 if self.clips_per_second > 100 else 1}f}"
        return f"{rate} [red]{self.num_wrong} wrong[/]" if self.num_wrong else rate


def compete(task: Task, decoders: dict[str, Decoder], rounds: int) -> dict[str, Score]:
    scores = {name: Score() for name in decoders}
    for _, (name, decode) in itertools.product(range(rounds), decoders.items()):
        if not scores[name].fault:
            scores[name].take_turn(decode, task)
    return scores


def ratios(scores: dict[str, Score]) -> dict[str, float]:
    """Ours divided by the bare loop, and by decord."""
    rates = {name: score.clips_per_second for name, score in scores.items()}
    return {f"÷ {name}": rates["ours"] / rates[name] for name in ("bare loop", "decord") if rates.get(name)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="times that each contestant decodes each file")
    parser.add_argument("--only", default="", help="kinds of files with this in their name")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    decoders = contestants()
    if "OpenCV" in decoders:
        importlib.import_module("cv2").setNumThreads(1)
    table = Table(Column("clips/s", no_wrap=True), *decoders, "÷ bare loop", "÷ decord")
    num_wrong, found = 0, dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        for index, case in enumerate(CASES):
            if arguments.only.lower() in case.name.lower():
                task = Task.of(case, write_file(Path(folder) / str(index), case))
                scores = compete(task, decoders, arguments.rounds)
                num_wrong += scores["ours"].num_wrong + bool(scores["ours"].fault)
                compared = ratios(scores)
                found |= {f"{case.name}: {name}": ratio for name, ratio in compared.items()}
                table.add_row(case.name, *map(str, scores.values()), *(f"{ratio:.2f}" for ratio in compared.values()))
    Console(width=140).print(table)
    write_results(arguments.json, found)
    raise SystemExit(num_wrong > 0)


if __name__ == "__main__":
    main()
