from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.datasets.names import Kind
from cover.errors import DecodeError, RecipeError
from cover.media.cache import FrameCache
from cover.media.decode import decode_clip
from cover.media.reader import ClipReader

NumbersOf = Callable[[Any], list[int]]


def reader_of(manifest: Manifest, **changes: Any) -> ClipReader:
    options: dict[str, Any] = {"num_frames": 4, "crop_px": 48, "short_side_px": (48, 48), "horizontal_flip": False}
    return ClipReader(manifest, **(options | changes))


def test_a_training_clip_of_a_square_video_shows_whole_frames(video_manifest: Manifest, numbers_of: NumbersOf) -> None:
    clip = reader_of(video_manifest).train_clip(1, seed=7)
    assert clip.shape == (4, 3, 48, 48) and clip.dtype == torch.uint8
    first = 100 * int(video_manifest[1].file.stem)
    num_frames = 20 + first // 100
    assert numbers_of(clip) == [first + int((part + 0.5) * num_frames / 4) for part in range(4)]


def test_large_files_show_the_same_as_small_ones(
    tmp_path: Path, write_video: Callable[..., Path], write_image: Callable[..., Path], numbers_of: NumbersOf
) -> None:
    write_video(tmp_path / "clips" / "run" / "a.mp4", num_frames=20, width_px=360, height_px=240)
    write_image(tmp_path / "images" / "run" / "a.jpg", 7, width_px=600, height_px=400)
    kinds: dict[Kind, list[int]] = {"video": [2, 7, 12, 17], "image": [7]}
    for (kind, numbers), folder in zip(kinds.items(), ("clips", "images"), strict=True):
        reader = reader_of(index_folder(tmp_path / folder, kind=kind, out=tmp_path)[0], short_side_px=(48, 52))
        left, centre, right = (reader.views(0)[index] for index in range(3))
        assert not left.equal(centre) and not centre.equal(right)
        cut = decode_clip(reader.manifest[0], kind, 4, short_side_px=48)
        assert numbers_of(cut) == numbers and cut.shape[1] < 120
        assert reader.train_clip(0, seed=0).shape == (len(numbers), 3, 48, 48)


def test_the_seed_alone_decides_the_crop_and_the_flip(video_manifest: Manifest) -> None:
    reader = reader_of(video_manifest, short_side_px=(52, 64), horizontal_flip=True, temporal_jitter=True)
    clips = [reader.train_clip(0, seed) for seed in (1, 1, 2, 3)]
    assert clips[0].equal(clips[1])
    assert not clips[0].equal(clips[2]) and not clips[2].equal(clips[3])


def test_half_the_clips_are_mirrored_where_that_is_allowed(image_manifest: Manifest) -> None:
    plain, flipping = reader_of(image_manifest), reader_of(image_manifest, horizontal_flip=True)
    mirrored = [not plain.train_clip(0, seed).equal(flipping.train_clip(0, seed)) for seed in range(40)]
    assert 10 < sum(mirrored) < 30
    seed = mirrored.index(True)
    assert flipping.train_clip(0, seed).equal(plain.train_clip(0, seed).flip(-1))


def test_images_are_clips_of_one_frame(image_manifest: Manifest, numbers_of: NumbersOf) -> None:
    reader = reader_of(image_manifest)
    assert [numbers_of(reader.train_clip(index, 0)) for index in range(5)] == [
        [int(row.file.stem)] for row in image_manifest
    ]
    assert reader.views(0, num_clips=2).shape == (6, 1, 3, 48, 48)


def test_views_are_clips_by_crops(video_manifest: Manifest, numbers_of: NumbersOf) -> None:
    views = reader_of(video_manifest).views(0, num_clips=2, num_crops=3)
    assert views.shape == (6, 4, 3, 48, 48)
    first, second = numbers_of(views[0]), numbers_of(views[3])
    assert numbers_of(views[2]) == first != second
    assert sorted(first + second) == [number for pair in zip(first, second, strict=True) for number in pair]


def test_a_cache_gives_the_same_clips_without_the_files(video_manifest: Manifest, image_manifest: Manifest) -> None:
    for manifest in (video_manifest, image_manifest):
        reader = reader_of(manifest, short_side_px=(56, 64), horizontal_flip=True)
        cache = FrameCache.fill(manifest, num_frames=4, max_short_side_px=64)
        fresh = [reader.train_clip(index, seed=index) for index in range(len(manifest))]
        for row in manifest:
            row.file.unlink()
        cached = replace(reader, cache=cache)
        assert all(cached.train_clip(index, seed=index).equal(clip) for index, clip in enumerate(fresh))
        assert cache.num_bytes == sum(len(clip) for clip in fresh) * 64 * 64 * 3


def test_errors_name_the_file_and_files_found_unreadable_are_not_tried(
    video_manifest: Manifest, tmp_path: Path
) -> None:
    row = replace(video_manifest[0], readable=False, reason="hangs")
    gone = replace(video_manifest[1], path="run/gone.mp4")
    about = {"name": "clips", "kind": "video", "split": "train", "class_names": ["jump", "run"]}
    manifest = write_manifest(tmp_path / "x.arrow", [row, gone], root=video_manifest.root, **about)  # type: ignore[arg-type]
    reader = reader_of(manifest)
    for read in (lambda index: reader.train_clip(index, 0), reader.views):
        with pytest.raises(DecodeError, match=rf"{row.file} was found unreadable \(hangs\)"):
            read(0)
        with pytest.raises(DecodeError, match=r"gone.mp4 does not exist"):
            read(1)


def test_contradicting_options_are_refused(video_manifest: Manifest) -> None:
    with pytest.raises(RecipeError, match=r"short_side_px = \[40, 64\] with crops of 48 px"):
        reader_of(video_manifest, short_side_px=(40, 64))
    cache = FrameCache.fill(video_manifest, num_frames=1, max_short_side_px=48)
    with pytest.raises(RecipeError, match="temporal_jitter with cache_frames"):
        reader_of(video_manifest, temporal_jitter=True, cache=cache)


@pytest.fixture
def kinds_of_videos(tmp_path: Path, write_video: Callable[..., Path]) -> Manifest:
    """An H.264 file, an animated WebP and a folder of JPEGs, larger than a crop; the latter two are noise."""
    folder = tmp_path / "clips" / "run"
    write_video(folder / "a.mp4", num_frames=20, width_px=160, height_px=120)
    noise = np.random.default_rng(0).integers(0, 256, (5, 120, 160, 3), np.uint8)
    pictures = [Image.fromarray(frame) for frame in noise]
    pictures[0].save(folder / "b.webp", save_all=True, append_images=pictures[1:], duration=100)
    (folder / "c").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / "c" / f"{number:05d}.jpg")
    fps = {"a.mp4": None, "b.webp": None, "c": 10.0}
    rows = [ManifestRow(name, f"run/{name}", 0, fps=fps[name], root=folder.parent) for name in fps]
    options: dict[str, Any] = {"name": "kinds", "kind": "video", "split": "test", "class_names": ["run"]}
    return write_manifest(tmp_path / "kinds.arrow", rows, root=folder.parent, **options)


def test_views_of_kept_frames_are_those_of_the_files(kinds_of_videos: Manifest) -> None:
    reader = reader_of(kinds_of_videos)
    keeping = replace(reader, view_cache=FrameCache.fill(kinds_of_videos, num_frames=4, max_short_side_px=48))
    views = [reader.views(index) for index in range(3)]
    kinds_of_videos[0].file.unlink()
    assert all(keeping.views(index).equal(views[index]) for index in range(3))
    with pytest.raises(DecodeError):
        keeping.views(0, num_clips=2)  # which has other frames


def test_a_kept_video_that_could_not_be_decoded_is_tried_again(kinds_of_videos: Manifest) -> None:
    file, reader = kinds_of_videos[0].file, reader_of(kinds_of_videos)
    views, content = reader.views(0), file.read_bytes()
    file.write_bytes(b"")
    keeping = replace(reader, view_cache=FrameCache.fill(kinds_of_videos, num_frames=4, max_short_side_px=48))
    with pytest.raises(DecodeError):
        keeping.views(0)
    file.write_bytes(content)
    assert keeping.views(0).equal(views)
