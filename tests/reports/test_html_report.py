from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.functional import one_hot

from cover.core.progress import Terminal
from cover.errors import CheckpointError
from cover.evaluation.comparison import Comparison, compare
from cover.evaluation.metrics import EvalMetrics
from cover.evaluation.result import DatasetResult
from cover.reports.cards import Strip
from cover.reports.comparison_json import comparison_json
from cover.reports.html_report import write_report
from cover.reports.terminal_tables import print_comparison, results_table
from cover.runs.compare import read_run_records

MakeRun = Callable[..., Path]
MakeResult = Callable[..., DatasetResult]


@pytest.fixture
def runs(make_run: MakeRun, make_result: MakeResult) -> list[Path]:
    """A standard and a co-trained run, the second evaluated in two orders and on a dataset of its own."""
    co = [
        make_result("moves", 0.5, pair_accuracy=0.8),
        make_result("moves", 0.25, order="reversed", pair_accuracy=0.2),
        make_result("objects", 0.31),
    ]
    return [
        make_run("std", "standard", ["moves"], [make_result("moves", 0.623)]),
        make_run("co", "cotrain", ["moves", "objects"], co),
    ]


class TextOf(HTMLParser):
    """The words a reader sees, and every address the page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def report(runs: list[Path], out: Path, **shown: Any) -> Comparison:
    comparison = compare(read_run_records(runs))
    write_report(comparison, out, **shown)
    return comparison


def strip(correct: bool, num_frames: int = 8) -> Strip:
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    return Strip("moves", "in/7", frames, ("in < $1",), (("in < $1" if correct else "out > $2", 0.9),))


def test_page_is_one_file_and_shows_what_was_measured(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "pages" / "report.html"
    report(runs, out, strips={"std": [strip(False)], "co": [strip(True)]}, stages={"render": 75.0})
    page = TextOf(out.read_text())
    text = " ".join(page.words)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "@import" not in out.read_text() and not re.search(r"url\(", out.read_text())
    for shown in ("62.3", "−12.3", "−25.0", "80.0", "50.0", "31.0", "1x3", "1 min 15 s", "20 min 20 s"):
        assert shown in text, shown
    assert text.count("✓ correct") == 1 and text.count("✗ incorrect") == 1
    assert text.count("true class: in < $1") == 1  # both runs' answers stand on one card


def test_one_run_without_any_evaluation_still_makes_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    report([make_run("co", "cotrain", ["moves"], [])], tmp_path / "report.html")
    assert "Training curves" in (tmp_path / "report.html").read_text()


def test_same_runs_give_the_same_page(runs: list[Path], tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        report(runs, tmp_path / "report.html")
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_nothing_is_written_for_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_terminal_tables_fit_80_columns(runs: list[Path], make_result: MakeResult) -> None:
    console = Console(width=80, record=True, file=StringIO())
    print_comparison(compare(read_run_records(runs)), console)
    name = "freedoom_objects"
    console.print(results_table([make_result(name, 0.5, order="reversed", pair_accuracy=0.5, num_samples=10_000)]))
    text = console.export_text()
    assert "62.3" in text and "−12.3" in text and name in text
    assert "…" not in text


def test_page_shows_classes_calibration_confusions_and_clips_that_runs_disagree_on(
    runs: list[Path], tmp_path: Path
) -> None:
    (pair,) = compare(read_run_records(runs)).policy_rows[0].pairs
    example = pair.hurt_examples[0]
    clips = {"moves": {example.sample_id: np.zeros((12, 200, 200, 3), np.uint8)}}
    report(runs, tmp_path / "report.html", frames=clips)
    text = " ".join(TextOf((tmp_path / "report.html").read_text()).words)
    for shown in ("Class by class: std → co", "Classes that co is worse at", "−12.0", "19 of 50", "ECE (%)"):
        assert shown in text, shown
    assert f"Only std gets these right: true class: {example.true_class} (8 of 12 frames shown)" in text
    assert "✓ correct std" in text and "✗ incorrect co" in text


def test_a_result_of_an_older_version_is_shown_and_asked_for_again(
    make_run: MakeRun, make_result: MakeResult, tmp_path: Path
) -> None:
    runs = [
        make_run("std", "standard", ["moves"], [make_result("moves", 0.6, predictions=False)]),
        make_run("co", "cotrain", ["moves"], [make_result("moves", 0.5)]),
    ]
    comparison = report(runs, tmp_path / "report.html")
    assert comparison.policy_rows[0].pairs == []
    text = " ".join(TextOf((tmp_path / "report.html").read_text()).words)
    assert "An older version wrote the result of std on moves" in text and "60.0" in text
    results = json.loads(comparison_json(comparison))["datasets"]["moves"]["results"]
    assert results["std"]["calibration"] is None and results["co"]["calibration"] is not None


def test_json_says_what_the_page_says(runs: list[Path]) -> None:
    values = json.loads(comparison_json(compare(read_run_records(runs))))
    moves = values["datasets"]["moves"]
    assert (moves["split"], moves["standard_run"]) == ("test", "std")
    assert moves["results"]["co"]["top1"]["reversed"]["value"] == 0.25
    assert moves["results"]["co"]["calibration"]["expected_error"] == pytest.approx(0.4)
    assert moves["results"]["std"]["most_confused"][0]["count"] == 19
    (change,) = moves["class_changes"]
    assert (change["first_run"], change["second_run"]) == ("std", "co")
    first = change["classes"][0]
    assert first["difference"]["value"] == pytest.approx(-0.12) and len(first["disagreements"]) == 6
    assert values["runs"]["co"]["datasets"] == ["moves", "objects"]


def test_what_is_not_measured_alike_is_marked_everywhere(
    make_run: MakeRun, make_result: MakeResult, tmp_path: Path
) -> None:
    runs = [
        make_run("std", "standard", ["moves"], [make_result("moves", 0.6)]),
        make_run("co", "cotrain", ["moves"], [make_result("moves", 0.5, views="4x1", manifest_digest="ffff0000")]),
        make_run("new", "cotrain", ["moves"], []),
    ]
    comparison = report(runs, tmp_path / "report.html")
    views, manifest = "moves, views: std 1x3, co 4x1 instead of 1x3", "moves, manifest: std 3f2a9c01, co ffff0000"
    missing = "new has no results to show; evaluate it: cover evaluate"
    console = Console(width=100, record=True, file=StringIO())
    print_comparison(comparison, console)
    page = " ".join(TextOf((tmp_path / "report.html").read_text()).words)
    for text, mark in ((console.export_text(), "50.0*"), (page, "50.0 *")):
        assert mark in text and f"* measured differently: {views}" in text
        assert f"* measured differently: {manifest}" in text and missing in text
    values = json.loads(comparison_json(comparison))
    assert values["datasets"]["moves"]["differences"] == [
        {"setting": "views", "values": {"std": "1x3", "co": "4x1 instead of 1x3"}},
        {"setting": "manifest", "values": {"std": "3f2a9c01", "co": "ffff0000"}},
    ]
    assert values["runs"]["new"]["has_results"] is False and values["runs"]["co"]["has_results"] is True
    assert values["datasets"]["moves"]["results"]["co"]["manifest_digest"] == "ffff0000"


def test_names_of_any_length_and_with_markup_are_shown_as_they_are(
    make_run: MakeRun, make_result: MakeResult, tmp_path: Path
) -> None:
    names = ('<script>alert(1)</script> & "quotes" {{ 7 * 7 }}', "$\\frac{$ [/] [red]" + 300 * "W")
    dataset, run = "[bold]<b>moves</b>", "r" * 200
    results = [replace(make_result(dataset, top1), class_names=names) for top1 in (0.6, 0.5)]
    runs = [
        make_run(name, "cotrain", [dataset], [result]) for name, result in zip((run, "[red]"), results, strict=True)
    ]
    comparison = report(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page and "<b>moves" not in page
    text = " ".join(TextOf(page).words)
    assert " ".join(names[0].split()) in text and names[1] in text and dataset in text
    print_comparison(comparison, Terminal(output := StringIO(), width=400))
    assert dataset in (shown := output.getvalue()) and "[red]" in shown


def test_hundreds_of_classes_stay_readable(make_run: MakeRun, make_result: MakeResult, tmp_path: Path) -> None:
    names = tuple(f"class {number} with a name as long as those of Something-Something are" for number in range(300))
    confusion = np.diag(np.full(300, 3)) + 2 * np.eye(300, k=1, dtype=int)
    result = replace(
        make_result("moves", 0.6, predictions=False), class_names=names, confusion=tuple(map(tuple, confusion.tolist()))
    )
    report([make_run("co", "cotrain", ["moves"], [result])], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "The matrix shows the classes of the most frequent confusions" in page
    assert len(page) < 500_000


def test_thousands_of_classes_take_no_table_of_all_against_all(
    make_run: MakeRun, make_result: MakeResult, tmp_path: Path
) -> None:
    """One such table of 4,000 classes takes 122 MiB, and several times that in JSON."""
    num_classes, num_samples = 4_000, 500
    names = tuple(f"n{number:08d}" for number in range(num_classes))
    labels = torch.arange(num_samples) * 8
    ids = [str(number) for number in range(num_samples)]
    runs = []
    tracemalloc.start()
    for run, num_right in (("a", 125), ("b", 375)):
        tally = EvalMetrics(torch.full((num_classes,), -1))
        for start in range(0, num_samples, 50):
            batch = slice(start, start + 50)
            wrong = torch.arange(start, start + 50) >= num_right
            logits = one_hot(labels[batch] + wrong, num_classes).float()
            tally.update(ids[batch], logits, labels[batch])
        result = replace(make_result(), class_names=names, **tally.measured())
        runs.append(make_run(run, "cotrain", ["moves"], [result]))
    comparison = compare(read_run_records(runs))
    values = json.loads(comparison_json(comparison))["datasets"]["moves"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [result.top1 for result in comparison.policy_rows[0].by_run.values()] == [0.25, 0.75]
    assert len(values["class_changes"][0]["classes"]) == num_samples
    assert values["results"]["a"]["most_confused"][0] == {
        "true_class": "n00001000", "predicted_class": "n00001001", "count": 1, "num_samples": 1
    }  # fmt: skip
    assert len(values["results"]["a"]["most_confused"]) == 100
    assert peak_bytes < 2**24
    write_report(comparison, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 2**20
