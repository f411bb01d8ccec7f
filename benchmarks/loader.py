"""How many training clips a second one core decodes and crops, per kind of file, from files and from a FrameCache.

    python benchmarks/loader.py [--num-clips 8] [--seconds 3]

One process and one thread, in seconds of the processor; workers of a loader multiply it. Files are made on the spot
from a moving random texture.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.media.cache import FrameCache
from cover.media.reader import ClipReader
from cover.mixture.mixture import default_short_side_px

FPS = 25


@dataclass(frozen=True)
class Case:
    """A kind of file, and how training reads it. `num_frames` 1 with `seconds` 0 is an image."""

    name: str
    width_px: int
    height_px: int
    seconds: int
    keyframe_interval: int
    num_frames: int
    crop_px: int

    @property
    def short_side_px(self) -> tuple[int, int]:
        return default_short_side_px(self.crop_px)


CASES = [
    Case("video 160×120, 2 s, keyframes every 12", 160, 120, 2, 12, 8, 96),
    Case("video 320×240, 3 s, keyframes every 12", 320, 240, 3, 12, 8, 224),
    Case("video 340×256, 10 s, keyframes every 250", 340, 256, 10, 250, 16, 224),
    Case("video 340×256, 10 s, keyframes every 12", 340, 256, 10, 12, 16, 224),
    Case("JPEG 160×120", 160, 120, 0, 0, 1, 96),
    Case("JPEG 500×375", 500, 375, 0, 0, 1, 224),
    Case("video 340×256, 10 s, keyframes every 250", 340, 256, 10, 250, 16, 448),
]


def texture(height_px: int, width_px: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """uint8 [Y,X,3] with detail at several scales, so that files are about as large as those of real scenes."""
    total = np.zeros((height_px, width_px, 3))
    for scale in (4, 16, 64):
        noise = rng.integers(0, 256, (height_px // scale + 1, width_px // scale + 1, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(noise).resize((width_px, height_px), Image.Resampling.BICUBIC)) / 3
    return total.astype(np.uint8)


def write_clip(path: Path, case: Case, rng: np.random.Generator) -> None:
    """A window that moves over a texture."""
    num_frames = case.seconds * FPS or 1
    scene = texture(case.height_px + num_frames, case.width_px + 2 * num_frames, rng)
    windows = [scene[i : i + case.height_px, 2 * i : 2 * i + case.width_px] for i in range(num_frames)]
    if not case.seconds:
        Image.fromarray(windows[0]).save(path, quality=90)
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = case.width_px, case.height_px, "yuv420p"
        stream.gop_size = case.keyframe_interval
        for window in windows:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(window))))
        container.mux(stream.encode(None))


def write_dataset(folder: Path, case: Case, num_clips: int) -> Manifest:
    suffix = "mp4" if case.seconds else "jpg"
    (folder / "class").mkdir(parents=True)
    for index in range(num_clips):
        write_clip(folder / "class" / f"{index}.{suffix}", case, np.random.default_rng(index))
    return index_folder(folder, kind="video" if case.seconds else "image", out=folder)[0]


def clips_per_second(reader: ClipReader, seconds: float) -> float:
    """Training clips read a second, round and round through the dataset for about `seconds`."""
    reader.train_clip(0, seed=0)
    start = time.process_time()
    for count in itertools.count(1):
        reader.train_clip(count % len(reader.manifest), seed=count)
        elapsed = time.process_time() - start
        if elapsed > seconds:
            return count / elapsed
    raise AssertionError("unreachable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=8, help="files of each kind")
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(Column("file", no_wrap=True), "frames", "crop", "KB", "clips/s", "cached clips/s", "cached MB")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            manifest = write_dataset(Path(folder) / "clips", case, arguments.num_clips)
            cache = FrameCache.fill(manifest, num_frames=case.num_frames, max_short_side_px=case.short_side_px[1])
            rates = [
                clips_per_second(
                    ClipReader(manifest, case.num_frames, case.crop_px, case.short_side_px, True, cache=used),
                    arguments.seconds,
                )
                for used in (None, cache)
            ]
            kilobytes = sum(row.file.stat().st_size for row in manifest) / len(manifest) / 1e3
            megabytes = cache.num_bytes / len(manifest) / 1e6
        table.add_row(
            case.name,
            str(case.num_frames),
            str(case.crop_px),
            f"{kilobytes:.0f}",
            f"{rates[0]:.1f}",
            f"{rates[1]:.1f}",
            f"{megabytes:.2f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
