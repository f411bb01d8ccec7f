"""`cover evaluate` and `cover compare` of a run on several datasets: what is left out, what is kept, what is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.processes import TRAINING, become_rank, free_port
from tests.runs.tiny import quiet
from tests.terminal import Cover, terminal

from cover import cli
from cover.config.recipe_files import parse_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest, write_manifest
from cover.runs.compare import read_run_records
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

WriteMedia = Callable[..., Path]

SPLITS = {
    "signs": ("train", "val", "test"),  # as usual
    "plates": ("train", "val"),  # has no test split
    "spoilt": ("train", "test"),  # no test image can be read
    "single": ("train", "test"),  # has one class
}
SETTINGS: dict[str, Any] = {
    "policy": "cotrain",
    "model": {"variant": "timesformer_tiny", "depth": 1, "width": 32, "num_heads": 2, "image_size": 32},
    "data": {"batch_size": 4, "num_workers": 0},
    "training": {"max_steps": 2, "save_every": 1, "evaluate_every_epochs": 100},
}


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_image: WriteMedia) -> Path:
    """A folder with the datasets above and a run on them, runs/first, with the checkpoints step-1 and step-2."""
    root = tmp_path_factory.mktemp("work")
    for name, splits in SPLITS.items():
        for split in splits:
            for number in range(4):
                class_name = "in" if number % 2 or name == "single" else "out"
                write_image(root / name / split / class_name / f"{number}.png", number)
        index_folder(root / name, kind="image", out=root / "manifests", name=name)
    for file in (root / "spoilt" / "test").rglob("*.png"):
        file.write_bytes(b"no image")
    datasets = {
        name: {split: str(root / "manifests" / f"{name}-{split}.arrow") for split in splits}
        for name, splits in SPLITS.items()
    }
    train(plan(parse_recipe(SETTINGS | {"datasets": datasets}, "a recipe")), root / "runs" / "first", quiet())
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, not evaluated; the current folder is that of the copy."""
    shutil.copytree(trained / "runs" / "first", tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    return Path("first")


def results_of(run: Path) -> dict[tuple[str, str, str, str], float]:
    (record,) = read_run_records([run])
    return {(each.dataset, each.split, each.views, each.checkpoint): each.top1 for each in record.results}


def test_what_cannot_be_evaluated_is_named_and_the_others_are_evaluated(
    run: Path, cover: Cover, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Path("first/recipe.toml")
    later = '[datasets.plates]\ntest = "later.arrow"'  # which training only warns of
    recipe.write_text(recipe.read_text().replace("[datasets.plates]", later))
    answer = cover("evaluate", "first")
    assert answer.code == 1
    assert caplog.messages == ["plates has no test manifest; its val split is evaluated"]
    (line,) = answer.err.splitlines()
    assert line.startswith("error: spoilt: none of the 4 test samples can be decoded; check the first one: ")
    assert "step-2, normal order, 1x3 views: accuracy in %" in answer.out
    rows = [row.split()[:2] for row in answer.out.splitlines() if row.startswith((" signs ", " plates ", " single "))]
    assert rows == [["signs", "test"], ["plates", "val"], ["single", "test"]]
    assert results_of(run).keys() == {(*row, "1x3", "step-2") for row in map(tuple, rows)}
    assert results_of(run)["single", "test", "1x3", "step-2"] == 1.0
    (record,) = read_run_records([run])
    assert [result.chance for result in record.results] == [0.5, 0.5, 1.0]
    assert cover("compare", "first").code == 0 and "plates" in Path("report.html").read_text()
    caplog.clear()
    recipe.write_text(recipe.read_text().replace(later, "[datasets.plates]"))
    cover("evaluate", "first", "--split", "test")
    assert caplog.messages == ["plates is left out: it has no test manifest, only train, val"]


def test_a_split_that_no_dataset_has_is_refused_and_those_that_exist_are_named(run: Path, cover: Cover) -> None:
    answer = cover("evaluate", "first", "--dataset", "spoilt", "--dataset", "single", "--split", "val")
    assert answer == (
        2,
        "",
        "error: first has no val manifest (spoilt has train, test; single has train, test); choose another --split, or "
        "name one in its recipe.toml\n",
    )
    Path("first/recipe.toml").write_text(re.sub(r"(?m)^(val|test) = .*\n", "", Path("first/recipe.toml").read_text()))
    assert "first has no test or val manifest (signs has train; " in cover("evaluate", "first").err
    answer = cover("evaluate", "first", "--dataset", "absent")
    assert answer.code == 2 and "first has no dataset 'absent'; its datasets are signs, plates" in answer.err


def test_nothing_that_can_be_decoded_is_a_mistake(run: Path, cover: Cover) -> None:
    answer = cover("evaluate", "first", "--dataset", "spoilt", "--json")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)


def test_an_interrupted_evaluation_keeps_and_shows_what_is_finished(
    run: Path, cover: Cover, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = TrainedRun.evaluate_together

    def interrupted(self: TrainedRun, manifests: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        if "single" in manifests:
            raise KeyboardInterrupt
        return evaluate(self, manifests, *arguments, **options)

    monkeypatch.setattr(TrainedRun, "evaluate_together", interrupted)
    answer = cover("evaluate", "first", "--dataset", "signs", "--dataset", "single", "--json")
    assert (answer.code, answer.err) == (130, "stopped; 1 of 2 datasets were evaluated\n")
    assert [result["dataset"] for result in json.loads(answer.out)] == ["signs"]
    assert results_of(run).keys() == {("signs", "test", "1x3", "step-2")}


def test_other_views_and_checkpoints_overwrite_nothing_and_stand_for_nothing(run: Path, cover: Cover) -> None:
    for arguments in (["first"], ["first", "--num-clips", "4"], ["first/checkpoints/step-1"]):
        assert cover("evaluate", *arguments, "--dataset", "signs").code == 0
    assert results_of(run).keys() == {
        ("signs", "test", "1x3", "step-2"),
        ("signs", "test", "4x3", "step-2"),
        ("signs", "test", "1x3", "step-1"),
    }
    assert cover("compare", "first", "first/checkpoints/step-1", "--json", "compared.json").code == 0
    signs = json.loads(Path("compared.json").read_text())["datasets"]["signs"]
    assert signs["differences"] == []
    shown = {name: (result["checkpoint"], result["views"]) for name, result in signs["results"].items()}
    assert shown == {"first": ("step-2", "1x3"), "first/step-1": ("step-1", "1x3")}


def test_other_sizes_stand_for_nothing_and_logits_are_kept_beside_the_result(run: Path, cover: Cover) -> None:
    assert cover("evaluate", "first", "--dataset", "signs").code == 0
    expected = results_of(run)
    answer = cover("evaluate", "first", "--dataset", "signs", "--image-size", "48", "--logits", "--json")
    (larger,) = json.loads(answer.out)
    assert (larger["image_size_px"], larger["num_frames"]) == (48, 1)
    (file,) = Path("first/evaluation").glob("*.parquet")
    assert file.with_name(file.name.replace("-logits.parquet", ".json")).exists()
    assert len(results_of(run)) == len(expected) and len(read_run_records([run])[0].results) == 2
    (record,) = read_run_records([run])
    shown = record.result("signs", "test")
    assert shown is not None and shown.image_size_px == 32
    answer = cover("evaluate", "first", "--dataset", "signs", "--image-size", "33")
    assert (answer.code, answer.err.count("\n")) == (2, 1) and "image_size 33 is not a multiple of patch" in answer.err


def evaluate_as_rank(rank: int, port: int, folder: Path, arguments: list[str]) -> None:
    """In a process of its own: one of two. What it prints is in the file RANK.out."""
    become_rank(rank, port)
    os.chdir(folder)
    sys.argv = ["cover", "evaluate", *arguments]
    with open(f"{rank}.out", "w") as sys.stdout:
        cli.main()


def test_two_processes_write_the_result_of_one(run: Path, cover: Cover) -> None:
    def results() -> list[dict[str, Any]]:
        (record,) = read_run_records([run])
        return [vars(replace(result, seconds=0.0, finished="")) for result in record.results]

    arguments = ["first", "--dataset", "signs", "--dataset", "single"]
    assert cover("evaluate", *arguments).code == 0
    expected = results()
    shutil.rmtree("first/evaluation")
    port = free_port()
    ranks = [
        TRAINING.Process(target=evaluate_as_rank, args=(rank, port, Path.cwd(), [*arguments, "--json"]), daemon=True)
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    assert [result["dataset"] for result in json.loads(Path("0.out").read_text())] == ["signs", "single"]
    assert Path("1.out").read_text() == ""
    assert results() == expected


def test_runs_without_results_are_named(run: Path, cover: Cover) -> None:
    shutil.copytree(run, "second")
    answer = cover("compare", "first", "second")
    assert answer.code == 2
    evaluated = "evaluate with `cover evaluate first`, `cover evaluate second`\n"
    assert answer.err == f"error: none of these runs has results in normal frame order; {evaluated}"
    cover("evaluate", "first", "--dataset", "signs")
    cover("evaluate", "first", "--dataset", "single")
    answer = cover("compare", "first", "second")
    assert answer.code == 0
    assert "second has no results to show; evaluate it: cover evaluate second\n" in answer.out
    rows = [line.split() for line in answer.out.splitlines()]
    assert ["second", "–", "–", "–", "–"] in rows and Path("report.html").read_text().count("not evaluated") == 2

    cover("evaluate", "second/checkpoints/step-1", "--dataset", "signs")
    answer = cover("compare", "first", "second")
    assert answer == (2, "", "error: report.html exists already; choose another name, or replace it with --force\n")
    answer = cover("compare", "first", "second", "--force")
    assert "* measured differently: signs, checkpoint: second step-1 instead of step-2\n" in answer.out
    assert "second has results of another checkpoint than step-2; evaluate it: cover evaluate second\n" in answer.out
    command = "cover evaluate second --dataset single --split test"
    assert f"second has no result on single test; evaluate it: {command}\n" in answer.out
    assert cover(*command.split()[1:]).code == 0


def test_other_manifests_do_not_stand_for_those_of_a_run(run: Path, trained: Path, cover: Cover) -> None:
    shutil.copytree(run, "second")
    others = {split: Manifest.open(trained / "manifests" / f"plates-{split}.arrow") for split in ("train", "val")}
    for split, other in (("test", others["val"]), ("val", others["train"])):
        rows = [{key: value for key, value in vars(row).items() if key != "root"} for row in other]
        write_manifest(
            f"{split}.arrow", rows, name="other", kind="image", split=split, class_names=["in", "out"], root=other.root
        )
    for each in ("first", "second"):
        assert cover("evaluate", each, "--dataset", "plates").code == 0
        assert cover("evaluate", each, "--dataset", "plates", "--manifest", "val.arrow").code == 0
    own = Manifest.open(trained / "manifests" / "plates-val.arrow").digest
    assert cover("compare", "first", "second", "--json", "own.json").code == 0
    records = read_run_records([run, Path("second")])
    assert [record.result("plates", "val").manifest_digest for record in records] == [own, own]  # type: ignore[union-attr]

    for each in ("first", "second"):  # a split that the runs do not have
        assert cover("evaluate", each, "--dataset", "plates", "--manifest", "test.arrow").code == 0
    answer = cover("compare", "first", "second", "--force")
    assert answer.code == 0 and "plates" in answer.out


def test_a_result_is_known_by_its_samples_and_views(run: Path, write_image: WriteMedia) -> None:
    opened = TrainedRun.open(run)
    manifest = opened.manifest("signs", "test")
    assert not opened.has_result("signs", manifest, "normal")
    opened.evaluate("signs", manifest, "normal", num_clips=4)
    assert not opened.has_result("signs", manifest, "normal")
    opened.evaluate("signs", manifest, "normal")
    assert opened.has_result("signs", manifest, "normal")
    assert not opened.has_result("signs", manifest, "reversed")
    assert not opened.has_result("signs", manifest.without([manifest[0].sample_id]), "normal")
    assert not TrainedRun.open(run / "checkpoints" / "step-1").has_result("signs", manifest, "normal")
