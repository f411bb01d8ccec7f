"""`cover study` on a user's own clips: what is run, what is recorded, and what is not done twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.terminal import Cover, terminal

from cover.catalog.folder import index_folder

WriteMedia = Callable[..., Path]

STUDY = """
title = "Own clips"
seeds = [0, 1]
init = "start"
columns = ["jumps", "turns", "turns reversed"]

[tune]
"optimizer.learning_rate" = [0.01, 0.02]

[recipe.model]
variant = "timesformer_tiny"
depth = 1
width = 24
num_heads = 3
num_frames = 2
image_size = 16

[recipe.data]
batch_size = 4
num_workers = 1
cache_frames = true

[recipe.training]
max_steps = 2

[datasets.jumps]
train = "jumps-train.arrow"
val = "jumps-val.arrow"
test = "jumps-test.arrow"

[datasets.turns]
train = "turns-train.arrow"
val = "turns-val.arrow"
test = "turns-test.arrow"

[arms.start]
datasets = ["jumps"]
init = ""
seeds = [0]
tune = {}

[arms.jumps]
datasets = ["jumps"]

[arms.turns]
datasets = ["turns"]
share = 0.5

[arms.both]
datasets = ["jumps", "turns"]
tuned_as = "jumps"

[[rows]]
name = "alone"
arms = ["jumps", "turns"]

[[rows]]
name = "together"
arms = ["both"]
against = "alone"
"""
MORE = """
extends = ["own.toml"]
title = "What else there is to know"
columns = ["turns shuffled"]

[arms.diverges]
datasets = ["turns"]
tune = {}
recipe = { optimizer = { learning_rate = 1e30 } }

[[rows]]
name = "together"
arms = ["both"]

[[rows]]
name = "at a rate that is far too high"
arms = ["diverges"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia) -> Path:
    """Two sets of eight videos, of two classes, with splits; studies of them; a page for these."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("jumps", "turns"):
        for index in range(16):
            split = "train" if index < 8 else "val" if index < 12 else "test"
            file = folder / name / split / ("left" if index % 2 else "right") / f"{index}.mp4"
            write_video(file, num_frames=4, first_number=100 * index, width_px=24, height_px=24)
        index_folder(folder / name, kind="video", out=folder)
    (folder / "studies").mkdir()
    (folder / "studies" / "own.toml").write_text(STUDY)
    (folder / "studies" / "more.toml").write_text(MORE)
    (folder / "page.md").write_text("# Mine\n\n<!-- study own -->\n<!-- end -->\n\n<!-- study more -->\n<!-- end -->\n")
    return folder


@pytest.fixture
def cover(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    monkeypatch.chdir(folder)
    return terminal(capsys, monkeypatch)


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("studies/results.jsonl").read_text().splitlines()]


def test_a_study_is_run_recorded_and_shown_once(cover: Cover) -> None:
    answer = cover("study", "own", "--page", "page.md")
    assert answer.code == 0, answer.err
    trained = [line for line in lines() if "seed" in line]
    assert len(trained) == 1 + 2 * 3 + 2, "the start, two arms of two rates and another seed, one arm of two seeds"
    assert {line["arm"] for line in trained} == {"start", "jumps", "turns", "both"}
    assert all(line["val"] and line["digests"] and not line["failed"] for line in trained)
    assert all(line["recipe"]["model"]["width"] == 24 and "init" not in line["recipe"] for line in trained)
    tested = [line["test"] for line in lines() if "test" in line]
    assert len(tested) == 6, "each arm that a row shows, each seed"
    assert {"jumps": ["normal"], "turns": ["normal", "reversed"]} in [
        {name: list(orders) for name, orders in test.items()} for test in tested
    ]
    assert "alone" in answer.out and "Δ to alone" in answer.out and "of 2 seeds" not in answer.out
    assert "| together |" in Path("page.md").read_text() and Path("study/own.svg").exists()

    before = Path("studies/results.jsonl").read_bytes()
    again = cover("study", "own")
    assert again.code == 0 and Path("studies/results.jsonl").read_bytes() == before


def test_another_study_takes_what_is_there_and_weights_that_are_gone_are_made_again(cover: Cover) -> None:
    assert cover("study", "own").code == 0
    num_before = len(lines())
    shutil.rmtree("runs")
    answer = cover("study", "studies/more.toml", "own", "--side-by-side", "2")
    assert answer.code == 0, answer.err
    new = lines()[num_before:]
    assert {line["arm"] for line in new if "arm" in line} == {"start", "both", "diverges"}
    assert sum("shuffled" in line.get("test", {}).get("turns", {}) for line in new) == 2
    failed = [line["failed"] for line in new if line.get("failed")]
    assert len(failed) == 2 and all("not a finite number" in reason for reason in failed), failed
    assert "Failed, 2" in answer.out


def test_a_study_that_is_not_there_is_named(cover: Cover) -> None:
    answer = cover("study", "missing")
    assert answer.code == 2 and "studies/missing.toml" in answer.err


def test_a_page_without_a_place_is_an_error(cover: Cover) -> None:
    Path("other.md").write_text("# Nothing here\n")
    answer = cover("study", "own", "--report-only", "--page", "other.md")
    assert answer.code == 2 and "<!-- study own -->" in answer.err
