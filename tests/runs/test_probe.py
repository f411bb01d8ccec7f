"""Linear probes and fine-tuning from a run, on clips that the tests make."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import load_file
from tests.timesformers import backbone_of
from torch import Tensor

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.run_files import LATEST, find_checkpoint
from cover.datasets.layouts.class_folders import index_folder
from cover.errors import CheckpointError, DecodeError
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.create import create_model
from cover.models.packing import PackedClips
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

NUM_TRAIN, NUM_VAL, DECAY = 14, 6, 0.5
HEAD = "heads.turns.weight"
MODEL: dict[str, Any] = {
    "variant": "timesformer_tiny",
    "depth": 2,
    "width": 48,
    "num_heads": 3,
    "num_frames": 4,
    "image_size": 32,
}
MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def data(tmp_path: Path, write_video: Callable[..., Path]) -> Path:
    """Manifests and clips of a dataset, `turns`, of three classes."""
    for index in range(NUM_TRAIN + NUM_VAL):
        split = "train" if index < NUM_TRAIN else "val"
        file = tmp_path / "turns" / split / "abc"[index % 3] / f"{index}.mp4"
        write_video(file, num_frames=6, first_number=1000 * index, width_px=48, height_px=40)
    index_folder(tmp_path / "turns", kind="video", out=tmp_path)
    return tmp_path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A trained model with a head of the same name and other classes, and one of the same name and classes."""
    return save_source(tmp_path / "source", seed=0)


def save_source(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = create_model(**MODEL, heads={"turns": ["a", "b"], "jumps": 5}, temporal_init="random")
    with torch.no_grad():  # features differ from clip to clip as those of a trained model
        backbone = backbone_of(model)
        backbone.patch_embed.proj.weight.mul_(20)
        for block in backbone.blocks:
            block.get_parameter("attn.qkv.weight").mul_(5)
            block.get_parameter("attn.proj.weight").mul_(20)
    save_model(model, folder)
    return folder


@pytest.fixture
def recipe_of(data: Path, source: Path) -> MakeRecipe:
    """recipe_of(policy, training={…}, …) → a recipe that starts from `source` and takes all clips in every step."""

    def recipe_of(policy: str = "probe", init: Path = source, **changes: Mapping[str, Any]) -> Recipe:
        files = {split: str(data / f"turns-{split}.arrow") for split in ("train", "val")}
        sections: dict[str, dict[str, Any]] = {
            "model": MODEL,
            "data": {"batch_size": NUM_TRAIN, "num_workers": 0},
            "optimizer": {"learning_rate": 0.2, "weight_decay": DECAY, "schedule": "cosine"},
            "training": {"epochs": 40, "log_every": 10, "evaluate_every_epochs": 20},
            "evaluation": {},
        }
        values = {name: section | dict(changes.get(name, {})) for name, section in sections.items()}
        return parse_recipe(values | {"policy": policy, "init": str(init), "datasets": {"turns": files}}, "test")

    return recipe_of


def completes(recipe: Recipe, run: Path, console: Console, **options: bool) -> None:
    assert train(plan(recipe), run, console, **options) is None


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


def parts_of(run: Path) -> dict[Path, int]:
    """The files of features and the times of their writing."""
    return {file: file.stat().st_mtime_ns for file in (run.parent / ".features").rglob("*.safetensors")}


def training_features(run: Path) -> Tensor:
    (file,) = (run.parent / ".features").glob("turns-train-*/*.safetensors")
    return load_file(file)["features"]


def logistic_regression(features_ND: Tensor, labels_N: Tensor) -> Tensor:
    """Weight and bias [classes, D + 1] with the least mean cross-entropy + DECAY / 2 · |weight|², by Newton's kin."""
    theta = torch.zeros(3, features_ND.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([theta], max_iter=2000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        logits = features_ND.double() @ theta[:, :-1].T + theta[:, -1]
        total = F.cross_entropy(logits, labels_N) + DECAY / 2 * theta[:, :-1].square().sum()
        total.backward()
        return total

    solver.step(closure)
    return theta.detach()


def test_a_probe_is_the_logistic_regression_on_the_frozen_features(
    recipe_of: MakeRecipe, source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "probe"
    completes(recipe_of(training={"epochs": 300}), run, quiet())
    trained, frozen = read_model(find_checkpoint(run)), read_model(source)
    for name, tensor in frozen.state_dict().items():
        assert name.startswith("heads.") or torch.equal(trained.state_dict()[name], tensor), name
    labels = torch.tensor(TrainedRun.open(run).manifest("turns", "train").labels, dtype=torch.int64)
    best = logistic_regression(training_features(run), labels)
    logits = trained.heads["turns"](training_features(run)).detach().double()
    expected = training_features(run).double() @ best[:, :-1].T + best[:, -1]
    torch.testing.assert_close(logits.softmax(1), expected.softmax(1), rtol=0, atol=1e-3)
    assert F.cross_entropy(expected, labels) < 0.95 * F.cross_entropy(torch.zeros_like(expected), labels)


def test_a_probe_is_a_run_that_is_evaluated_as_it_was_validated(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "probe"
    completes(recipe_of(), run, quiet())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "datasets" in line] == [10, 20, 30, 40]
    assert [line["step"] for line in lines if "val" in line] == [20, 40]
    assert lines[-2]["datasets"]["turns"] | {"loss": 0, "top1": 0} == {
        "clips": 10 * NUM_TRAIN, "unreadable": 0, "loss": 0, "top1": 0, "epochs": 40.0
    }  # fmt: skip
    opened = TrainedRun.open(run)
    result = opened.evaluate("turns", opened.manifest("turns", "val"), "normal")
    assert lines[-1]["val"]["turns"]["top1"] == pytest.approx(result.top1)


def test_features_are_computed_once_for_all_probes(recipe_of: MakeRecipe, data: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    completes(recipe_of(training={"epochs": 1}), runs / "first", quiet())
    before = parts_of(runs / "first")
    assert len(before) == 2
    shutil.rmtree(data / "turns")
    completes(recipe_of(optimizer={"learning_rate": 0.1}), runs / "second", quiet())
    assert parts_of(runs / "second") == before


def test_other_weights_or_views_have_features_of_their_own(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    completes(recipe_of(training={"epochs": 1}), runs / "first", quiet())
    first = parts_of(runs / "first")
    other = save_source(tmp_path / "other", seed=1)
    completes(recipe_of(init=other, training={"epochs": 1}), runs / "second", quiet())
    second = parts_of(runs / "second")
    assert first.items() < second.items() and len(second) == 4
    completes(recipe_of(model={"num_frames": 2}, training={"epochs": 1}), runs / "third", quiet())
    assert len(parts_of(runs / "third")) == 6


def test_an_interrupted_computation_goes_on_where_it_was(
    recipe_of: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cover.inference.feature_store.ROWS_A_PART", 4)
    runs = tmp_path / "runs"
    completes(recipe_of(training={"epochs": 1}), runs / "first", quiet())
    whole = parts_of(runs / "first")
    (removed,) = (
        file for file in whole if file.name == "00000004-00000008.safetensors" and "train" in file.parent.name
    )
    expected = removed.read_bytes()
    removed.unlink()
    completes(recipe_of(training={"epochs": 1}), runs / "second", quiet())
    again = parts_of(runs / "second")
    assert again.keys() == whole.keys()
    assert {file for file in whole if again[file] != whole[file]} == {removed}
    assert removed.read_bytes() == expected


def test_a_computation_that_is_told_to_stop_keeps_what_it_has(
    recipe_of: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(training={"epochs": 1}, evaluation={"batch_size": 3})
    run, whole = tmp_path / "runs" / "probe", tmp_path / "undisturbed" / "probe"
    features: Callable[..., Tensor] = VideoClassifier.features
    num_batches = iter(range(100))

    def interrupted(model: VideoClassifier, packed: PackedClips) -> Tensor:
        if next(num_batches) == 1:
            signal.raise_signal(signal.SIGTERM)
        return features(model, packed)

    monkeypatch.setattr(VideoClassifier, "features", interrupted)
    assert train(plan(recipe), run, quiet()) == signal.SIGTERM
    assert [file.name for file in parts_of(run)] == ["00000000-00000006.safetensors"]
    completes(recipe, run, quiet(), resume=True)
    names = [file.name for file in parts_of(run) if "train" in file.parent.name]
    assert sorted(names) == ["00000000-00000006.safetensors", "00000006-00000014.safetensors"]
    completes(recipe, whole, quiet())
    ours, theirs = (read_model(find_checkpoint(folder)).get_parameter(HEAD) for folder in (run, whole))
    assert torch.equal(ours, theirs)


def test_a_probe_resumes_and_a_damaged_part_is_named(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "probe"
    steady = {"schedule": "step", "drop_epochs": []}
    completes(recipe_of(training={"epochs": 6}, optimizer=steady), run, quiet())
    completes(recipe_of(training={"epochs": 9}, optimizer=steady), run, quiet(), resume=True)
    completes(recipe_of(training={"epochs": 9}, optimizer=steady), run.with_name("whole"), quiet())
    resumed, whole = (read_model(find_checkpoint(folder, LATEST)) for folder in (run, run.with_name("whole")))
    assert torch.equal(resumed.get_parameter(HEAD), whole.get_parameter(HEAD))
    part = next(file for file in parts_of(run) if "train" in file.parent.name)
    part.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"turns-train-\w+ cannot be read \(.*\); delete it and train again$"):
        train(plan(recipe_of()), run.with_name("third"), quiet())


def test_an_unreadable_clip_is_left_out_and_too_many_are_refused(
    recipe_of: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    (data / "turns" / "train" / "a" / "0.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match="1 of the 14 samples of 'turns' are unreadable so far, more than"):
        train(plan(recipe_of(data={"max_unreadable_share": 0.0})), tmp_path / "runs" / "strict", quiet())
    run = tmp_path / "runs" / "probe"
    completes(recipe_of(training={"epochs": 10, "log_every": 10}), run, quiet())
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["datasets"]["turns"]
    assert (row["clips"], row["unreadable"]) == (10 * (NUM_TRAIN - 1), 10)


def test_fine_tuning_starts_from_every_tensor_of_the_backbone_and_the_rows_of_the_same_classes(
    recipe_of: MakeRecipe, source: Path, tmp_path: Path
) -> None:
    console, run = quiet(), tmp_path / "runs" / "fine"
    still = recipe_of("standard", optimizer={"learning_rate": 0.0}, training={"max_steps": 1})
    completes(still, run, console)
    started, given = read_model(find_checkpoint(run)).state_dict(), read_model(source).state_dict()
    backbone = {name for name in given if not name.startswith("heads.")}
    assert started.keys() - backbone == {"heads.turns.weight", "heads.turns.bias"}
    assert all(torch.equal(started[name], given[name]) for name in backbone)
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert f"{len(backbone)} loaded, 2 matched, 2 unused" in printed
    assert "head turns: rows: 2 kept, 1 fresh\n" in printed
    assert "│ matched │ 2       │ heads.turns " in printed
    assert "│ unused  │ 2       │ heads.jumps " in printed


@pytest.mark.parametrize(("policy", "fresh_heads"), [("standard", False), ("standard", True), ("probe", False)])
def test_a_head_of_the_same_classes_is_taken_unless_it_is_to_be_fresh(
    recipe_of: MakeRecipe, tmp_path: Path, policy: str, fresh_heads: bool
) -> None:
    model = create_model(**MODEL, heads={"turns": ["a", "b", "c"]})
    save_model(model, tmp_path / "same")
    still = recipe_of(policy, tmp_path / "same", optimizer={"learning_rate": 0.0}, training={"max_steps": 1})
    run = tmp_path / "runs" / "fine"
    completes(still.model_copy(update={"fresh_heads": fresh_heads}), run, quiet())
    head = read_model(find_checkpoint(run)).get_parameter(HEAD)
    assert torch.equal(head, model.get_parameter(HEAD)) == (policy == "standard" and not fresh_heads)


def test_a_probe_without_kept_features_sees_augmented_clips(
    recipe_of: MakeRecipe, source: Path, tmp_path: Path
) -> None:
    """The backbone stays as it is and drops nothing; all else learns from new crops in every epoch, and resumes."""

    def recipe(epochs: int, drop_path_rate: float = 0.5, **optimizer: float) -> Recipe:
        return recipe_of(
            model={"head": "attentive", "drop_path_rate": drop_path_rate},
            data={"cache_features": False, "short_side": [34, 60]},
            training={"epochs": epochs, "log_every": 1, "evaluate_every_epochs": 9},
            optimizer={"schedule": "step", "drop_epochs": []} | optimizer,
        )

    def losses(run: Path) -> list[float]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    runs = tmp_path / "runs"
    completes(recipe(1), runs / "probe", quiet())
    completes(recipe(2), runs / "probe", quiet(), resume=True)
    completes(recipe(2, drop_path_rate=0.0), runs / "whole", quiet())
    completes(recipe(2, learning_rate=0.0), runs / "still", quiet())
    assert losses(runs / "probe") == losses(runs / "whole")
    first, second = losses(runs / "still")
    assert first != second and not parts_of(runs / "probe")
    model, still = (read_model(find_checkpoint(runs / run)).state_dict() for run in ("probe", "still"))
    frozen = read_model(source).state_dict()
    for name, tensor in model.items():
        if name.startswith(("heads.", "pooler.")):
            assert not torch.equal(tensor, still[name]) or not name.endswith("weight"), name
        else:
            assert torch.equal(tensor, frozen[name]), name
