from __future__ import annotations

from pathlib import Path

import pytest

from cover.errors import CoverError
from cover.studies.records import append_record, load_records


def test_lines_of_a_run_are_merged_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "results" / "all.jsonl"
    append_record(file, {"key": "a", "arm": "both", "seed": 1, "val": {"moves": 0.5}, "failed": "no memory"})
    append_record(file, {"key": "b", "arm": "scenes"})
    append_record(file, {"key": "a", "test": {"moves": {"normal": {"top1": 0.4}}}})
    append_record(file, {"key": "a", "test": {"moves": {"reversed": {"top1": 0.1}}}, "failed": ""})
    records = load_records(file)
    assert list(records) == ["a", "b"]
    assert (records["a"].arm, records["a"].seed, records["a"].failed) == ("both", 1, "")
    assert records["a"].test == {"moves": {"normal": {"top1": 0.4}, "reversed": {"top1": 0.1}}}


def test_a_line_that_was_cut_off_is_named(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    append_record(file, {"key": "a"})
    file.write_text(file.read_text() + '{"key": "b", "ar')
    with pytest.raises(CoverError, match=r"all\.jsonl, line 2, is not the complete record of a run; remove it"):
        load_records(file)


def test_no_file_has_no_records(tmp_path: Path) -> None:
    assert load_records(tmp_path / "none.jsonl") == {}


def test_mean_validation_ranks_a_failed_run_last(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    append_record(file, {"key": "a", "val": {"moves": 0.5, "scenes": 0.7}})
    append_record(file, {"key": "b", "failed": "the loss is nan"})
    records = load_records(file)
    assert records["a"].mean_val == pytest.approx(0.6)
    assert records["b"].mean_val < 0
