from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.processes import started, wait_until

from cover.curation.check import check, unreadable_rows
from cover.curation.dataset_pass import Pool
from cover.curation.pack import PackedNames, PackFormat, num_bytes, pack
from cover.curation.resume_log import Shard
from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip

POOL = Pool(num_processes=1, timeout_seconds=2)
FORMAT = PackFormat(short_side_px=48, num_frames=16)

WriteMedia = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]


def identity(manifest: Manifest) -> list[tuple[str, int]]:
    return [(row.sample_id, row.label) for row in manifest]


def test_the_same_samples_in_the_same_order(
    tmp_path: Path, hanging_manifest: Manifest, broken: dict[str, str], numbers_of: NumbersOf
) -> None:
    survey = pack(hanging_manifest, tmp_path / "packed", FORMAT)
    packed = survey.run(POOL)
    assert identity(packed) == identity(hanging_manifest)
    assert (packed.name, packed.kind, packed.split) == (hanging_manifest.name, "video", "train")
    assert packed.class_names == hanging_manifest.class_names
    assert {packed[row].sample_id: reason for row, reason in unreadable_rows(packed).items()} == broken
    before, after = num_bytes(hanging_manifest, survey.logs.results())
    assert after == sum(row.file.stat().st_size for row in packed if row.readable)
    assert before == sum(row.file.stat().st_size for row in hanging_manifest if row.sample_id not in broken)

    shutil.move(tmp_path / "packed", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "clips")
    moved = Manifest.open(tmp_path / "elsewhere" / hanging_manifest.path.name)
    for row in moved:
        if row.sample_id in broken:
            with pytest.raises(DecodeError, match="was found unreadable"):
                decode_clip(row, "video", 8)
        else:
            assert (row.num_frames, row.width, row.height) == (16, 48, 48)
            length = 20 + int(Path(row.sample_id).stem)
            assert numbers_of(decode_clip(row, "video", 8)) == [(2 * part + 1) * length // 16 for part in range(8)]


def test_segments_are_cut_out(tmp_path: Path, write_video: WriteMedia, numbers_of: NumbersOf) -> None:
    write_video(tmp_path / "film.mp4", num_frames=100)
    rows = [
        ManifestRow("film@1-2", "film.mp4", 0, start_seconds=1.0, end_seconds=2.0),
        ManifestRow("film@3-4", "film.mp4", 0, start_seconds=3.0, source_id="x", source_start_seconds=100.0),
        ManifestRow("/films/../film", "film.mp4", 0),
    ]
    options: dict[str, Any] = {"name": "films", "kind": "video", "split": "train", "class_names": ["film"]}
    manifest = write_manifest(tmp_path / "films.arrow", rows, root=tmp_path, **options)
    survey = pack(manifest, tmp_path / "packed", FORMAT)
    packed = survey.run(POOL)
    assert [numbers_of(decode_clip(row, "video", 4)) for row in packed] == [
        [28, 34, 40, 46],
        [78, 84, 90, 96],
        [12, 37, 62, 87],
    ]
    assert [(row.start_seconds, row.end_seconds, row.duration_seconds) for row in packed] == [
        (None, None, pytest.approx(1.0, abs=1e-3)),
        (None, None, pytest.approx(1.0, abs=1e-3)),
        (None, None, pytest.approx(4.0, abs=1e-3)),
    ]
    sources = [(row.source_id, row.source_start_seconds, row.source_end_seconds) for row in packed]
    assert sources == [("film.mp4", 1.0, 2.0), ("x", 103.0, None), (None, None, None)]
    assert all(row.file.resolve().is_relative_to(tmp_path / "packed") for row in packed)
    assert num_bytes(manifest, survey.logs.results())[0] == (tmp_path / "film.mp4").stat().st_size


def test_images(tmp_path: Path, image_manifest: Manifest, write_image: WriteMedia, numbers_of: NumbersOf) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    files = [row.file for row in image_manifest]
    write_image(files[0], 7, width_px=100, height_px=300)
    write_image(files[1], 8, width_px=30, height_px=20)
    write_image(files[2], 9, width_px=96, height_px=64, exif=exif)
    files[3].write_bytes(b"no image")
    packed = pack(image_manifest, tmp_path / "packed", FORMAT).run(POOL)
    assert [(row.width, row.height) for row in packed] == [(48, 144), (30, 20), (48, 72), (None, None), (48, 48)]
    assert [row.reason for row in packed if not row.readable] == ["it is not an image"]
    for row, number in zip(packed, (7, 8, 9, None, 4), strict=True):
        if number is not None:
            with Image.open(row.file) as image:
                assert image.format == "JPEG"
                upright = np.rot90(np.asarray(image)) if number == 9 else np.asarray(image)
                assert numbers_of([upright]) == [number]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_merge_in_any_order(
    tmp_path: Path, broken_manifest: Manifest, broken: dict[str, str], order: tuple[int, ...]
) -> None:
    survey = pack(broken_manifest, tmp_path / "packed", FORMAT)
    with pytest.raises(CoverError, match=r"clips-train.pack: shards found are none"):
        survey.merge()
    for number in order:
        survey.run_shard(Shard(number, 3), POOL)
    packed = survey.merge()
    assert identity(packed) == identity(broken_manifest)
    assert {packed[row].sample_id: reason for row, reason in unreadable_rows(packed).items()} == broken


def test_what_a_check_found_unreadable_is_not_tried(
    tmp_path: Path, broken_manifest: Manifest, broken: dict[str, str], write_video: WriteMedia
) -> None:
    checked = check(broken_manifest, num_frames=4).run(POOL)
    write_video(checked.root / "jump/cut.mp4")
    packed = pack(checked, tmp_path / "packed", FORMAT).run(POOL)
    assert {packed[row].sample_id for row in unreadable_rows(packed)} == broken.keys()
    rechecked = check(checked, num_frames=4).run(POOL, again=True)
    packed = pack(rechecked, tmp_path / "packed", FORMAT).run(POOL, again=True)
    assert {packed[row].sample_id for row in unreadable_rows(packed)} == broken.keys() - {"jump/cut.mp4"}


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, hanging_manifest: Manifest) -> None:
    out = tmp_path / "packed"
    options = ["--out", str(out), "--short-side", "48", "--frames", "16", "--processes", "1", "--timeout-seconds", "2"]
    command = [sys.executable, "-m", "cover.cli", "pack", str(hanging_manifest.path), *options]
    log = out / "clips-train.pack.jsonl"
    with started(command, stderr=subprocess.DEVNULL) as running:
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 5, running)  # the slow file holds it
        running.kill()
    done = {file: file.stat().st_mtime_ns for file in out.rglob("[!.]*.mp4")}
    assert done and not (out / "clips-train.arrow").exists()
    (hanging_manifest.root / "run/slow.mp4").unlink()
    packed = pack(hanging_manifest, out, FORMAT).run(POOL)
    files = [row.file for row in packed if row.readable]
    assert len(files) == 8 and sorted(out.rglob("[!.]*.mp4")) == sorted(files)
    kept = [file for file in files if done.get(file) == file.stat().st_mtime_ns]
    assert len(kept) >= len(done) - 2  # one may have been in progress, and one done but not recorded yet


def test_another_format_or_the_manifests_own_folder_is_refused(tmp_path: Path, image_manifest: Manifest) -> None:
    pack(image_manifest, tmp_path / "packed", FORMAT).run(POOL)
    other = replace(FORMAT, short_side_px=32)
    with pytest.raises(
        CoverError, match=r"belongs to other work \(short_side_px 48\); continue that work, or delete the file"
    ):
        pack(image_manifest, tmp_path / "packed", other).run(POOL)
    with pytest.raises(CoverError, match=r"contains pictures-train.arrow itself, which the copy would replace; "):
        pack(image_manifest, tmp_path, FORMAT)
    (tmp_path / "file").touch()
    with pytest.raises(CoverError, match=r"pack.jsonl cannot be written \(File exists\); results are kept there"):
        pack(image_manifest, tmp_path / "file", FORMAT).run(POOL)


def names_of(*sample_ids: str) -> list[str]:
    names = PackedNames(sample_ids, "video")
    return [names.name_of(sample_id) for sample_id in sample_ids]


def test_ids_tell_the_names() -> None:
    assert names_of("run/a.webm", "run/b.MP4", "/data/../c.mp4", "./d", "a b#%2E.mp4@0-1", ".hidden/e") == [
        "run/a.webm.mp4",
        "run/b.MP4",
        "data/%2E%2E/c.mp4",
        "d.mp4",
        "a b#%2E.mp4@0-1.mp4",
        ".hidden/e.mp4",
    ]
    assert PackedNames(["a.JPEG", "b.png"], "image").name_of("b.png") == "b.png.jpg"


@pytest.mark.parametrize(
    "sample_ids",
    [
        ("a", "a.mp4"),
        ("run/a", "run//a", "./run/a", "/run/a", "run/./a"),
        ("..", "%2E%2E"),
        ("Run/a", "run/A"),
        ("caf\u00e9", "cafe\u0301"),
        ("a.mp4", "a.mp4/b", "a.mp4/b.mp4/c"),
        ("x" * 300, "x" * 301, "x" * 300 + "/y"),
        ("", "/", ".", "//"),
        ("a/" * 900 + "b", "a/" * 900 + "c"),
        ("\u00e9" * 126, "\u00e9" * 127),
    ],
)
def test_no_two_ids_share_a_file_or_a_folder_and_a_file(tmp_path: Path, sample_ids: tuple[str, ...]) -> None:
    names = names_of(*sample_ids)
    assert len({name.casefold() for name in names}) == len(sample_ids)
    for name in names:
        file = tmp_path / name
        assert file.resolve().is_relative_to(tmp_path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("x").close()
    assert names_of(*reversed(sample_ids)) == names[::-1]


def test_a_name_by_digest_is_readable_and_cannot_be_taken() -> None:
    (first, _) = names_of("run/a.mp4/clip", "run/a.mp4")
    assert first.startswith("clip~") and len(first) == len("clip~.mp4") + 32
    (again, _, other) = names_of("run/a.mp4/clip", "run/a.mp4", first)
    assert again == first and other != first


def test_names_as_long_as_the_file_system_allows_are_written(tmp_path: Path, write_video: Any) -> None:
    write_video(tmp_path / "data/a.mp4", num_frames=4)
    rows = [ManifestRow(sample_id, "data/a.mp4", 0) for sample_id in ("n" * 251 + ".mp4", "m" * 251, "m" * 252)]
    options: dict[str, Any] = {"name": "x", "kind": "video", "split": "train", "class_names": ["run"]}
    manifest = write_manifest(tmp_path / "x.arrow", rows, root=tmp_path, **options)
    packed = pack(manifest, tmp_path / "packed", PackFormat(48, 4)).run(Pool(num_processes=1, timeout_seconds=30))
    assert all(row.readable for row in packed)
    assert [len(row.file.name) for row in packed] == [255, 255, 40 + 33 + 4]
    assert sorted(tmp_path.glob("packed/x/*")) == sorted(row.file for row in packed)


def test_copies_never_lie_among_the_originals(tmp_path: Path) -> None:
    options: dict[str, Any] = {"name": "x", "kind": "video", "split": "train", "class_names": ["run"]}
    row = ManifestRow("run/a.mp4", "run/a.mp4", 0)
    manifest = write_manifest(tmp_path / "manifests/x.arrow", [row], root=tmp_path / "data/x", **options)
    with pytest.raises(
        CoverError, match=r"data/x/run contains files of .*x.arrow, and copies would be written to .*data/x;"
    ):
        pack(manifest, tmp_path / "data", PackFormat(48, 4))
