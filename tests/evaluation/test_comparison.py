from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.errors import CheckpointError, CoverError
from cover.evaluation.comparison import compare
from cover.evaluation.result import DatasetResult
from cover.runs.compare import read_run_records

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
    comparison = compare(read_run_records(runs))
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


def test_without_a_standard_run_the_first_one_is_the_reference(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run(name, "cotrain", ["moves"], [make_result("moves", top1)]) for name, top1 in (("a", 0.6), ("b", 0.5))
    ]
    (row,) = compare(read_run_records([*runs, make_run("c", "cotrain", ["moves"], [])])).policy_rows
    assert (row.standard_run, row.reference, list(row.by_run), row.without) == (None, "a", ["a", "b"], ["c"])
    delta = row.delta("b")
    assert row.delta("a") is None and delta is not None and delta.value == pytest.approx(-0.1)


def test_validation_results_are_not_set_against_test_results(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run("std", "standard", ["moves"], [make_result("moves", 0.6, split="val")]),
        make_run("co", "cotrain", ["moves"], [make_result("moves", 0.5, split="test")]),
    ]
    row = compare(read_run_records(runs)).policy_rows[0]
    assert list(row.by_run) == ["co"]


def test_table_2_has_a_row_a_run_and_dataset_seen_in_several_orders(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [
        make_result("moves", 0.6),
        make_result("moves", 0.2, order="reversed"),
        make_result("moves", 0.4, order="single"),
        make_result("scenes", 0.7),
    ]
    comparison = compare(read_run_records([make_run("co", "cotrain", ["moves", "scenes"], results)]))
    (row,) = comparison.order_rows
    assert (row.dataset, row.run, list(row.results)) == ("moves", "co", ["normal", "reversed", "single"])
    assert row.delta is not None and row.delta.value == pytest.approx(-0.4)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no recipe.toml; give the folder of a run"):
        read_run_records([tmp_path])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.toml", '{"cut": ', r"co/recipe.toml is not a readable TOML file"),
        ("mixture.json", '{"cut": ', r"co/mixture.json is damaged .*; restore it, or leave out the run"),
        ("mixture.json", '{"moves": 1}', r"co/mixture.json is damaged \(it is not a list of datasets\); restore it"),
        ("metrics.jsonl", '{"cut": ', r"co/metrics.jsonl is damaged .*; restore it, or leave out the run"),
        (
            "metrics.jsonl",
            '{"step": 1, "epoch": "one", "val": {}}',
            r"damaged \(line 1 is neither of training nor of a",
        ),
        ("metrics.jsonl", '{"step": 1, "epoch": 1, "val": {"moves": 0.5}}', r"damaged \(line 1 is neither of training"),
        ("evaluation/moves.json", '{"cut": ', r"co/evaluation/moves.json is damaged .*; delete it and evaluate the"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(make_run: MakeRun, name: str, content: str, message: str) -> None:
    run = make_run("co", "cotrain", ["moves"], [])
    (run / "evaluation").mkdir()
    (run / name).write_text(content)
    with pytest.raises(CoverError, match=message):
        read_run_records([run])


def test_a_run_is_shown_by_its_best_checkpoint_and_the_views_of_its_recipe(
    make_run: MakeRun, make_result: MakeResult
) -> None:
    results = [
        make_result("moves", 0.5, checkpoint="step-10", finished="2025-02-01T00:00:00+00:00"),
        make_result("moves", 0.7, views="4x3", finished="2025-02-01T00:00:00+00:00"),
        make_result("moves", 0.6),
    ]
    comparison = compare(read_run_records([make_run("co", "cotrain", ["moves"], results)]))
    shown = comparison.policy_rows[0].by_run["co"]
    assert (shown.top1, shown.checkpoint, shown.views) == (0.6, "step-20", "1x3")
    assert comparison.differences == []


def test_of_results_on_several_manifests_the_newest_is_shown(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [
        make_result("moves", 0.5, manifest_digest=None, finished=""),
        make_result("moves", 0.7, manifest_digest="ffff0000", finished="2025-01-02T00:00:00+00:00"),
        make_result("moves", 0.6, manifest_digest="00001111", finished="2025-01-01T00:00:00+00:00"),
    ]
    comparison = compare(read_run_records([make_run("co", "cotrain", ["moves"], results)]))
    assert comparison.policy_rows[0].by_run["co"].top1 == 0.7


def test_another_checkpoint_stands_for_the_best_only_with_a_mark(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run("a", "cotrain", ["moves"], [make_result("moves", 0.5, checkpoint="step-10")]),
        make_run("b", "cotrain", ["moves"], [make_result("moves", 0.6)]),
    ]
    comparison = compare(read_run_records(runs))
    (row,) = comparison.policy_rows
    assert list(map(str, row.differences)) == ["moves, checkpoint: a step-10 instead of step-20"]
    assert row.by_run["a"].top1 == 0.5 and row.is_marked("a") and not row.is_marked("b")
    remedy = f"a has results of another checkpoint than step-20; evaluate it: cover evaluate {runs[0]}"
    assert comparison.remedies == [remedy]


def test_other_views_than_the_recipes_are_marked_and_named(make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [
        make_run("a", "cotrain", ["moves"], [make_result("moves", 0.5, views="4x1")]),
        make_run("b", "cotrain", ["moves"], [make_result("moves", 0.6)]),
    ]
    comparison = compare(read_run_records(runs))
    (row,) = comparison.policy_rows
    assert list(map(str, row.differences)) == ["moves, views: a 4x1 instead of 1x3, b 1x3"]
    assert row.is_marked("a") and row.is_marked("b")
    remedy = f"a has results with other views than its recipe's 1x3; evaluate it: cover evaluate {runs[0]}"
    assert comparison.remedies == [remedy]


def test_results_on_different_samples_are_marked(make_run: MakeRun, make_result: MakeResult) -> None:
    def differences(*digests: str | None, num_samples: int = 100) -> list[str]:
        results = [make_result("moves", 0.5, manifest_digest=digest) for digest in digests[:-1]]
        results.append(make_result("moves", 0.5, manifest_digest=digests[-1], num_samples=num_samples))
        names = [f"{name}{next(numbers)}" for name in "abc"[: len(digests)]]
        runs = [make_run(name, "cotrain", ["moves"], [each]) for name, each in zip(names, results, strict=True)]
        return [str(each) for each in compare(read_run_records(runs)).differences]

    numbers = itertools.count()
    assert differences("1111222233", "1111222233") == []
    assert differences("1111222233", "4444555566") == ["moves, manifest: a2 11112222, b3 44445555"]
    assert differences("1111222233", None) == ["moves, manifest: a4 11112222, b5 unknown (100 samples)"]
    assert differences(None, None) == [], "where nothing is known, nothing can be said"
    assert differences(None, None, num_samples=80) == [
        "moves, manifest: a8 unknown (100 samples), b9 unknown (80 samples)"
    ]


def test_inputs_of_other_sizes_are_marked(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [make_result(), make_result(image_size_px=96), make_result(image_size_px=None)]
    runs = [make_run(name, "cotrain", ["moves"], [each]) for name, each in zip("abc", results, strict=True)]
    assert list(map(str, compare(read_run_records(runs)).differences)) == ["moves, input: a 8x64, b 8x96, c 8x?"]
    assert compare(read_run_records([runs[0], runs[2]])).differences == []


def test_frame_orders_are_those_of_the_result_in_normal_order(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [
        make_result("moves", 0.6, views="4x3"),
        make_result("moves", 0.2, views="4x3", order="reversed"),
        make_result("moves", 0.3, order="reversed"),
        make_result("moves", 0.4, order="single", checkpoint="step-10", views="4x3"),
    ]
    (row,) = compare(read_run_records([make_run("co", "cotrain", ["moves"], results)])).order_rows
    assert row.results["reversed"].top1 == 0.2
    assert list(map(str, row.differences)) == ["moves of co, checkpoint: single step-10 instead of step-20"]
    assert row.is_marked("single") and not row.is_marked("reversed")


def test_a_checkpoint_that_is_named_stands_for_itself(make_run: MakeRun, make_result: MakeResult) -> None:
    results = [make_result("moves", 0.5, checkpoint="step-10"), make_result("moves", 0.6)]
    run = make_run("co", "cotrain", ["moves"], results)
    for name in ("step-10", "step-20", "step-30"):
        (run / "checkpoints" / name).mkdir(exist_ok=True)
        (run / "checkpoints" / name / "config.json").write_text("{}")
    comparison = compare(read_run_records([run, *sorted((run / "checkpoints").iterdir())]))
    (row,) = comparison.policy_rows
    shown = {name: result.top1 for name, result in row.by_run.items()}
    assert shown == {"co": 0.6, "co/step-10": 0.5, "co/step-20": 0.6}
    assert [record.name for record in comparison.without_results] == ["co/step-30"]
    assert row.differences == []


def test_a_run_that_is_given_twice_is_shown_once(
    make_run: MakeRun, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run("co", "cotrain", ["moves"], [make_result("moves", 0.6)])
    assert len(read_run_records([run, run.parent / "." / "co", run])) == 1
    assert caplog.messages == 2 * [f"{run} is given more than once; it is shown once"]
