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
from cover.media.decode import decode_clip, decode_clips, stream_frames
from cover.media.reader import ClipReader
from cover.media.sampling import Window

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


@pytest.mark.parametrize("window", [Window(stride_frames=2), Window(seconds=8 / 25)], ids=["stride", "seconds"])
def test_a_dense_clip_shows_a_window_at_a_random_time(
    window: Window, video_manifest: Manifest, numbers_of: NumbersOf
) -> None:
    """Videos have 25 frames a second; this one has 23, so its windows of 8 frames begin at frames 0 to 15."""
    reader = reader_of(video_manifest, window=window)
    clips = [numbers_of(reader.train_clip(1, seed)) for seed in range(60)]
    starts = [clip[0] - 300 for clip in clips]
    assert all(np.diff(clip).tolist() == [2, 2, 2] for clip in clips)
    assert min(starts) <= 2 and max(starts) >= 14 and all(0 <= start <= 16 for start in starts)
    assert numbers_of(reader.train_clip(1, 5)) == clips[5]
    first, middle, last = (numbers_of(view) for view in reader.views(1, num_clips=3, num_crops=1))
    assert (first[0], middle[0], last[-1]) == (301, 308, 322)
    assert numbers_of(reader.views(1, num_crops=1)[0]) == middle


def test_temporal_jitter_stays_in_the_parts_of_a_window(video_manifest: Manifest, numbers_of: NumbersOf) -> None:
    reader = reader_of(video_manifest, window=Window(stride_frames=3), temporal_jitter=True)
    clips = np.array([numbers_of(reader.train_clip(1, seed)) for seed in range(40)])
    assert len(np.unique(np.diff(clips), axis=0)) > 5
    assert (np.ptp(clips, axis=1) <= 12).all()


def test_the_first_window_is_that_of_a_timeline(video_manifest: Manifest, numbers_of: NumbersOf) -> None:
    for seconds in (0.3, 2.0):  # shorter and longer than the video
        file = video_manifest[1].file
        stream = [frame for frame in stream_frames(file, step_seconds=seconds / 4, short_side_px=48)]
        (clip,) = decode_clips(video_manifest[1], "video", 4, window=Window(seconds), positions=[0.0], short_side_px=48)
        shown = numbers_of(np.stack(stream[:4]))
        assert numbers_of(clip) == shown + shown[-1:] * (4 - len(shown))


def test_a_window_stays_in_the_segment_of_its_sample(
    tmp_path: Path, video_manifest: Manifest, numbers_of: NumbersOf
) -> None:
    segment = {"start_seconds": 5 / 25, "end_seconds": 15 / 25}
    row = {"sample_id": "a", "path": str(video_manifest[1].file), "label": 0} | segment
    about: dict[str, Any] = {"name": "clips", "kind": "video", "split": "train", "class_names": ["run"]}
    manifest = write_manifest(tmp_path / "segment.arrow", [row], root=tmp_path, **about)
    for stride, few in ((2, 4), (9, 1)):
        reader = reader_of(manifest, window=Window(stride_frames=stride))
        clips = [numbers_of(reader.train_clip(0, seed)) for seed in range(20)]
        assert all(min(clip) >= 305 and max(clip) <= 314 and len(set(clip)) >= few for clip in clips)


def test_jitter_chooses_among_cached_frames(video_manifest: Manifest, numbers_of: NumbersOf) -> None:
    """Of 24 frames, 4 parts have 6 frames each, of which 3 are kept."""
    cache = FrameCache.fill(video_manifest, num_frames=12, max_short_side_px=48)
    jittering = reader_of(video_manifest, temporal_jitter=True, cache=cache)
    clips = np.array([numbers_of(jittering.train_clip(5, seed)) for seed in range(60)])
    kept = np.array([[401, 403, 405], [407, 409, 411], [413, 415, 417], [419, 421, 423]])
    for part, numbers in enumerate(kept):
        assert sorted(set(clips[:, part])) == numbers.tolist()
    assert numbers_of(replace(jittering, temporal_jitter=False).train_clip(5, 0)) == kept[:, 1].tolist()


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
