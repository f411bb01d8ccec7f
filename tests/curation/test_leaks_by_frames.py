from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.curation.scenes import Frames, cut, scaled, scene, with_bars, write_frames

from cover.curation.dataset_pass import Pool
from cover.curation.frame_hashes import HASH_BYTES, hash_frames, read_hashes
from cover.curation.leaks_by_frames import leaks_by_frames
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.datasets.names import Kind

pytest.importorskip("imagehash")

POOL = Pool(num_processes=1)
COPIES: dict[str, Callable[[Frames], Frames]] = {
    "the same": lambda frames: frames,
    "half the size": lambda frames: scaled(frames, 80, 60),
    "another aspect ratio": lambda frames: scaled(frames, 128, 128),
    "5 % cut off in a corner": lambda frames: cut(frames, 0.05, 1.0, 0.0),
    "10 % cut off": lambda frames: cut(frames, 0.1, 0.3, 0.8),
    "black bars": lambda frames: with_bars(frames, 0.15),
    "brighter": lambda frames: np.clip(frames * 1.2 + 10.0, 0, 255).astype(np.uint8),
}


def manifest_of(folder: Path, kind: Kind = "video") -> Manifest:
    return index_folder(folder, kind=kind, out=folder.parent)[0]


def test_badly_encoded_copies_are_found_and_other_scenes_are_not(tmp_path: Path) -> None:
    for seed, (name, change) in enumerate(COPIES.items()):
        write_frames(tmp_path / "originals" / "class" / f"{name}.mp4", scene(seed))
        write_frames(tmp_path / "copies" / "class" / f"{name}.mp4", change(scene(seed)), quality=38)
        write_frames(tmp_path / "copies" / "class" / f"{name}, other.mp4", change(scene(100 + seed)), quality=38)
    train, evaluation = manifest_of(tmp_path / "originals"), manifest_of(tmp_path / "copies")
    leaks = leaks_by_frames(read_hashes(train, POOL), read_hashes(evaluation, POOL))
    found = {train[row].sample_id: evaluation[match].sample_id for row, match in zip(*leaks, strict=True)}
    assert found == {f"class/{name}.mp4": f"class/{name}.mp4" for name in COPIES}


def test_the_copy_may_be_the_larger_cut_too() -> None:
    """The evaluation clip is a cropped training clip, or the other way round."""
    whole = hash_frames(scene(0)[:4])[None]
    part = hash_frames(cut(scene(0)[:4], 0.1, 0.3, 0.8))[None]
    assert leaks_by_frames(whole, part).rows.tolist() == leaks_by_frames(part, whole).rows.tolist() == [0]


def test_images_match_their_smaller_copies(tmp_path: Path) -> None:
    for split, size in (("train", (160, 120)), ("val", (96, 72))):
        for seed in range(6):
            path = tmp_path / "images" / split / "class" / f"{seed + (split == 'val')}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene(seed + (split == "val"))[0]).resize(size).save(path, quality=30)
    train, val = index_folder(tmp_path / "images", kind="image", out=tmp_path)
    leaks = leaks_by_frames(read_hashes(train, POOL), read_hashes(val, POOL))
    assert leaks.rows.tolist() == [1, 2, 3, 4, 5] and leaks.matches.tolist() == [0, 1, 2, 3, 4]


def test_pictures_of_nothing_match_nothing() -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (4, 120, 160, 3))
    plain = [np.full((4, 120, 160, 3), level, np.uint8) + np.abs(noise).astype(np.uint8) for level in (0, 90, 250)]
    hashes = np.stack([hash_frames(frames) for frames in plain])
    assert not hashes.any()
    assert not len(leaks_by_frames(hashes, hashes).rows)


def test_one_frame_in_common_is_not_enough_for_clips() -> None:
    """Like a title that many videos begin with."""
    title, one, other = scene(0)[:1], scene(1)[:3], scene(2)[:3]
    train, evaluation = (hash_frames(np.concatenate([title, rest]))[None] for rest in (one, other))
    assert not len(leaks_by_frames(train, evaluation).rows)


def test_the_nearest_of_many_matches_is_told() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (5000, 4, 2, HASH_BYTES), np.uint8)
    train = hashes[[7, 4321, 7]]
    train[1, :, :, 0] ^= 1
    hashes[9], hashes[9, :, :, :2] = hashes[7], hashes[7, :, :, :2] ^ 3
    leaks = leaks_by_frames(np.concatenate([train, ~train]), hashes)
    assert leaks.rows.tolist() == [0, 1, 2] and leaks.matches.tolist() == [7, 4321, 7]


def test_hashes_are_kept_and_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    for seed in range(3):
        write_frames(tmp_path / "clips" / "class" / f"{seed}.mp4", scene(seed))
    (tmp_path / "clips/class/broken.mp4").write_bytes(b"no video")
    manifest = manifest_of(tmp_path / "clips")
    first = read_hashes(manifest, POOL)
    assert first.any((1, 2, 3)).tolist() == [True, True, True, False]
    for seed in (0, 2):
        (tmp_path / f"clips/class/{seed}.mp4").unlink()
    kept = np.lib.format.open_memmap(next(tmp_path.glob("*.hashes.npy")), "r+")
    kept[1] = 0  # as if it had not been reached
    assert np.array_equal(read_hashes(manifest, POOL), first)
