"""Perceptual hashes of a few frames of every sample, kept in a file beside the manifest.

    k400-train.arrow
    k400-train.5f1c09d2.hashes.npy      a row a sample: 4 frames × (the whole frame and 9 crops of it) × 144 bits

A hash records where a frame's coarse structure is lighter or darker than its median (`imagehash.phash`). Compression,
scale, aspect ratio and brightness hardly change it. Cutting off an edge does, so crops are hashed, too; one of them is
close to any slightly cropped copy.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from importlib.util import find_spec
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageStat

from cover.core.process_pool import Lost, available_cpus, run_in_processes
from cover.core.progress import progress_bar
from cover.curation.dataset_pass import Pool
from cover.datasets.manifest import Manifest
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip

Hashes = npt.NDArray[np.uint8]

NUM_FRAMES = 4
HASH_SIDE = 12
"""A hash has HASH_SIDE² coefficients of a cosine transform. With the usual 8, cropped copies are as close as other
scenes; with 16, crops change too many bits.
"""
HASH_BYTES = HASH_SIDE**2 // 8
CROP_SHARE = 0.92
CROPS = tuple(product((0.0, 0.5, 1.0), repeat=2))
"""The positions of the crops, which have CROP_SHARE of each side: x from left to right, y from top to bottom."""

NUM_VIEWS = 1 + len(CROPS)

_WORK_PX = 128  # a frame is first scaled to this square; the transform works on 48 × 48
_BAR_LEVEL = 5  # a row or column at the border with at most this mean grey value is a black bar
_MIN_DEVIATION = 6  # below this standard deviation of grey values a frame has no content; night scenes have 10


def hash_frames(frames: npt.NDArray[np.uint8]) -> Hashes:
    """Return the hashes of frames.

    Args:
        frames: uint8 [T,Y,X,3].

    Returns:
        uint8 [T,NUM_VIEWS,HASH_BYTES]; zeros for a frame without recognisable content.
    """
    import imagehash

    hashes = np.zeros((len(frames), NUM_VIEWS, HASH_BYTES), np.uint8)
    for place, frame in enumerate(frames):
        picture = _without_bars(Image.fromarray(frame).convert("L")).resize((_WORK_PX, _WORK_PX), Image.Resampling.BOX)
        if ImageStat.Stat(picture).stddev[0] >= _MIN_DEVIATION:
            views = [picture, *(_cropped(picture, *at) for at in CROPS)]
            hashes[place] = [np.packbits(imagehash.phash(view, HASH_SIDE).hash) for view in views]
    return hashes


def read_hashes(manifest: Manifest, pool: Pool) -> Hashes:
    """Return the hashes of all samples, as a memory-mapped array.

    Samples that the file does not contain yet are decoded and hashed first. An interrupted call continues where it
    stopped.

    Args:
        manifest: The samples.
        pool: The processes that decode.

    Returns:
        uint8 [rows,T,NUM_VIEWS,HASH_BYTES], where T is NUM_FRAMES for videos and 1 for images; zeros where a frame
            cannot be decoded or has no recognisable content.

    Raises:
        CoverError: imagehash is not installed.
    """
    num_frames = NUM_FRAMES if manifest.kind == "video" else 1
    shape = (num_frames, NUM_VIEWS, HASH_BYTES)
    path = manifest.path.with_suffix(f".{manifest.digest[:8]}.hashes.npy")
    mode = "r+" if path.exists() else "w+"
    table = np.lib.format.open_memmap(path, mode, np.uint8, (len(manifest), 1 + int(np.prod(shape))))
    is_done, hashes = table[:, 0], table[:, 1:]
    todo = np.flatnonzero(is_done == 0).tolist()
    if todo:
        _fill(manifest, todo, is_done, hashes, pool)
    return hashes.reshape(len(manifest), *shape)


def _fill(manifest: Manifest, todo: list[int], is_done: Hashes, hashes: Hashes, pool: Pool) -> None:
    if find_spec("imagehash") is None:
        raise CoverError("imagehash is not installed; pip install 'cover-video[leaks]', or pass --no-frames")
    results = run_in_processes(
        partial(_hash_sample, manifest),
        todo,
        num_processes=min(pool.num_processes or available_cpus(), len(todo)),
        timeout_seconds=pool.timeout_seconds,
    )
    with progress_bar("files", transient=True) as progress, closing(results):
        bar = progress.add_task(f"hashing {manifest.name} {manifest.split}", total=len(todo))
        for row, found in results:
            hashes[row] = 0 if found is None or isinstance(found, Lost) else found.ravel()
            is_done[row] = 1
            progress.advance(bar)


def _hash_sample(manifest: Manifest, row: int) -> Hashes | None:
    """Return the hashes of a sample, or None if it cannot be decoded."""
    try:
        return hash_frames(decode_clip(manifest[row], manifest.kind, NUM_FRAMES, short_side_px=_WORK_PX))
    except DecodeError:
        return None


def _without_bars(grey: Image.Image) -> Image.Image:
    """Return the picture inside black bars.

    If less than a quarter would remain, the picture is just dark and is returned as it is.
    """
    levels = np.asarray(grey, np.float32)
    rows, columns = (np.flatnonzero(levels.mean(axis) > _BAR_LEVEL) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return grey
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    inside = grey.crop(box)
    return inside if 4 * inside.width * inside.height >= grey.width * grey.height else grey


def _cropped(picture: Image.Image, x: float, y: float) -> Image.Image:
    """Cut out CROP_SHARE of each side. Positions go from 0 (left, top) to 1 (right, bottom)."""
    side = round(_WORK_PX * CROP_SHARE)
    left, top = round((_WORK_PX - side) * x), round((_WORK_PX - side) * y)
    return picture.crop((left, top, left + side, top + side))
