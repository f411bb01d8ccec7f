from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cover.errors import CheckpointError
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


def strip(correct: bool, num_frames: int = 8) -> Strip:
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    return Strip("moves", "in/7", frames, "in < $1", (("in < $1" if correct else "out > $2", 0.9),))


def test_page_is_one_file_and_shows_what_was_measured(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "pages" / "report.html"
    write_report(runs, out, strips={runs[0]: [strip(False)], runs[1]: [strip(True)]}, stages={"render": 75.0})
    page = TextOf(out.read_text())
    text = " ".join(page.words)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "@import" not in out.read_text() and not re.search(r"url\(", out.read_text())
    for shown in ("62.3", "−12.3", "−25.0", "80.0", "50.0", "31.0", "1x3", "1 min 15 s", "20 min 20 s"):
        assert shown in text, shown
    assert text.count("✓ correct") == 1 and text.count("✗ incorrect") == 1
    assert text.count("true class: in < $1") == 1  # both runs' answers stand on one card


def test_one_run_without_any_evaluation_still_makes_a_page(make_run: MakeRun, tmp_path: Path) -> None:
    write_report([make_run("co", "cotrain", ["moves"], [])], tmp_path / "report.html")
    assert "Training curves" in (tmp_path / "report.html").read_text()


def test_same_runs_give_the_same_page(runs: list[Path], tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        write_report(runs, tmp_path / "report.html")
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_nothing_is_written_for_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        write_report([tmp_path], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_terminal_tables_fit_100_columns(runs: list[Path], tmp_path: Path, make_result: MakeResult) -> None:
    console = Console(width=100, record=True, file=StringIO())
    print_comparison(write_report(runs, tmp_path / "report.html"), console)
    name = "freedoom_objects"
    console.print(results_table([make_result(name, 0.5, order="reversed", pair_accuracy=0.5, num_samples=10_000)]))
    text = console.export_text()
    assert "62.3" in text and "−12.3" in text and name in text
    assert "…" not in text
