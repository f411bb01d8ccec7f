"""Explanations, features and search of a run, as a user meets them on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.terminal import Cover, terminal

from cover.datasets.layouts.class_folders import index_folder
from cover.inference.feature_table import FeatureTable
from cover.models.classifier import save_model
from cover.models.create import create_model

RECIPE = """
policy = "standard"

[model]
variant = "timesformer_tiny"
depth = 2
width = 48
num_heads = 3
num_frames = 4
image_size = 32

[datasets.moves]
train = "moves-train.arrow"

[data]
batch_size = 4
num_workers = 0
"""


@pytest.fixture
def cover(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
) -> Cover:
    """cover("search", …) does what the command does, in a folder with a run, two others, and a manifest."""
    for index in range(5):
        write_video(tmp_path / "moves" / "train" / "ab"[index % 2] / f"{index}.mp4", num_frames=6, first_number=index)
    write_image(tmp_path / "photo.jpg", 77)
    index_folder(tmp_path / "moves", kind="video", out=tmp_path)
    runs = {"run": ("moves",), "other": ("moves",), "both": ("moves", "turns")}
    for seed, (run, heads) in enumerate(runs.items()):
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {"depth": 2, "width": 48, "num_heads": 3, "num_frames": 4, "image_size": 32}
        model = create_model("timesformer_tiny", **sizes, heads={head: ["a", "b"] for head in heads})
        # so that features differ from clip to clip
        model.get_parameter("backbone.patch_embed.proj.weight").data.mul_(20)
        save_model(model, tmp_path / "runs" / run / "checkpoints" / "step-1")
        (tmp_path / "runs" / run / "latest").write_text("step-1\n")
        (tmp_path / "runs" / run / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)

    return terminal(capsys, monkeypatch)


def test_a_clip_and_a_photo_are_explained(cover: Cover) -> None:
    answer = cover("explain", "runs/run", "moves/train/a/0.mp4", "--head", "moves", "--class", "b", "--out", "why")
    assert answer.code == 0 and answer.out.startswith("b ") and "played backwards: " in answer.out
    assert "written: why/strip.png, why/overlay.mp4, why/explanation.json" in answer.out
    assert json.loads(Path("why/explanation.json").read_text())["class"] == "b"
    assert cover("explain", "runs/run", "photo.jpg", "--out", "photo").code == 0
    assert not Path("photo/overlay.mp4").exists()


def test_clips_are_embedded_and_found(cover: Cover) -> None:
    pytest.importorskip("faiss")
    answer = cover("embed", "runs/run", "photo.jpg", "--manifest", "moves-train.arrow", "--out", "all.parquet")
    assert answer == (0, "all.parquet: 6 clips, 48 features each; 1x1 views of 4 frames, whole video\n", "")
    table = FeatureTable.open(Path("all.parquet"))
    assert (table.ids[:2], table.classes[:2]) == (["photo.jpg", "train/a/0.mp4"], [None, "a"])

    found = json.loads(cover("search", "all.parquet", "train/a/0.mp4", "--top", "2", "--json").out)
    assert len(found[0]["neighbours"]) == 2 and found[0]["neighbours"][0]["id"] != "train/a/0.mp4"
    same = cover("search", "all.parquet", "moves/train/a/0.mp4", "--run", "runs/run", "--top", "1", "--json")
    (neighbour,) = json.loads(same.out)[0]["neighbours"]
    assert (neighbour["id"], neighbour["similarity"]) == ("train/a/0.mp4", pytest.approx(1, abs=1e-5))
    assert "train/a/0.mp4" in cover("search", "all.parquet", "photo.jpg").out


def test_unreadable_clips_are_named_and_left_out(cover: Cover, caplog: pytest.LogCaptureFixture) -> None:
    Path("moves/train/b/1.mp4").write_bytes(b"")
    answer = cover("embed", "runs/run", "moves/train/b", "--manifest", "moves-train.arrow", "--out", "all.npy")
    assert (answer.code, answer.out) == (
        1,
        "all.npy: 5 clips, 48 features each, 2 unreadable left out; 1x1 views of 4 frames, whole video\n",
    )
    assert "moves/train/b/1.mp4 is unreadable" in caplog.text and "moves/train/b/1.mp4 cannot be" in caplog.text
    assert "train/b/1.mp4" not in FeatureTable.open(Path("all.npy")).ids


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("explain runs/run photo.jpg --head turns --out new", "runs/run has no head 'turns'; its heads are moves"),
        (
            "explain runs/run photo.jpg --head moves --class c --out new",
            "head moves has no class 'c'; the most similar of ",
        ),
        ("explain runs/run absent.mp4 --head moves --out new", "absent.mp4 does not exist; "),
        ("explain runs/run photo.jpg", "there is no --out; name a folder for strip.png, "),
        ("explain runs/both photo.jpg --out new", "no head is named, and one is explained; give --head, one of "),
        ("embed runs/run photo.jpg --out new.csv", "new.csv ends in neither .parquet nor .npy; "),
        ("embed runs/run photo.jpg photo.jpg --out new.npy", "photo.jpg occurs twice; every clip has one feature: "),
        ("embed runs/run --out new.npy", "there are no clips to embed; give files that can be read"),
        ("embed runs/run absent.mp4 --out new.npy", "absent.mp4 is not a file or a folder; "),
        ("embed runs/run photo.jpg --out photo.jpg/new.parquet", "photo.jpg/new.parquet cannot be written ("),
        ("explain runs/run photo.jpg --head moves --out photo.jpg", "photo.jpg/strip.png cannot be written ("),
        ("search new.npy photo.jpg", "new.npy does not exist; write it with `cover embed`"),
        ("search photo.parquet photo.jpg", "photo.parquet is not a table of features; write it with `cover embed`"),
        ("search one.npy moves/train/a/0.mp4", "moves/train/a/0.mp4 is not an id in one.npy; name the run that "),
        ("search one.npy moves/train/a/0.mp4 --run runs/other", "the features are of another model than runs/other/"),
    ],
)
def test_a_mistake_is_answered_in_one_line(cover: Cover, command: str, message: str) -> None:
    pytest.importorskip("faiss")
    Path("photo.parquet").write_bytes(Path("photo.jpg").read_bytes())
    if "one.npy" in command:
        cover("embed", "runs/run", "photo.jpg", "--out", "one.npy")
    answer = cover(*command.split())
    assert answer.code == 2
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert message in answer.err
    assert not list(Path().glob("new*"))
