from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cover.errors import CheckpointError
from cover.evaluation.comparison import compare
from cover.evaluation.record import load_records
from cover.evaluation.result import DatasetResult

MakeRun = Callable[..., Path]
MakeResult = Callable[..., DatasetResult]


def test_table_1_sets_each_standard_run_against_the_cotrained_one(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run("std-moves", "standard", ["moves"], [make_result("moves", 0.6)]),
        make_run("std-scenes", "standard", ["scenes"], [make_result("scenes", 0.5)]),
        make_run(
            "co",
            "cotrain",
            ["scenes", "moves", "objects"],
            [make_result("moves", 0.5), make_result("scenes", 0.8), make_result("objects", 0.3)],
        ),
    ]
    comparison = compare(load_records(runs))
    assert comparison.other_runs == ["co"]
    rows = {row.dataset: row for row in comparison.policy_rows}
    assert {name: row.standard_run for name, row in rows.items()} == {
        "moves": "std-moves",
        "scenes": "std-scenes",
        "objects": None,
    }
    deltas = {name: row.delta("co") for name, row in rows.items()}
    assert deltas["objects"] is None
    assert deltas["moves"] is not None and deltas["moves"].value == pytest.approx(-0.1)
    assert deltas["scenes"] is not None and deltas["scenes"].lower > 0


def test_any_list_of_runs_has_a_column_each(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [make_run(name, "cotrain", ["moves"], [make_result("moves", 0.6)]) for name in ("a", "b")]
    comparison = compare(load_records(runs))
    assert comparison.other_runs == ["a", "b"]
    assert comparison.policy_rows[0].standard is None


def test_validation_results_are_not_set_against_test_results(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run("std", "standard", ["moves"], [make_result("moves", 0.6, split="val")]),
        make_run("co", "cotrain", ["moves"], [make_result("moves", 0.5, split="test")]),
    ]
    row = compare(load_records(runs)).policy_rows[0]
    assert list(row.by_run) == ["co"]


def test_table_2_has_a_row_a_run_and_dataset_seen_in_several_orders(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [
        make_result("moves", 0.6),
        make_result("moves", 0.2, order="reversed"),
        make_result("moves", 0.4, order="single"),
        make_result("scenes", 0.7),
    ]
    comparison = compare(load_records([make_run("co", "cotrain", ["moves", "scenes"], results)]))
    (row,) = comparison.order_rows
    assert (row.dataset, row.run, list(row.results)) == ("moves", "co", ["normal", "reversed", "single"])
    assert row.delta is not None and row.delta.value == pytest.approx(-0.4)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no recipe.toml; give the folder of a run"):
        load_records([tmp_path])


@pytest.mark.parametrize("name", ["recipe.toml", "mixture.json", "metrics.jsonl", "evaluation/moves-test-normal.json"])
def test_a_damaged_file_of_a_run_is_named(make_run: MakeRun, make_result: MakeResult, name: str) -> None:
    run = make_run("co", "cotrain", ["moves"], [make_result("moves", 0.6)])
    (run / name).write_text('{"cut": ')
    with pytest.raises(CheckpointError, match=f"co/{name} is damaged .*; restore it, or leave out the run"):
        load_records([run])
