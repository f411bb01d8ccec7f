"""Perceptual hashes of a few frames of every sample, kept in a file beside the manifest.

    k400-train.arrow
    k400-train.5f1c09d2.hashes.npy      a row a sample: 4 frames × (the whole frame and 9 crops of it) × 144 bits

A hash says where a frame's coarse structure is lighter or darker than its median (`imagehash.phash`). Compression,
scale, aspect ratio and brightness hardly change it. Cutting off an edge does, so crops are hashed too, of which one is
near whatever a small cut leaves.
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
"""A hash holds HASH_SIDE² coefficients of a cosine transform. With 8, as is usual, cropped copies are as near as other
scenes are; with 16, crops tell too much."""
HASH_BYTES = HASH_SIDE**2 // 8
CROP_SHARE = 0.92
CROPS = tuple(product((0.0, 0.5, 1.0), repeat=2))
"""Where the crops lie, of CROP_SHARE of each side: x from left to right, y from top to bottom."""

NUM_VIEWS = 1 + len(CROPS)

_WORK_PX = 128  # side that a frame is squeezed to first; the transform is of 48 × 48
_BAR_LEVEL = 5  # mean grey value up to which a row or column at the border is a black bar
_MIN_DEVIATION = 6  # of grey values, below which a frame shows nothing to recognise; scenes at night have 10


def hash_frames(frames: npt.NDArray[np.uint8]) -> Hashes:
    """uint8 [T,NUM_VIEWS,HASH_BYTES] of frames uint8 [T,Y,X,3]; zeros for a frame that shows nothing."""
    import imagehash

    hashes = np.zeros((len(frames), NUM_VIEWS, HASH_BYTES), np.uint8)
    for place, frame in enumerate(frames):
        picture = _without_bars(Image.fromarray(frame).convert("L")).resize((_WORK_PX, _WORK_PX), Image.Resampling.BOX)
        if ImageStat.Stat(picture).stddev[0] >= _MIN_DEVIATION:
            views = [picture, *(_cropped(picture, *at) for at in CROPS)]
            hashes[place] = [np.packbits(imagehash.phash(view, HASH_SIDE).hash) for view in views]
    return hashes


def read_hashes(manifest: Manifest, pool: Pool) -> Hashes:
    """uint8 [rows,T,NUM_VIEWS,HASH_BYTES], a mapped file; zeros where there is nothing to recognise or no frame.

    T is NUM_FRAMES, or 1 of images. What the file does not have yet is decoded and hashed first, by `pool`; an
    interrupted call goes on where it was.

    Raises CoverError when imagehash is not installed.
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
    """None where no frame can be decoded."""
    try:
        return hash_frames(decode_clip(manifest[row], manifest.kind, NUM_FRAMES, short_side_px=_WORK_PX))
    except DecodeError:
        return None


def _without_bars(grey: Image.Image) -> Image.Image:
    """The picture inside black bars; as it is where that is less than a quarter, for then it is just dark."""
    levels = np.asarray(grey, np.float32)
    rows, columns = (np.flatnonzero(levels.mean(axis) > _BAR_LEVEL) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return grey
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    inside = grey.crop(box)
    return inside if 4 * inside.width * inside.height >= grey.width * grey.height else grey


def _cropped(picture: Image.Image, x: float, y: float) -> Image.Image:
    """CROP_SHARE of each side, at 0 (left, top) to 1 (right, bottom)."""
    side = round(_WORK_PX * CROP_SHARE)
    left, top = round((_WORK_PX - side) * x), round((_WORK_PX - side) * y)
    return picture.crop((left, top, left + side, top + side))
