"""What a training clip costs on one core, from files and from a FrameCache: time, opened files, bytes and rows read.

    python benchmarks/loader.py [--num-clips 8] [--seconds 3]

One process and one thread, in seconds of the processor; workers of a loader multiply it. Files are made on the spot
from a moving random texture. The second table is for Linux: inotify counts how often files and folders are opened, and
/proc/self/io the calls that read and their bytes; both also see C libraries such as FFmpeg. Neither counts memory that
is mapped, which is how manifests and caches are read.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import shutil
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest, ManifestRow, write_findings, write_manifest
from cover.datasets.names import Kind
from cover.media.cache import FrameCache
from cover.media.decode import probe_row
from cover.media.reader import ClipReader
from cover.mixture.mixture import Dataset, Mixture, default_short_side_px
from results import Ratios, write_results

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


VIDEO, IMAGE = CASES[1], CASES[5]
"""What the second table stores in several ways."""

CODECS = {
    ".mp4": ("libx264", {"crf": "23"}),
    ".webm": ("libvpx-vp9", {"crf": "33", "b": "0", "cpu-used": "8", "deadline": "realtime"}),
}

IN_OPEN = 0x20
EVENT = struct.Struct("iIII")
"""inotify's mask of an opened file, and the head of its events; a name follows, whose length is the last number."""


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
    if path.suffix == ".webp":
        first, *others = map(Image.fromarray, windows)
        first.save(path, save_all=True, append_images=others, duration=1000 // FPS, method=0)
        return
    with av.open(str(path), "w") as container:
        codec, options = CODECS[path.suffix]
        stream = container.add_stream(codec, rate=FPS, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = case.width_px, case.height_px, "yuv420p"
        stream.gop_size = case.keyframe_interval
        for window in windows:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(window))))
        container.mux(stream.encode(None))


def write_dataset(folder: Path, case: Case, num_clips: int, num_classes: int = 1) -> Manifest:
    suffix = "mp4" if case.seconds else "jpg"
    for index in range(num_clips):
        path = folder / f"class {index % num_classes}" / f"{index}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, case, np.random.default_rng(index))
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


def as_files(folder: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows of files of their own."""
    yield from ({"path": file.name} for file in files)


def as_members(folder: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows of members of one tar."""
    with tarfile.open(folder / "all.tar", "w") as tar:
        for file in files:
            tar.add(file, file.name)
    with tarfile.open(folder / "all.tar") as tar:
        yield from ({"path": "all.tar", "offset": member.offset_data, "length": member.size} for member in tar)


def as_cells(folder: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file. Its row groups have 4 rows and can only be read as a whole."""
    cells = pa.array([{"bytes": file.read_bytes()} for file in files], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": cells}), folder / "all.parquet", row_group_size=4, use_dictionary=False)
    yield from ({"path": "all.parquet", "offset": number} for number in range(len(files)))


def as_frames(folder: Path, files: list[Path]) -> Iterator[dict[str, Any]]:
    """Rows of folders with a JPEG for each frame, all of the first video."""
    first = folder / "frames"
    first.mkdir()
    with av.open(str(files[0])) as container:
        for number, frame in enumerate(container.decode(video=0)):
            frame.to_image().save(first / f"{number:05d}.jpg")
    for file in files:
        frames = shutil.copytree(first, folder / f"frames-{file.stem}")
        yield {"path": frames.name, "fps": float(FPS)}


STORED: dict[str, tuple[str, Callable[[Path, list[Path]], Iterator[dict[str, Any]]]]] = {
    "MP4": ("mp4", as_files),
    "MP4 in a tar": ("mp4", as_members),
    "MP4 in Parquet": ("mp4", as_cells),
    "WebM": ("webm", as_files),
    "WebM, checked": ("webm", as_files),
    "WebM in a tar, checked": ("webm", as_members),
    "WebP in a tar, animated": ("webp", as_members),
    "frame folder": ("mp4", as_frames),
    "JPEG": ("jpg", as_files),
    "JPEG in a tar": ("jpg", as_members),
    "JPEG in Parquet": ("jpg", as_cells),
    "MP4, cached": ("mp4", as_files),
}
"""How samples are stored → the suffix of their files, and what makes rows of them."""


def store(folder: Path, how: str, num_stored: int) -> Manifest:
    """Write samples, videos of 3 s or JPEGs. If they are checked, the manifest has what `cover check` finds."""
    suffix, make = STORED[how]
    kind: Kind = "image" if suffix == "jpg" else "video"
    files = [folder / f"{number}.{suffix}" for number in range(num_stored)]
    write_clip(files[0], IMAGE if kind == "image" else VIDEO, np.random.default_rng(0))
    for file in files[1:]:
        shutil.copyfile(files[0], file)
    rows = [{"sample_id": str(number), "label": 0, **row} for number, row in enumerate(make(folder, files))]
    path = folder / "all.arrow"
    manifest = write_manifest(path, rows, name="all", kind=kind, split="train", class_names=["class"], root=folder)
    if not how.endswith("checked"):
        return manifest
    seconds = probe_row(manifest[0], kind).duration_seconds  # all are copies of the first
    return write_findings(manifest, {"duration_seconds": [seconds] * len(manifest)})


class Reading(NamedTuple):
    """Calls that read, their bytes, files and folders that are opened, and rows of manifests."""

    calls: int
    num_bytes: int
    opens: int
    rows: int


def reading(folder: Path, work: Callable[[], object]) -> Reading:
    """Count what `work` reads. Files and folders count as opened if they are in `folder`."""
    libc, rows, make_row = ctypes.CDLL(None), itertools.count(), ManifestRow.__init__
    watch = libc.inotify_init1(os.O_NONBLOCK)
    for path in (folder, *folder.rglob("*")):
        libc.inotify_add_watch(watch, os.fsencode(path), IN_OPEN)

    def counting(row: ManifestRow, *values: Any, **named: Any) -> None:
        next(rows)
        make_row(row, *values, **named)

    before = calls_that_read()
    with patch.object(ManifestRow, "__init__", counting):
        work()
    after = calls_that_read()
    opens = opened(watch)
    os.close(watch)
    return Reading(after[0] - before[0], after[1] - before[1], opens, next(rows))


def calls_that_read() -> tuple[int, int]:
    """How many calls of this process have read, and how many bytes."""
    facts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(facts["syscr"]), int(facts["rchar"])


def opened(watch: int) -> int:
    """How many files and folders have been opened.

    Each file has two events, its own and one of its folder, which has a name. inotify merges events that are equal to
    the one before, and these never are.
    """
    try:
        events = os.read(watch, 2**20)
    except BlockingIOError:
        return 0
    count = 0
    while events:
        *_, length = EVENT.unpack_from(events)
        count += not length
        events = events[EVENT.size + length :]
    return count


def reading_table(seconds: float, num_stored: int) -> tuple[Table, Ratios]:
    """What one sample reads, through the mixture, for each way to store samples; how often it is opened."""
    ratios: Ratios = {}
    columns = "frames", "crop", "KB", "opens", "reads", "KB read", "rows", "clips/s"
    table = Table(Column("stored as", no_wrap=True), *columns, title="each sample")
    for how in STORED:
        with tempfile.TemporaryDirectory() as name:
            manifest = store(Path(name), how, num_stored)
            case = IMAGE if manifest.kind == "image" else VIDEO
            frames = list((Path(name) / "frames").glob("*"))
            sizes = [file.stat().st_size for file in frames or Path(name).glob(f"0.{STORED[how][0]}")]
            size = sum(sizes) / len(sizes) * (case.num_frames if frames else 1)
            counts, rate = measured(manifest, case, Path(name), cache_frames=how.endswith("cached"), seconds=seconds)
        calls, num_bytes, opens, rows = counts
        numbers = f"{size / 1e3:.0f}", f"{opens:.2f}", f"{calls:.1f}", f"{num_bytes / 1e3:.0f}", f"{rows:.2f}"
        table.add_row(how, str(case.num_frames), str(case.crop_px), *numbers, f"{rate:.1f}")
        ratios[f"{how}: opens a sample"] = opens
    return table, ratios


def measured(
    manifest: Manifest, case: Case, folder: Path, *, cache_frames: bool, seconds: float
) -> tuple[list[float], float]:
    """What a sample reads when it is read for the first time, and samples a second."""
    dataset = Dataset(manifest, num_frames=case.num_frames, cache_frames=cache_frames)
    batch_size = len(manifest) // 6
    mixture = Mixture([dataset], batch_size=batch_size, image_size=case.crop_px, num_steps=10**6)
    batches = iter(mixture)
    next(batches)  # imports, and what is read once for a whole shard
    idle = reading(folder, lambda: None)
    found = reading(folder, lambda: list(itertools.islice(batches, 5)))
    start, count = time.process_time(), 0
    while (elapsed := time.process_time() - start) < seconds:
        next(batches)
        count += batch_size
    return [(one - other) / (5 * batch_size) for one, other in zip(found, idle, strict=True)], count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=8, help="files of each kind")
    parser.add_argument("--num-stored", type=int, default=96, help="samples of the second table; at least 6")
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each measurement")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(Column("file", no_wrap=True), "frames", "crop", "KB", "clips/s", "cached clips/s", "cached MB")
    ratios: Ratios = {}
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
        ratios[f"{case.name}, {case.crop_px} px: cached ÷ files"] = rates[1] / rates[0]
        table.add_row(
            case.name,
            str(case.num_frames),
            str(case.crop_px),
            f"{kilobytes:.0f}",
            f"{rates[0]:.1f}",
            f"{rates[1]:.1f}",
            f"{megabytes:.2f}",
        )
    console = Console(width=110)
    console.print(table)
    if Path("/proc/self/io").exists():
        reads, opens = reading_table(arguments.seconds, arguments.num_stored)
        console.print(reads)
        ratios |= opens
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
