from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cover.curation.leaks_by_source import Sources, leaks_by_source, sources_of
from cover.datasets.manifest import Manifest, write_manifest

Clip = tuple[str, float, float]  # source, start, end; NaN is unknown

CLIPS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y"]),
        st.sampled_from([0.0, 1.0, 2.5, 4.0, math.nan]),
        st.sampled_from([0.5, 2.5, 3.0, math.inf]),
    ).map(lambda clip: (clip[0], clip[1], clip[1] + clip[2])),
    max_size=8,
)


def sources(clips: list[Clip]) -> Sources:
    ids, starts, ends = (list(column) for column in zip(*clips, strict=True)) if clips else ([], [], [])
    return Sources(pa.chunked_array([pa.array(ids, pa.string())]), np.array(starts, float), np.array(ends, float))


def overlap(train: Clip, evaluation: Clip) -> bool | None:
    """Whether two clips overlap; None if that is unknown."""
    if train[0] != evaluation[0]:
        return False
    if math.isnan(train[1] + evaluation[1]):
        return None
    return train[1] < evaluation[2] and evaluation[1] < train[2]


@settings(derandomize=True, deadline=None, database=None)
@given(CLIPS, CLIPS)
def test_leaks_are_those_that_comparing_every_pair_finds(train: list[Clip], evaluation: list[Clip]) -> None:
    leaks = leaks_by_source(sources(train), sources(evaluation))
    found = dict(zip(leaks.rows.tolist(), zip(leaks.matches, leaks.overlapping, strict=True), strict=True))
    for row, clip in enumerate(train):
        verdicts = [overlap(clip, other) for other in evaluation]
        if True in verdicts or None in verdicts:
            match, overlapping = found.pop(row)
            assert overlapping == (True in verdicts)
            assert verdicts[match] is (True if overlapping else None)
    assert not found


def manifest_of(folder: Path, rows: list[dict[str, Any]]) -> Manifest:
    rows = [{"sample_id": str(number), "label": 0} | row for number, row in enumerate(rows)]
    about: dict[str, Any] = {"name": "clips", "kind": "video", "split": "train", "class_names": ["a"]}
    return write_manifest(folder / "clips.arrow", rows, root=folder, **about)


def read_sources(folder: Path, rows: list[dict[str, Any]]) -> list[Clip]:
    found = sources_of(manifest_of(folder, rows))
    return list(zip(found.ids.to_pylist(), found.start_seconds.tolist(), found.end_seconds.tolist(), strict=True))


def test_sources_are_columns_before_names_before_files(tmp_path: Path) -> None:
    kinetics = "jump/abcdefghijk_000012_000022.mp4"
    rows: list[dict[str, Any]] = [
        {"path": kinetics},
        {"path": kinetics, "source_id": "abcdefghijk", "source_start_seconds": 13.5, "source_end_seconds": 15.0},
        {"path": kinetics, "start_seconds": 1.0, "end_seconds": 3.0},
        {"path": "b.mp4", "source_id": "film", "source_start_seconds": 60.0, "source_end_seconds": 70.0},
        {"path": "/b.mp4", "start_seconds": 2.0},
        {"path": "shard.tar", "offset": 512, "length": 9},
    ]
    assert read_sources(tmp_path, rows) == [
        ("abcdefghijk", 12, 22),
        ("abcdefghijk", 13.5, 15),
        ("abcdefghijk", 13, 15),
        ("film", 60, 70),
        ("/b.mp4", 2, math.inf),
        (f"{tmp_path}/shard.tar:512", 0, math.inf),
    ]


def test_times_that_are_not_known_are_so(tmp_path: Path) -> None:
    rows = [{"path": "a.mp4", "source_id": "film"}, {"path": "abcdefghijk_000012_000022.mp4", "source_id": "film"}]
    for source, start, end in read_sources(tmp_path, rows):
        assert source == "film" and math.isnan(start) and math.isnan(end)


def test_names_of_another_form_are_no_ids(tmp_path: Path) -> None:
    names = [
        "xabcdefghijk_000012_000022.mp4",
        "abcdefghijk_12_22.mp4",
        "abcdefghijk_000012_000022_1.mp4",
        "abcdefghijl.mp4",
    ]
    found = read_sources(tmp_path, [{"path": name} for name in names])
    assert [source for source, _, _ in found] == [f"{tmp_path}/{name}" for name in names]


def test_bare_ids_count_where_nearly_all_files_are_called_so(tmp_path: Path) -> None:
    ids = [{"path": f"abcdefghi{letter}k.mp4"} for letter in "abcdefghi"]
    assert read_sources(tmp_path, [*ids, {"path": "intro.mp4"}])[0][0] == "abcdefghiak"
    numbered = [{"path": f"video_{number:05d}.mp4"} for number in range(10)]
    assert read_sources(tmp_path, numbered)[4][0] == f"{tmp_path}/video_00004.mp4"
