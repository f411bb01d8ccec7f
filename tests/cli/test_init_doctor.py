"""`cover init` and `cover doctor`: a first recipe, and what to paste into an issue."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.terminal import Cover, terminal

from cover.config.recipe_files import read_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import write_manifest
from cover.runs.doctor import EXTRAS
from cover.runs.plan import plan

WriteMedia = Callable[..., Path]


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cover:
    monkeypatch.chdir(tmp_path)
    return terminal(capsys, monkeypatch)


def manifest(name: str, kind: str, counts: dict[str, int], split: str = "train") -> str:
    """A manifest of files that do not exist, in the current folder."""
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    rows = [{"sample_id": str(row), "path": f"{row}.mp4", "label": int(label)} for row, label in enumerate(labels)]
    file = Path("manifests", f"{name}-{split}.arrow")
    write_manifest(file, rows, name=name, kind=kind, split=split, class_names=list(counts), root=".")  # type: ignore[arg-type]
    return str(file)


def test_a_recipe_for_clips_passes_a_dry_run(cover: Cover, write_video: WriteMedia) -> None:
    for number in range(4):
        write_video(Path("moves") / ("in" if number % 2 else "out") / f"{number}.mp4", num_frames=4)
    index_folder("moves", kind="video", out="manifests")
    written = cover("init", "manifests/moves-train.arrow", "--out", "here/moves.toml")
    assert written.out == "recipe: here/moves.toml\nnext: cover train here/moves.toml --dry-run\n"
    options = ("--set", "model.image_size=32", "--set", "model.depth=1")
    shown = cover("train", "here/moves.toml", "--dry-run", *options)
    assert shown.code == 0 and "steps of" in shown.out
    refused = cover("init", "manifests/moves-train.arrow", "--out", "here/moves.toml")
    assert refused.code == 2 and "here/moves.toml exists already; choose another name, or replace" in refused.err


def test_a_recipe_suits_its_data(cover: Cover) -> None:
    few = manifest("moves", "video", {"turn left": 30, "turn right": 4})
    val = manifest("moves", "video", {"turn left": 2, "turn right": 2}, split="val")
    many = manifest("photos é", "image", {"cat": 150_000, "dog": 150_000})
    policies = {}
    for names in ([few, val], [many], [few, val, many]):
        assert cover("init", *names, "--force").code == 0
        read = read_recipe(Path("photos é.toml" if names == [many] else "moves.toml"))
        assert not [line for line in plan(read).warnings if "left" in line]
        policies[read.policy] = read
    small, large, both = policies["standard"], policies["pretrain"], policies["cotrain"]
    assert (small.model.variant, large.model.variant) == ("timesformer_tiny", "timesformer_base")
    assert small.training.epochs > large.training.epochs and small.data.batch_size < large.data.batch_size
    assert small.datasets["moves"].class_balanced and not small.clips("moves").horizontal_flip
    assert small.datasets["moves"].val == Path(val).absolute() and not large.datasets["photos_é"].class_balanced
    assert set(both.datasets) == {"moves", "photos_é"}
    assert "has no train manifest among those named, only val" in cover("init", val, "--force").err
    assert "moves has two train manifests" in cover("init", few, few, "--force").err


def test_a_report_has_a_line_for_each_part(cover: Cover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lines = cover("doctor").out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "cover",
        "packages",
        "CPU",
        "GPU",
        "kernels",
        "decoders",
        "extras",
        "environment",
    ]
    assert "torch 2." in lines[1] and "h264" in lines[5] and "OMP_NUM_THREADS=1" in lines[7]
    monkeypatch.setattr(os, "sysconf", None)  # stands for anything that is broken
    assert "CPU:         TypeError: " in cover("doctor").out


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert EXTRAS.keys() == project["optional-dependencies"].keys() - {"test", "dev", "docs"}
