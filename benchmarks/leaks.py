"""Leaks between a training and an evaluation split: how long finding them takes, and what is found.

    python benchmarks/leaks.py                        by source: a million samples and 100,000; time and peak memory
    python benchmarks/leaks.py --search               by frames: the search alone, in as many random hashes
    python benchmarks/leaks.py --index                by frames: the index of hashes beside those of FAISS
    python benchmarks/leaks.py --robustness MANIFEST  by frames: how many altered copies of a dataset's samples are
                                                      found, and how many pairs of different samples are taken for such

Each prints the peak of its process's memory (RSS), Python and libraries included.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from cover.curation import leaks_by_frames
from cover.curation.frame_hashes import HASH_BYTES, NUM_FRAMES, NUM_VIEWS, hash_frames
from cover.curation.leaks import find_leaks
from cover.curation.leaks_by_frames import MAX_DISTANCE, matching
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.media.decode import decode_clip
from results import write_results

Frames = npt.NDArray[np.uint8]


def write_split(folder: Path, split: str, first: int, num_rows: int) -> Path:
    """Files as Kinetics names them, `first` to `first + num_rows`; every third has its times in columns instead."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    rows = []
    for number in range(first, first + num_rows):
        clip = "".join(alphabet[number // 64**digit % 64] for digit in range(10)) + "A"
        start = number % 300 + (number % 7 if split == "val" else 0)
        if number % 3:
            path = f"train/class number {number % 700}/{clip}_{start:06d}_{start + 10:06d}.mp4"
            rows.append(ManifestRow(path, path, 0))
        else:
            times = {"source_start_seconds": float(start), "source_end_seconds": start + 10.0}
            rows.append(ManifestRow(f"{number}", f"{number}.mp4", 0, source_id=clip, **times))  # type: ignore[arg-type]
    file = folder / f"{split}.arrow"
    write_manifest(file, rows, name="big", kind="video", split=split, class_names=["a"], root=f"/data/{split}")
    return file


def by_source(num_train: int, num_val: int) -> None:
    with tempfile.TemporaryDirectory() as name, multiprocessing.get_context("spawn").Pool(1) as writer:
        splits = [(Path(name), "train", 0, num_train), (Path(name), "val", num_train - 1000, num_val)]
        paths = writer.starmap(write_split, splits)  # elsewhere, as its memory is not what is asked for
        started = time.perf_counter()
        leaks = find_leaks([Manifest.open(path) for path in paths], pool=None)
        seconds = time.perf_counter() - started
    found = ", ".join(f"{len(some.rows):,} {some.reason}" for some in leaks)
    print(f"{num_train:,} + {num_val:,} samples by source: {seconds:.1f} s; found {found}")
    print(f"peak memory {peak_mib():,.0f} MiB")


def search(num_train: int, num_val: int) -> None:
    rng = np.random.default_rng(0)
    train, val = (
        rng.integers(0, 256, (num_rows, NUM_FRAMES, NUM_VIEWS, HASH_BYTES), np.uint8)
        for num_rows in (num_train, num_val)
    )
    val[:1000] = train[:1000]
    started = time.perf_counter()
    num_found = len(leaks_by_frames.leaks_by_frames(train, val).rows)
    seconds = time.perf_counter() - started
    print(f"{num_train:,} + {num_val:,} samples by frames: {seconds:.0f} s; {num_found:,} of 1,000 copies found")
    print(f"peak memory {peak_mib():,.0f} MiB, of which the hashes are {(train.nbytes + val.nbytes) / 2**20:,.0f}")


def index(num_hashes: int, num_queries: int, num_flips: list[int]) -> dict[str, float]:
    """Search random hashes in one thread for queries that lie 0 to MAX_DISTANCE bits from one of them each.

    FAISS reads the same bands; with nflip flipped bits a band it finds every hash of at most 9 · nflip + 8 bits
    distance. Returns how many times as long as ours each of its indices takes for a query.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (num_hashes, HASH_BYTES), np.uint8)
    wanted = rng.choice(num_hashes, num_queries, replace=False)
    order = rng.random((num_queries, HASH_BYTES * 8)).argsort(1)
    distances = rng.integers(0, MAX_DISTANCE + 1, (num_queries, 1))
    queries = hashes[wanted] ^ np.packbits(order < distances, axis=1)

    def report(name: str, build_seconds: float, seconds: float, pairs: npt.NDArray[np.int64]) -> None:
        found = np.zeros(num_queries, bool)
        found[pairs[wanted[pairs[:, 0]] == pairs[:, 1], 0]] = True
        print(
            f"{name:20} built in {build_seconds:5.2f} s, {1e6 * seconds / num_queries:11,.1f} µs a query, "
            f"{found.mean():6.1%} found, {len(pairs):,} pairs"
        )

    started = time.perf_counter()
    ours = leaks_by_frames._Index(hashes[:, None, None])
    built = time.perf_counter()
    pairs = np.unique(ours.near(queries[:, None, None]), axis=0)
    ours_seconds = time.perf_counter() - built
    report("ours", built - started, ours_seconds, pairs)
    indices: dict[str, Any] = {"FAISS, all compared": faiss.IndexBinaryFlat(HASH_BYTES * 8)}
    for flips in num_flips:
        hashed = indices[f"FAISS, nflip {flips}"] = faiss.IndexBinaryMultiHash(HASH_BYTES * 8, HASH_BYTES // 2, 16)
        hashed.nflip = flips
    ratios: dict[str, float] = {}
    for name, other in indices.items():
        started = time.perf_counter()
        other.add(hashes)
        built = time.perf_counter()
        limits, _, rows = other.range_search(queries, MAX_DISTANCE + 1)
        seconds = time.perf_counter() - built
        pairs = np.stack([np.repeat(np.arange(num_queries), np.diff(limits.astype(int))), rows], 1)
        report(name, built - started, seconds, pairs)
        ratios[f"query: {name} ÷ ours"] = seconds / ours_seconds
    return ratios


def scaled(frames: Frames, factor: float) -> Frames:
    size = [round(side * factor / 2) * 2 for side in frames.shape[2:0:-1]]
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in frames])


def cut(frames: Frames, share: float, rng: np.random.Generator) -> Frames:
    """Less `share` of each side, what is left somewhere at random."""
    sides = frames.shape[1:3]
    top, left = (rng.integers(round(side * share) + 1) for side in sides)
    height, width = (round(side * (1 - share)) // 2 * 2 for side in sides)
    return frames[:, top : top + height, left : left + width]


def reencoded(frames: Frames) -> Frames:
    """Through H.264 at a bad quality; pictures through JPEG."""
    file = io.BytesIO()
    if len(frames) == 1:
        Image.fromarray(frames[0]).save(file, "JPEG", quality=25)
        return np.asarray(Image.open(file))[None]
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "38"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return np.stack([np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)])


def cut_and_halved(frames: Frames, *, share: float, rng: np.random.Generator) -> Frames:
    return scaled(cut(frames, share, rng), 0.5)


def robustness(path: Path, num_samples: int) -> None:
    rng = np.random.default_rng(0)
    changes: dict[str, Callable[[Frames], Frames]] = {
        "re-encoded": lambda frames: frames,
        "half the size": lambda frames: scaled(frames, 0.5),
        "black bars of 15 %": lambda frames: np.pad(
            frames, ((0, 0), (round(frames.shape[1] * 0.15),) * 2, (0, 0), (0, 0))
        ),
        **{
            f"{share:.0%} cut off, half the size": partial(cut_and_halved, share=share, rng=rng)
            for share in (0.05, 0.08, 0.1, 0.12, 0.15)
        },
    }
    manifest = Manifest.open(path)
    rows = rng.permutation(len(manifest))[:num_samples].tolist()
    originals = [decode_clip(manifest[row], manifest.kind, NUM_FRAMES) for row in rows]
    hashes = np.stack([hash_frames(frames) for frames in originals])
    for name, change in changes.items():
        copies = np.stack([hash_frames(reencoded(change(frames))) for frames in originals])
        found = leaks_by_frames.leaks_by_frames(hashes, copies)
        share = np.mean(found.rows == found.matches) * len(found.rows) / len(rows)
        near = matching(hashes, copies)[0].mean()
        print(f"{name}, badly re-encoded: {share:.1%} found; {near:.1%} are near enough")
    pairs = np.array([pair for pair in product(range(len(rows)), repeat=2) if pair[0] != pair[1]])
    parts = np.array_split(pairs, len(pairs) // 2**16 + 1)
    num_false = sum(matching(hashes[part[:, 0]], hashes[part[:, 1]])[0].sum() for part in parts)
    print(f"of {len(pairs):,} pairs of different samples, {num_false} are taken for copies")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-train", type=int, default=1_000_000)
    parser.add_argument("--num-val", type=int, default=100_000)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--num-hashes", type=int, default=1_000_000)
    parser.add_argument("--num-queries", type=int, default=2048)
    parser.add_argument("--num-flips", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--robustness", type=Path, metavar="MANIFEST")
    parser.add_argument("--num-samples", type=int, default=300)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    options = parser.parse_args()
    ratios: dict[str, float] = {}
    if options.robustness:
        robustness(options.robustness, options.num_samples)
    elif options.index:
        ratios = index(options.num_hashes, options.num_queries, options.num_flips)
    elif options.search:
        search(options.num_train, options.num_val)
    else:
        by_source(options.num_train, options.num_val)
    write_results(options.json, ratios)


if __name__ == "__main__":
    main()
