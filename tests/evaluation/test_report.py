from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cover.errors import CheckpointError
from cover.evaluation.comparison import Comparison, compare
from cover.evaluation.comparison_json import comparison_json
from cover.evaluation.record import load_records
from cover.evaluation.report import write_report
from cover.evaluation.result import DatasetResult
from cover.evaluation.strips import Strip
from cover.evaluation.terminal import print_comparison, results_table

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
    comparison = compare(load_records(runs))
    write_report(comparison, out, **shown)
    return comparison


def strip(correct: bool, num_frames: int = 8) -> Strip:
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    return Strip("moves", "in/7", frames, "in < $1", (("in < $1" if correct else "out > $2", 0.9),))


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


def test_terminal_tables_fit_100_columns(runs: list[Path], tmp_path: Path, make_result: MakeResult) -> None:
    console = Console(width=100, record=True, file=StringIO())
    print_comparison(report(runs, tmp_path / "report.html"), console)
    name = "freedoom_objects"
    console.print(results_table([make_result(name, 0.5, order="reversed", pair_accuracy=0.5, num_samples=10_000)]))
    text = console.export_text()
    assert "62.3" in text and "−12.3" in text and name in text
    assert "…" not in text


def test_page_shows_classes_calibration_confusions_and_clips_that_runs_disagree_on(
    runs: list[Path], tmp_path: Path
) -> None:
    (pair,) = compare(load_records(runs)).policy_rows[0].pairs
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
    old = runs[0] / "evaluation" / "moves-test-normal.json"
    values = json.loads(old.read_text())
    del values["predictions"]
    old.write_text(json.dumps(values))
    comparison = report(runs, tmp_path / "report.html")
    assert comparison.policy_rows[0].pairs == []
    text = " ".join(TextOf((tmp_path / "report.html").read_text()).words)
    assert "The result of std on moves was written by an older version" in text and "60.0" in text
    results = json.loads(comparison_json(comparison))["datasets"]["moves"]["results"]
    assert results["std"]["calibration"] is None and results["co"]["calibration"] is not None


def test_json_says_what_the_page_says(runs: list[Path]) -> None:
    values = json.loads(comparison_json(compare(load_records(runs))))
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


def test_hundreds_of_classes_stay_readable(make_run: MakeRun, make_result: MakeResult, tmp_path: Path) -> None:
    names = tuple(f"class {number} with a name as long as those of Something-Something are" for number in range(300))
    confusion = np.diag(np.full(300, 3)) + 2 * np.eye(300, k=1, dtype=int)
    result = replace(
        make_result("moves", 0.6, predictions=False), class_names=names, confusion=tuple(map(tuple, confusion.tolist()))
    )
    report([make_run("co", "cotrain", ["moves"], [result])], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "the matrix shows those of the most frequent confusions" in page
    assert len(page) < 500_000
