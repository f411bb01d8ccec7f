from __future__ import annotations

import math
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cover.datasets.manifest import Manifest, ManifestRow, write_findings, write_manifest
from cover.errors import ManifestError

ROWS = [
    ManifestRow("a", "run/a.mp4", 0, start_seconds=1.5, end_seconds=3.0),
    ManifestRow("b", "jump/b.mp4", 1, num_frames=30, readable=False, reason="no video stream"),
]


def write(path: Path, rows: list[ManifestRow] = ROWS, **changes: object) -> Manifest:
    about = {"name": "clips", "kind": "video", "split": "train", "class_names": ["run", "jump"], "root": path.parent}
    return write_manifest(path, rows, **(about | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow")
    assert (manifest.name, manifest.kind, manifest.split) == ("clips", "video", "train")
    assert manifest.class_names == ("run", "jump")
    assert [(row.sample_id, row.label, row.start_seconds, row.readable) for row in manifest] == [
        ("a", 0, 1.5, None),
        ("b", 1, None, False),
    ]
    assert manifest[1].file == tmp_path / "jump/b.mp4"
    assert list(tmp_path.iterdir()) == [tmp_path / "clips.arrow"]


def test_labels_are_a_view_of_the_mapped_file(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow", [ManifestRow(str(i), "a", i % 2) for i in range(100_000)])
    before = pa.total_allocated_bytes()
    labels = Manifest.open(manifest.path).labels
    assert pa.total_allocated_bytes() == before
    assert labels.dtype == np.int32 and not labels.flags.owndata and labels[:3].tolist() == [0, 1, 0]


def test_rows_are_found_in_files_of_several_batches(tmp_path: Path) -> None:
    rows = [ManifestRow(str(i), f"{i}.mp4", i % 2, fps=None if i < 4 else 25.0 + i) for i in range(10)]
    table = write(tmp_path / "one.arrow", rows).table
    with pa.ipc.new_file(tmp_path / "many.arrow", table.schema) as writer:
        for first, size in ((0, 3), (3, 0), (3, 1), (4, 6)):
            writer.write_table(table.slice(first, size))
    whole = Manifest.open(tmp_path / "many.arrow")
    for manifest, numbers in ((whole, list(range(10))), (whole.without(["0", "5"]), [1, 2, 3, 4, 6, 7, 8, 9])):
        assert [manifest[index].sample_id for index in range(len(numbers))] == [str(number) for number in numbers]
        assert list(manifest) == [manifest[index] for index in range(len(numbers))]
        assert manifest.sample_ids([7, 2]) == [str(numbers[7]), str(numbers[2])]
        assert manifest.labels_of([7, 2]).tolist() == [numbers[7] % 2, numbers[2] % 2]
        for read in (manifest.sample_ids, manifest.labels_of):
            with pytest.raises(IndexError, match="row -1 of"):
                read([0, -1])


def test_a_manifest_pickles_as_its_path(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow", [ManifestRow(str(i), "a", 0) for i in range(10_000)])
    pickled = pickle.dumps(manifest)
    assert len(pickled) < 1000
    assert pickle.loads(pickled)[9_999] == manifest[9_999]


def test_a_root_inside_the_manifests_folder_moves_with_it(tmp_path: Path) -> None:
    write(tmp_path / "here" / "clips.arrow", root=tmp_path / "here" / "media")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Manifest.open(tmp_path / "there" / "clips.arrow").root == tmp_path / "there" / "media"


def test_data_and_manifests_that_are_moved_together_find_each_other(tmp_path: Path) -> None:
    (tmp_path / "here" / "clips").mkdir(parents=True)
    path = write(tmp_path / "here" / "manifests" / "clips.arrow", root=tmp_path / "here" / "clips").path
    assert Manifest.open(path).root == tmp_path / "here" / "clips"
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    copy = tmp_path / "there" / "manifests" / "clips.arrow"
    assert Manifest.open(copy).root == tmp_path / "here" / "clips", "the old place goes before, while it is there"
    shutil.rmtree(tmp_path / "here")
    manifest = Manifest.open(copy)
    assert manifest.root == tmp_path / "there" / "clips" == pickle.loads(pickle.dumps(manifest)).root
    assert write_findings(manifest, {"readable": [True, True]}).root == manifest.root
    shutil.rmtree(tmp_path / "there" / "clips")
    assert Manifest.open(copy).root == tmp_path / "here" / "clips", "messages name the place that was meant"


def test_paths_below_a_folder_that_has_moved_are_read_from_its_new_place(tmp_path: Path) -> None:
    rows = [ManifestRow("a", "a.mp4", 0), ManifestRow("b", "/old/b.mp4", 0), ManifestRow("c", "/older/c.mp4", 0)]
    manifest = write(tmp_path / "clips.arrow", rows, root="/old/clips")
    moves = {Path("/old"): Path("/new"), Path("/old/clips/deep"): Path("/elsewhere")}
    moved = manifest.without(["c"]).relocated(moves)
    for same in (moved, pickle.loads(pickle.dumps(moved)), moved.without([])):
        assert [row.file for row in same] == [Path("/new/clips/a.mp4"), Path("/new/b.mp4")]
        assert same[1].file == Path("/new/b.mp4")
        assert same.root == Path("/new/clips") and same.digest == manifest.without(["c"]).digest
    assert [str(row.file) for row in manifest] == ["/old/clips/a.mp4", "/old/b.mp4", "/older/c.mp4"]
    inner = write(tmp_path / "deep.arrow", rows, root="/old/clips/deep/x").relocated(moves)
    assert inner.root == Path("/elsewhere/x"), "the innermost folder counts"


def test_a_move_goes_before_what_lies_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "here" / "clips").mkdir(parents=True)
    write(tmp_path / "here" / "manifests" / "clips.arrow", root=tmp_path / "here" / "clips")
    (tmp_path / "here").rename(tmp_path / "there")
    manifest = Manifest.open(tmp_path / "there" / "manifests" / "clips.arrow")
    assert manifest.relocated({tmp_path / "here": Path("/new")}).root == Path("/new/clips")
    assert manifest.relocated({tmp_path / "there": Path("/new")}).root == Path("/new/clips")


def test_what_files_cannot_be_is_left_unknown_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = write(tmp_path / "clips.arrow", [replace(ROWS[0], num_frames=-1), ROWS[1]])
    checked = write_findings(manifest, {"fps": [0.0, 25.0], "duration_seconds": [math.nan, math.inf]})
    assert [(row.num_frames, row.fps, row.duration_seconds) for row in checked] == [
        (None, None, None),
        (30, 25.0, None),
    ]
    assert caplog.messages == [
        "clips: 1 of 2 values of num_frames, such as -1, are out of bounds (0 to 2^40) and count as unknown",
        "clips: 1 of 2 values of fps, such as 0.0, are out of bounds (above 0 and up to 1e9) and count as unknown",
        "clips: 2 of 2 values of duration_seconds, such as nan, are out of bounds (0 to 1e9) and count as unknown",
    ]


def test_digest_tells_samples_and_labels_but_neither_root_nor_findings(tmp_path: Path) -> None:
    digest = write(tmp_path / "clips.arrow").digest
    checked = [ManifestRow("a", "run/a.mp4", 0, start_seconds=1.5, end_seconds=3.0, fps=25.0, readable=True), ROWS[1]]
    assert write(tmp_path / "2.arrow", checked, root="/elsewhere", split="val").digest == digest
    assert write(tmp_path / "3.arrow", ROWS[::-1]).digest != digest
    assert write(tmp_path / "4.arrow", class_names=["jump", "run"]).digest != digest
    assert write(tmp_path / "5.arrow", [ManifestRow("a", "run/a.mp4", 0, start_seconds=1.0), ROWS[1]]).digest != digest


def test_manifests_of_before_a_nullable_column_are_read_with_nulls(tmp_path: Path) -> None:
    path = write(tmp_path / "clips.arrow").path
    digest = Manifest.open(path).digest
    table = Manifest.open(path).table.drop_columns(["offset", "source_start_seconds", "source_end_seconds"])
    with pa.ipc.new_file(tmp_path / "older.arrow", table.schema) as writer:
        writer.write_table(table)
    older = Manifest.open(tmp_path / "older.arrow")
    assert older[1] == Manifest.open(path)[1] and older.digest == digest
    with pa.ipc.new_file(tmp_path / "other.arrow", table.drop_columns(["path"]).schema):
        pass
    with pytest.raises(ManifestError, match=r"other.arrow has other columns than this version's manifests"):
        Manifest.open(tmp_path / "other.arrow")


def test_findings_are_written_beside_what_the_samples_are(tmp_path: Path) -> None:
    manifest = write(tmp_path / "here" / "clips.arrow", root=tmp_path / "here" / "media")
    before = list(manifest)
    checked = write_findings(manifest, {"readable": [True, None], "reason": [None, None], "fps": [25.0, None]})
    assert [(row.readable, row.reason, row.fps, row.num_frames) for row in checked] == [
        (True, None, 25.0, None),
        (None, None, None, 30),
    ]
    assert checked.digest == manifest.digest and checked.root == manifest.root and checked.path == manifest.path
    assert list(manifest) == before, "who has the old file mapped goes on reading it"
    assert list(tmp_path.iterdir()) == [tmp_path / "here"] and len(list((tmp_path / "here").iterdir())) == 1


def test_only_findings_are_taken_one_a_row(tmp_path: Path) -> None:
    manifest = write(tmp_path / "clips.arrow")
    with pytest.raises(ValueError, match="label is not a finding; findings are num_frames, fps"):
        write_findings(manifest, {"label": [0, 0]})
    with pytest.raises(pa.ArrowInvalid, match="length"):
        write_findings(manifest, {"readable": [True]})
    assert Manifest.open(manifest.path)[1] == manifest[1]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([ManifestRow("a", "a.mp4", 2)], {}, "label 2 of clips's sample a is outside its 2 classes; labels are 0 to 1"),
        ([ManifestRow("a", "a.mp4", -1)], {}, "label -1"),
        ([ROWS[0], ROWS[0]], {}, "a occurs more than once among the sample ids of clips"),
        (ROWS, {"class_names": ["run", "run"]}, "run occurs more than once among the class names"),
        ([], {}, "clips has no samples"),
        ([{"sample_id": "a", "label": 0}], {}, "a sample of clips has no path"),
        ([ManifestRow("a", "\udcff.mp4", 0)], {}, "is not UTF-8; rename the file"),
        ([ManifestRow("a\0", "a.mp4", 0)], {}, r"sample_id 'a\\x00' of clips's sample .* must not contain NUL"),
        ([ManifestRow("a", "a.mp4", 0, start_seconds=math.nan)], {}, "start_seconds nan of clips's sample a is out of"),
        (
            [ManifestRow("a", "a.mp4", 0, start_seconds=3, end_seconds=2)],
            {},
            "end_seconds 2.0 of .* is before its star",
        ),
        (
            [{"sample_id": "a", "path": "a", "label": 10**12}],
            {},
            r"clips has a value of the wrong kind \(Value 10000000",
        ),
        (
            [{"sample_id": "a", "path": "a", "label": "x"}],
            {},
            r"clips has a value of the wrong kind \(Could not conver",
        ),
        (
            ROWS,
            {"class_names": ["run", "\udcff"]},
            r"clips\.arrow: class '\\udcff' is not a name without control characters; ren",
        ),
        (
            ROWS,
            {"class_names": ["run", "ju\nmp"]},
            r"class 'ju\\nmp' is not a name without control characters; rename it",
        ),
        (ROWS, {"name": ""}, r"clips\.arrow: name = ''; it must be a name without control characters"),
        (ROWS, {"split": "a/b"}, "split = 'a/b'; it must be a name without / and control characters"),
    ],
)
def test_bad_rows_are_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, rows: list[ManifestRow], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        write(tmp_path / "clips.arrow", rows, **changes)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none.arrow does not exist; write it with `cover index`"):
        Manifest.open(tmp_path / "none.arrow")
    whole = write(tmp_path / "clips.arrow").path.read_bytes()
    for name, content in {"empty": b"", "text": b"path,label\n", "half": whole[: len(whole) // 2]}.items():
        (tmp_path / f"{name}.arrow").write_bytes(content)
        with pytest.raises(ManifestError, match=f"{name}.arrow is not a manifest"):
            Manifest.open(tmp_path / f"{name}.arrow")
    with pa.ipc.new_file(tmp_path / "other.arrow", pa.schema([("a", pa.int8())])):
        pass
    with pytest.raises(ManifestError, match=r"other.arrow is not a manifest"):
        Manifest.open(tmp_path / "other.arrow")


def test_a_view_without_some_samples_is_like_a_manifest_without_them(tmp_path: Path) -> None:
    rows = [ManifestRow(str(i), f"{i}.mp4", i % 2) for i in range(5)]
    view = write(tmp_path / "clips.arrow", rows).without(["1", "none"]).without(["3"])
    rest = write(tmp_path / "rest.arrow", [rows[0], rows[2], rows[4]])
    for same in (view, pickle.loads(pickle.dumps(view))):
        assert len(same) == 3 and same.num_excluded == 2 and rest.num_excluded == 0
        assert list(same) == [same[0], same[1], same[2]] == list(rest)
        assert same.labels.tolist() == rest.labels.tolist() == [0, 0, 0]
        assert same.digest == rest.digest
        with pytest.raises(IndexError, match="row 3 of 3 rows"):
            same[3]


def test_lists_of_labels_are_read_back_and_belong_to_the_samples(tmp_path: Path) -> None:
    rows = [replace(row, labels=[row.label, 1 - row.label]) for row in ROWS]
    single, multi = write(tmp_path / "single.arrow"), write(tmp_path / "multi.arrow", rows)
    weighted = write(tmp_path / "weighted.arrow", [replace(row, label_weights=[1.0, 0.25]) for row in rows])
    assert (single.is_multi_label, multi.is_multi_label) == (False, True)
    assert len({single.digest, multi.digest, weighted.digest}) == 3
    assert multi[0].labels == [ROWS[0].label, 1 - ROWS[0].label]
    label = ROWS[0].label
    for manifest, other in ((single, 0.0), (multi, 1.0), (weighted, 0.25)):
        targets = manifest.targets_of([0])[0]
        assert (targets[label], targets[1 - label], len(targets)) == (1.0, other, len(manifest.class_names))
    counts = np.bincount(single.labels)
    assert single.class_counts().tolist() == counts.tolist()
    assert multi.class_counts().tolist() == (counts + counts[::-1]).tolist()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"labels": []}, "is empty; give the sample a class"),
        ({"labels": [0, 99]}, "have a value that is not from 0 to"),
        ({"labels": [0, 1], "label_weights": [1.0]}, "is not as long as its labels"),
        ({"labels": [0, 1], "label_weights": [1.0, 2.0]}, "have a value that is not from 0 to 1"),
        ({"label_weights": [1.0]}, "have label_weights without labels"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        write(tmp_path / "a.arrow", [replace(row, **values) for row in ROWS])
