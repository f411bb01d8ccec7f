"""Every command takes every kind of model: runs, folders and files, with and without a recipe."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.terminal import Cover, terminal

import cover as library
from cover import cli
from cover.runs.model import OpenModel

WriteMedia = Callable[..., Path]
RECIPE = """
policy = "standard"

[model]
variant = "timesformer_tiny"
depth = 1
width = 24
num_heads = 2
num_frames = 2
image_size = 32

[datasets.moves]
train = "moves-train.arrow"

[data]
batch_size = 4
num_workers = 0

[training]
max_steps = 1
"""
SOURCES = {
    "run": "runs/moves",
    "file of a checkpoint": "runs/moves/checkpoints/step-1/model.safetensors",
    "export": "exported",
    "file of an export": "exported/model.safetensors",
    "other code": "transformers",
    "hub cache": "owner/name",
}
CLIP = "moves/train/out/1.mp4"
COMMANDS = {
    "predict": f"predict MODEL {CLIP} --json",
    "timeline": f"timeline MODEL {CLIP} --window-seconds 0.2 --json",
    "watch": f"watch MODEL {CLIP} --window-seconds 0.2",
    "embed": "embed MODEL --manifest moves-train.arrow --out OUT.npy",
    "search": f"search OUT.npy {CLIP} --run MODEL",
    "explain": f"explain MODEL {CLIP} --out OUT",
    "export": "export MODEL OUT/export --to safetensors",
    "evaluate": "evaluate MODEL --manifest moves-train.arrow --json",
    "serve": "serve MODEL --port 0 --processes 1",
    "train": "train OUT.toml --dry-run",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia) -> Iterator[Path]:
    """A run of one step on four clips, and copies of its model in every form."""
    root = tmp_path_factory.mktemp("any")
    for index in range(4):
        write_video(root / "moves" / "train" / ("out" if index % 2 else "in") / f"{index}.mp4", num_frames=6)
    (root / "moves.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        exports = [f"export runs/moves {name} --to {to}" for name, to in
                   (("exported", "safetensors"), ("transformers", "transformers"))]  # fmt: skip
        for command in ("index folder moves --kind video --out .", "train moves.toml", *exports):
            patch.setattr(sys, "argv", ["cover", *command.split()])
            with pytest.raises(SystemExit, match="0"):
                cli.main()
        cached = Path("hub/models--owner--name")
        library.load_model("exported").save_pretrained(cached / "snapshots" / "0123")
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("0123")
    yield root


@pytest.fixture
def cover(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("cover.serving.server._run", lambda app, listener: None)
    monkeypatch.setattr("cover.inference.explanation_files.write_explanation", lambda explanation, out: [])  # is slow
    monkeypatch.setattr(OpenModel, "num_workers", 0)
    return terminal(capsys, monkeypatch)


@pytest.mark.parametrize("source", SOURCES)
def test_every_command_takes_it(source: str, cover: Cover, folder: Path) -> None:
    pytest.importorskip("faiss")
    model, out = SOURCES[source], f"out/{source.replace(' ', '_')}"
    Path(out).mkdir(parents=True)
    if source != "hub cache":  # a recipe takes hf://, which asks the hub
        without_model = f'init = "{folder / model}"\n' + RECIPE[: RECIPE.index("[model]")]
        rest = RECIPE[RECIPE.index("[datasets") :].replace("moves-train", str(folder / "moves-train"))
        Path(f"{out}.toml").write_text(without_model + rest)
    answers = {}
    for name, command in COMMANDS.items():
        if (name, source) != ("train", "hub cache"):
            answers[name] = cover(*command.replace("MODEL", model).replace("OUT", out).split())
            assert answers[name].code == 0, (name, answers[name].err)
    (prediction,) = json.loads(answers["predict"].out)
    (probabilities,) = prediction["heads"].values()
    expected = {label: score for label, score in next(iter(library.predict("runs/moves", CLIP))).heads["moves"]}
    assert {row["class"]: row["probability"] for row in probabilities} == pytest.approx(expected, abs=1e-6)
    (result,) = json.loads(answers["evaluate"].out)
    assert result["num_samples"] == 4
    assert f"serving {model} at http://" in answers["serve"].out
    again = library.load_model(f"{out}/export").state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in library.load_model(model).state_dict().items())


def test_only_a_run_says_which_checkpoint_training_starts_from(cover: Cover) -> None:
    shown = cover("train", "moves.toml", "--dry-run", "--set", "init=runs/moves").out
    assert "runs/moves/checkpoints/step-1 (step 1, latest): cover, tensors:" in " ".join(shown.split())
    shown = cover("train", "moves.toml", "--dry-run", "--set", "init=exported").out
    assert "exported: cover, tensors:" in shown


def test_what_a_model_lacks_is_said_in_one_line(cover: Cover) -> None:
    def refusal(*command: str) -> str:
        answer = cover(*command)
        assert answer.code == 2 and answer.err.count("\n") == 1
        return answer.err

    library.VideoClassifier(library.load_model("exported").config.with_heads([])).save_pretrained("headless")
    assert "headless has no head, so it knows no classes; train one" in refusal("predict", "headless", CLIP)
    assert cover("embed", "headless", CLIP, "--out", "headless.npy").code == 0
    assert "which would name manifests; give --manifest" in refusal("evaluate", "exported")
    assert "--split; give one" in refusal("evaluate", "exported", "--manifest", "moves-train.arrow", "--split", "val")
    assert "leave --logits out" in refusal("evaluate", "exported", "--manifest", "moves-train.arrow", "--logits")
    model = library.create_model("timesformer_tiny", depth=1, width=24, num_heads=2, heads={"moves": ["out", "in"]})
    model.save_pretrained("turned")
    assert "has other classes than moves of turned" in refusal("evaluate", "turned", "--manifest", "moves-train.arrow")


def test_classes_without_names_are_numbers_until_they_get_names(cover: Cover, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree("transformers", "bare")
    settings = json.loads(Path("bare/config.json").read_text())
    Path("bare/config.json").write_text(json.dumps({key: settings[key] for key in settings if "label" not in key}))
    answer = cover("predict", "bare", CLIP, "--json")
    assert {row["class"] for row in json.loads(answer.out)[0]["heads"]["head"]} == {"0", "1"}
    assert (
        "class names: not stated by the file, so classes are numbers; name them once with: cover export bare"
        in caplog.text
    )
    Path("names.txt").write_text("in\nout\n")
    assert cover("export", "bare", "named", "--to", "safetensors", "--classes", "names.txt").code == 0
    assert library.load_model("named").config.heads == {"head": ("in", "out")}
    Path("names.txt").write_text("in\nout\nover\n")
    answer = cover("export", "bare", "more", "--to", "safetensors", "--classes", "names.txt")
    assert "names.txt names 3 classes, and the model has heads of 2 classes; give its own list" in answer.err
