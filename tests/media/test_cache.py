from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.processes import full_disk

import cover.media.cache
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.errors import CoverError, DecodeError
from cover.media.cache import FrameCache
from cover.media.decode import decode_clip


@pytest.mark.parametrize("num_processes", [0, 2])
def test_a_cache_holds_the_decoded_frames_and_remembers_the_errors(many_images: Manifest, num_processes: int) -> None:
    cache = FrameCache.fill(many_images, num_frames=1, max_short_side_px=64, num_processes=num_processes)
    assert len(cache) == len(many_images)
    for index, row in enumerate(many_images):
        if index % 5 == 1:
            with pytest.raises(DecodeError, match=f"{row.file} does not exist"):
                cache[index]
        else:
            assert np.array_equal(cache[index], decode_clip(row, "image", 1))


def test_a_cache_with_nothing_readable_is_empty(video_manifest: Manifest) -> None:
    for row in video_manifest:
        row.file.write_bytes(b"")
    assert FrameCache.fill(video_manifest, num_frames=4, max_short_side_px=64).num_bytes == 0


def test_frames_turned_upright_are_kept_so(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    row = ManifestRow("turned", "turned.mp4", 0, root=tmp_path)
    write_video(row.file, width_px=96, rotation=90)
    manifest = write_manifest(
        tmp_path / "x.arrow", [row], name="x", kind="video", split="train", class_names=["a"], root=tmp_path
    )
    frames = FrameCache.fill(manifest, num_frames=4, max_short_side_px=64)[0]
    assert frames.shape == (4, 96, 64, 3) and np.array_equal(frames, decode_clip(row, "video", 4))


def test_it_tells_how_long_it_took(video_manifest: Manifest, capfd: pytest.CaptureFixture[str]) -> None:
    FrameCache.fill(video_manifest, num_frames=4, max_short_side_px=64)
    assert capfd.readouterr().err.startswith("decoded 6 clips of clips in 0 s (")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGKILL, pytest.raises(CoverError, match=r"was killed, .* or switch off cache_frames for many")),
        (signal.SIGINT, pytest.raises(KeyboardInterrupt)),
    ],
)
def test_a_killed_process_and_ctrl_c_end_the_decoding(
    many_images: Manifest, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, error: AbstractContextManager[Any]
) -> None:
    main = os.getpid()

    def strike(row: ManifestRow, *_: object, **options: object) -> None:
        if row.sample_id == "100":  # earlier, an interrupt can leave torch's queues locked
            os.kill(main if number == signal.SIGINT else os.getpid(), number)
        raise DecodeError(row.sample_id)

    monkeypatch.setattr(cover.media.cache, "decode_clip", strike)
    with error:
        FrameCache.fill(many_images, num_frames=1, max_short_side_px=64, num_processes=2)


FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "made" / "frames"


def fill(manifest: Manifest, folder: Path | None, **options: Any) -> FrameCache:
    return FrameCache.fill(manifest, **{"num_frames": 4, "max_short_side_px": 64, "folder": folder} | options)


def outcomes(cache: FrameCache) -> list[tuple[Any, Any]]:
    """Shape and pixels of each sample, or message and reason of its error."""

    def outcome(index: int) -> tuple[Any, Any]:
        try:
            return cache[index].shape, cache[index].tobytes()
        except DecodeError as error:
            return str(error), error.reason

    return [outcome(index) for index in range(len(cache))]


@contextmanager
def decoding(*arguments: Any, **options: Any) -> Iterator[tuple[Any, Any]]:
    """`fill` in a process of its own, which waits amid its clips until an event is set: (process, event)."""
    begun, go_on, numbers = FORK.Event(), FORK.Event(), itertools.count()

    def decode(*arguments: Any, **options: Any) -> cover.media.cache.Frames:
        if next(numbers) == 2:  # two are stored
            begun.set()
            go_on.wait()
        return decode_clip(*arguments, **options)

    def decode_all() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cover.media.cache, "decode_clip", decode)
            fill(*arguments, **options)

    process = FORK.Process(target=decode_all)
    process.start()
    try:
        assert begun.wait(60)
        yield process, go_on
    finally:
        go_on.set()
        process.join()


def test_frames_and_errors_are_decoded_once_for_all(video_manifest: Manifest, folder: Path) -> None:
    video_manifest[2].file.write_bytes(b"not a video")
    first = outcomes(fill(video_manifest, folder))
    assert first == outcomes(fill(video_manifest, None))
    for row in video_manifest:
        row.file.unlink()
    again = fill(Manifest.open(video_manifest.path), folder)
    assert outcomes(again) == first and first[2][0].startswith(str(video_manifest[2].file))
    with pytest.raises(ValueError, match="read-only"):
        again[0][0, 0, 0] = 0


def test_several_processes_write_a_file_each(many_images: Manifest, folder: Path) -> None:
    cache = fill(many_images, folder, num_frames=1, num_processes=2)
    assert outcomes(cache) == outcomes(fill(many_images, None, num_frames=1))
    assert len(list(folder.glob("*/frames-*"))) == 2


def test_other_frames_and_samples_have_files_of_their_own(video_manifest: Manifest, folder: Path) -> None:
    few = video_manifest.without([video_manifest[0].sample_id])
    caches = [fill(video_manifest, folder), fill(few, folder)]
    caches += [fill(video_manifest, folder, num_frames=2), fill(video_manifest, folder, max_short_side_px=32)]
    assert [len(cache) for cache in caches] == [6, 5, 6, 6]
    assert [cache[0].shape for cache in caches] == [(4, 64, 64, 3), (4, 64, 64, 3), (2, 64, 64, 3), (4, 32, 32, 3)]
    assert np.array_equal(caches[0][1], caches[1][0])
    assert len(list(folder.glob("*.lock"))) == 4


def test_who_comes_meanwhile_waits_and_says_so(
    video_manifest: Manifest, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    with decoding(video_manifest, folder) as (other, go_on):
        flock = fcntl.flock

        def noted_flock(file: Any, operation: int) -> None:
            if not operation & fcntl.LOCK_NB:  # it has said so, and waits
                go_on.set()
            flock(file, operation)

        monkeypatch.setattr(fcntl, "flock", noted_flock)
        cache = fill(video_manifest, folder)
    assert other.exitcode == 0 and outcomes(cache) == outcomes(fill(video_manifest, None))
    (place,) = (path for path in folder.iterdir() if path.is_dir())
    waited, decoded, _ = capfd.readouterr().err.splitlines()
    assert {waited[:20], decoded[:20]} == {"waiting for a proces", "decoded 6 clips of c"}
    assert f"waiting for a process that decodes clips into {place}" in (waited, decoded)


def test_what_a_killed_process_has_written_is_not_taken_for_whole(many_images: Manifest, folder: Path) -> None:
    with decoding(many_images, folder, num_frames=1, num_processes=2) as (other, _):
        other.kill()
    (unfinished,) = folder.glob(".*")
    assert sum(file.stat().st_size for file in unfinished.iterdir())
    whole = outcomes(fill(many_images, None, num_frames=1))
    assert outcomes(fill(many_images, folder, num_frames=1)) == whole
    assert not list(folder.glob(".*"))


def interrupt(*_: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing(video_manifest: Manifest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cover.media.cache, "decode_clip", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill(video_manifest, folder)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("num_processes", [0, 2])
def test_a_full_disk_ends_it_in_one_line_and_leaves_nothing(
    many_images: Manifest, folder: Path, num_processes: int
) -> None:
    with full_disk(100_000), pytest.raises(CoverError) as caught:
        fill(many_images, folder, num_frames=1, num_processes=num_processes)
    place = folder / f"{many_images.digest[:16]}-1x64"
    assert str(caught.value) == (
        f"{place} cannot be written (File too large); "
        "choose another data.cache_folder, or leave it out to keep frames in memory"
    )
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_is_named(video_manifest: Manifest, folder: Path) -> None:
    folder.parent.write_bytes(b"")
    with pytest.raises(CoverError, match=r"made/frames/.* cannot be written \(Not a directory\)"):
        fill(video_manifest, folder)
