"""`cover study` on a user's own clips: what is run, what is recorded, and what is not done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file, save_file
from tests.processes import TRAINING, started, wait_until
from tests.terminal import Cover, terminal

from cover.datasets.layouts.class_folders import index_folder
from cover.studies import job_queue

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
train = "../jumps-train.arrow"
val = "../jumps-val.arrow"
test = "../jumps-test.arrow"

[datasets.turns]
train = "../turns-train.arrow"
val = "../turns-val.arrow"
test = "../turns-test.arrow"

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
against = ["alone"]
"""
HEAD = "heads.turns.weight"
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
    monkeypatch.setattr(job_queue, "multiprocessing", SimpleNamespace(get_context=lambda _method: TRAINING))
    return terminal(capsys, monkeypatch)


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("studies/results.jsonl").read_text().splitlines()]


def test_a_study_is_run_recorded_and_shown_once(cover: Cover) -> None:
    assert cover("study", "own", "--dry-run").out == "9 runs; 0 have results\n"
    assert not Path("runs/study/runs").exists() and not Path("studies/results.jsonl").exists()
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
    assert "9 runs, " in answer.out
    assert "alone" in answer.out and "Δ to alone" in answer.out and "of 2 seeds" not in answer.out
    assert "| together |" in Path("page.md").read_text() and Path("study/own.svg").exists()

    before = Path("studies/results.jsonl").read_bytes()
    assert "9 runs; 9 have results" in cover("study", "own", "--dry-run").out
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


def test_a_page_without_a_place_is_an_error_before_anything_is_trained(cover: Cover) -> None:
    Path("other.md").write_text("# Nothing here\n")
    answer = cover("study", "own", "--out", "placeless", "--page", "other.md")
    assert answer.code == 2 and "<!-- study own -->" in answer.err and not Path("placeless").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            'train = "../jumps-train.arrow"',
            'train = "../jumps-val.arrow"',
            "the training samples of jumps are not those of seed 0",
        ),
        (
            'test = "../turns-test.arrow"',
            'test = "../turns-val.arrow"',
            "the test samples of turns are not those of seed 0",
        ),
    ],
)
def test_results_of_other_samples_are_not_taken_for_these(cover: Cover, before: str, after: str, message: str) -> None:
    assert cover("study", "own").code == 0
    Path("studies/changed.toml").write_text(STUDY.replace(before, after))
    answer = cover("study", "changed")
    assert answer.code == 2 and message in answer.err and "another version" in answer.err


def test_weights_from_elsewhere_are_a_start(cover: Cover) -> None:
    assert cover("study", "own").code == 0
    start = Path("runs/study/runs") / next(line["key"] for line in lines() if line.get("arm") == "start")
    text = STUDY.replace("[arms.jumps]", f'[arms.jumps]\ninit = "../{start}"\ntune = {{}}')
    Path("studies/elsewhere.toml").write_text(text)
    answer = cover("study", "elsewhere")
    assert answer.code == 0, answer.err
    assert {line["init_key"] for line in lines() if line.get("arm") == "jumps"} >= {f"../{start}"}
    Path("studies/elsewhere.toml").write_text(text.replace(f"../{start}", "weights/none.npz"))
    answer = cover("study", "elsewhere")
    assert answer.code == 2 and "studies/weights/none.npz' does not exist; put the weights" in answer.err


@contextmanager
def endless_study(folder: Path, out: Path, *, background: bool) -> Iterator[subprocess.Popen[str]]:
    """A study that trains by now, and would for ever.

    background: as a script starts a job with `&`: the shell has SIGINT ignored.
    """
    endless = STUDY.replace("max_steps = 2", "epochs = 1e6\nevaluate_every_epochs = 1e6\nlog_every = 1")
    (folder / "studies" / "endless.toml").write_text(f'results = "../{out.name}.jsonl"\n{endless}')
    command = [sys.executable, "-m", "cover.cli", "study", "endless", "--out", str(out)]
    if background:
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    with started(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as study:
        wait_until(lambda: list(out.glob("runs/*/metrics.jsonl")), study)
        yield study


@pytest.mark.parametrize(
    ("number", "background"),
    [
        pytest.param(signal.SIGTERM, False, id="SIGTERM"),
        pytest.param(signal.SIGKILL, False, id="SIGKILL", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, False, id="SIGINT", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, id="SIGINT-background"),
    ],
)
def test_the_runs_of_a_stopped_study_save_themselves_and_end(
    folder: Path, number: signal.Signals, background: bool
) -> None:
    """However the study itself is ended, SIGINT being sent to all of its processes. It says so where it can."""
    out = folder / f"stopped-{number}-{background}"
    with endless_study(folder, out, background=background) as study:
        processes = psutil.Process(study.pid).children(recursive=True)
        os.killpg(study.pid, number) if number == signal.SIGINT else study.send_signal(number)
        output, errors = study.communicate(timeout=60)
        assert not psutil.wait_procs(processes, timeout=60)[1]
    assert study.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert ("interrupted and saved" in output) == (number != signal.SIGKILL)
    assert number == signal.SIGKILL or "Traceback" not in errors
    assert list(out.glob("runs/*/checkpoints/step-*"))
    assert not (folder / f"{out.name}.jsonl").exists()


def test_a_start_is_trained_to_its_end_and_last_weights_are_tested_not_the_best(cover: Cover) -> None:
    alone = STUDY[: STUDY.index("[arms.jumps]")] + '[arms.turns]\ndatasets = ["turns"]\ntune = {}\n'
    rows = '[[rows]]\nname = "alone"\narms = ["turns"]\n'
    results = Path("studies/last.jsonl")
    text = (alone + rows).replace('"jumps", "turns", ', '"turns", ').replace("seeds = [0, 1]", "seeds = [0]")
    Path("studies/last.toml").write_text(f'results = "{results.name}"\n{text}')
    command = ("study", "last", "--out", "last")
    assert cover(*command).code == 0
    start, first = (json.loads(line) for line in results.read_text().splitlines())
    run = Path("last/runs", first["key"])
    assert f'init = "../{start["key"]}/checkpoints/step-2"' in (run / "recipe.toml").read_text()

    shutil.copytree(run / "checkpoints/step-2", run / "checkpoints/step-1")
    weights = load_file(run / "checkpoints/step-2/model.safetensors")
    save_file(weights | {HEAD: -weights[HEAD]}, run / "checkpoints/step-1/model.safetensors")
    (run / "best").write_text("step-1\n")
    results.write_text(f"{json.dumps(start)}\n")
    checkpoints = Path("last/runs", start["key"], "checkpoints")
    checkpoints.rename(checkpoints.with_name("lost"))  # `best` still names one
    assert cover(*command).code == 0
    again = json.loads(results.read_text().splitlines()[-1])
    assert again["key"] == first["key"] and again["test"] == first["test"]
    assert {json.loads(file.read_text())["checkpoint"] for file in run.glob("evaluation/*.json")} == {"step-2"}
    assert (checkpoints / "step-2").is_dir()


def test_what_was_trained_and_not_recorded_is_recorded_whole(cover: Cover) -> None:
    assert cover("study", "own").code == 0
    lost = next(line for line in lines() if line.get("arm") == "turns" and line["seed"] == 1)
    rest = [line for line in lines() if line["key"] != lost["key"]]
    Path("studies/results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in rest))
    assert cover("study", "own").code == 0
    (again,) = lines()[len(rest) :]
    assert again["test"]["turns"].keys() == {"normal", "reversed"}
    assert {field: value for field, value in again.items() if field not in ("test", "seconds")} == {
        field: value for field, value in lost.items() if field not in ("test", "seconds")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('test = "../turns-test.arrow"', ""), "datasets.turns has no test, which arm turns needs"),
        (('val = "../turns-val.arrow"', 'val = "../turns"'), "turns is a folder, not a manifest"),
        (("[recipe.data]", "[recipe]\nseed = 3\n[recipe.data]"), "recipe sets seed; an arm's own keys"),
        (
            ("share = 0.5", "recipe.model.dept = 2"),
            "'Own clips', arm turns: unknown key 'model.dept'; did you mean 'depth'",
        ),
        (("[0.01, 0.02]", "[0.01, -1]"), "'Own clips', arm jumps: optimizer.learning_rate = -1: input should be great"),
        (
            ("share = 0.5", 'recipe.datasets.turns.reversal_pairs = [["left", "up"]]'),
            "names 'up', which is not a class",
        ),
    ],
)
def test_what_a_study_lacks_is_said_before_anything_is_trained(
    cover: Cover, change: tuple[str, str], message: str
) -> None:
    Path("studies/lacks.toml").write_text(STUDY.replace(*change))
    answer = cover("study", "lacks", "--out", "lacking")
    assert answer.code == 2 and message in answer.err, answer.err
    assert not Path("lacking/runs").exists()
