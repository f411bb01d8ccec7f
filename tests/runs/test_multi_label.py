"""Runs on a dataset whose samples have several classes, beside one of one class each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.runs.tiny import MakeRecipe, lines_of, quiet

import cover
from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import RecipeError
from cover.inference.feature_table import FeatureTable
from cover.inference.prediction_files import prediction_table
from cover.inference.views import Views
from cover.models.export.formats import export_for, label_settings
from cover.models.export.graph import describe_graph, fit
from cover.models.info import describe, info_table
from cover.models.weights import read_config
from cover.reports.cards import sample_strips
from cover.runs.embed import embed
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

PLAIN = {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0}
CLASSES = ("left", "right", "outdoors")


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of jumps, every third of which is outdoors, too, and of turns as they are."""
    folder = tmp_path_factory.mktemp("multi")
    for split in ("train", "val"):
        manifest = Manifest.open(data / f"jumps-{split}.arrow")
        rows = [
            vars(row) | {"labels": [row.label, *([2] if number % 3 == 0 else [])]}
            for number, row in enumerate(manifest)
        ]
        shared: dict[str, Any] = {"kind": "video", "split": split}
        write_manifest(
            folder / f"jumps-{split}.arrow", rows, name="jumps", class_names=CLASSES, root=manifest.root, **shared
        )
        turns = Manifest.open(data / f"turns-{split}.arrow")
        write_manifest(
            folder / f"turns-{split}.arrow", list(turns), name="turns", class_names=turns.class_names, root=turns.root,
            **shared,
        )  # fmt: skip
    return folder


def recipe(recipe_of: MakeRecipe, root: Path, policy: str = "cotrain", **training: Any) -> Recipe:
    shared = {"max_steps": 4, "best": {"measure": "map", "weights": {"jumps": 1.0}}}
    return recipe_of(policy, ["jumps", "turns"], root=root, training=shared | training)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines_of(run) if "loss" in line]


def test_a_run_learns_and_resumes_exactly_and_holds_for_any_micro_batches(
    recipe_of: MakeRecipe, root: Path, tmp_path: Path
) -> None:
    runs = {name: tmp_path / name for name in ("run", "two", "whole")}
    assert not train(plan(recipe(recipe_of, root)), runs["run"], quiet())
    assert not train(plan(recipe(recipe_of, root, max_steps=2)), runs["two"], quiet())
    assert not train(plan(recipe(recipe_of, root)), runs["two"], quiet(), resume=True)
    assert losses(runs["two"]) == losses(runs["run"])
    weights = [load_file(find_checkpoint(runs[name], "latest") / "model.safetensors") for name in ("run", "two")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not train(plan(recipe(recipe_of, root, micro_batches=1)), runs["whole"], quiet())
    assert losses(runs["whole"]) == pytest.approx(losses(runs["run"]), rel=1e-4)
    scores = [line["val"] for line in lines_of(runs["run"]) if "val" in line][-1]
    assert scores["jumps"].keys() == {"top1", "map", "loss"} and scores["turns"].keys() == {
        "top1",
        "mean_class",
        "loss",
    }


def test_a_class_that_is_never_the_first_of_a_sample_has_samples(recipe_of: MakeRecipe, root: Path) -> None:
    assert not [warning for warning in plan(recipe(recipe_of, root)).warnings if "no training sample" in warning]


def test_evaluation_agrees_with_validation(recipe_of: MakeRecipe, root: Path, tmp_path: Path) -> None:
    assert not train(plan(recipe(recipe_of, root)), tmp_path / "run", quiet())
    opened = TrainedRun.open(find_checkpoint(tmp_path / "run", "latest"))
    result = opened.evaluate("jumps", opened.manifest("jumps", "val"), "normal")
    scores = [line["val"] for line in lines_of(tmp_path / "run") if "val" in line][-1]["jumps"]
    assert (result.top1, result.mean_class) == (scores["top1"], None)
    assert result.mean_average_precision == pytest.approx(scores["map"], abs=1e-6)
    assert result.loss == pytest.approx(scores["loss"], rel=1e-5)


def test_what_takes_one_class_is_refused(recipe_of: MakeRecipe, root: Path) -> None:
    with pytest.raises(RecipeError, match=r"training\.best\.measure = 'map', and samples of turns have one class"):
        plan(recipe(recipe_of, root, best={"measure": "map"}))
    balanced = recipe(recipe_of, root)
    section = balanced.datasets["jumps"].model_copy(update={"class_balanced": True})
    changed = balanced.model_copy(update={"datasets": balanced.datasets | {"jumps": section}})
    with pytest.raises(RecipeError, match="class_balanced of dataset 'jumps' takes samples of one class"):
        plan(changed)
    probe = recipe_of("probe", ["jumps"], init=root, root=root, augmentation=PLAIN, training={"micro_batches": 1})
    with pytest.raises(RecipeError, match="policy 'probe' keeps one class of a sample, and those of jumps have"):
        plan(probe)


@pytest.fixture(scope="module")
def trained(recipe_of: MakeRecipe, root: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A finished run, whose head "jumps" was trained with binary cross-entropy."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert not train(plan(recipe(recipe_of, root)), run, quiet())
    return TrainedRun.open(run)


@pytest.fixture
def video(trained: TrainedRun) -> Path:
    return trained.manifest("jumps", "val")[0].file


def test_each_class_of_a_head_with_binary_cross_entropy_has_its_own_probability(
    trained: TrainedRun, video: Path
) -> None:
    (prediction,) = cover.predict(trained, video, num_clips=1, num_crops=1)
    assert trained.model.config.sigmoid_heads == ("jumps",) == tuple(prediction.sigmoid_heads)
    config = trained.model.config
    logits = trained.predict_heads(Views(config.num_frames, config.image_size_px, num_crops=1).read(video).frames)
    expected = {"jumps": logits["jumps"][0].sigmoid(), "turns": logits["turns"][0].softmax(0)}
    for head, ranked in prediction.heads.items():
        assert [share for _, share in ranked] == pytest.approx(expected[head].sort(descending=True).values.tolist())
    console = Console(width=120, record=True)
    console.print(prediction_table(prediction))
    text = console.export_text()
    assert "jumps*" in text and "turns*" not in text and "* each class has a probability of its own" in text


def test_timelines_and_explanations_take_the_same_probabilities(trained: TrainedRun, video: Path) -> None:
    seconds = cover.timeline(trained, video).duration_seconds
    segments = cover.timeline(trained, video, window_seconds=seconds, stride_seconds=seconds, top=3).segments
    shares = [segment.probability for segment in segments if segment.head == "turns"]
    assert sum(shares) == pytest.approx(1)
    shares = [segment.probability for segment in segments if segment.head == "jumps"]
    assert len(shares) == 3 and sum(shares) != pytest.approx(1, abs=1e-3)
    explanation = trained.explain(video, "jumps", "outdoors")
    (prediction,) = cover.predict(trained, video, heads=["jumps"], num_clips=1, num_crops=1)
    assert explanation.probability == pytest.approx(dict(prediction.heads["jumps"])["outdoors"])
    assert explanation.backwards and 0 <= explanation.backwards.total_variation <= 1


def test_exports_say_how_logits_become_probabilities(trained: TrainedRun, tmp_path: Path) -> None:
    config = trained.model.config
    assert read_config(trained.checkpoint) == config
    assert describe_graph(config)["probabilities"] == {"jumps": "sigmoid", "turns": "softmax"}
    assert describe_graph(fit(trained.model, head="turns").config)["probabilities"] == {"turns": "softmax"}
    assert label_settings(config, "jumps")["problem_type"] == "multi_label_classification"
    assert "problem_type" not in label_settings(config, "turns")
    export_for("transformers", trained.model, tmp_path / "hf", "jumps")
    assert '"problem_type": "multi_label_classification"' in (tmp_path / "hf" / "config.json").read_text()


def test_all_classes_of_a_sample_are_shown(trained: TrainedRun, tmp_path: Path) -> None:
    manifest = trained.manifest("jumps", "val")
    shown = {row.sample_id: manifest.classes_of(row) for row in manifest}
    assert len(shown[manifest[0].sample_id]) == 2 and shown[manifest[0].sample_id][1] == "outdoors"
    table = embed(trained, [], [manifest])
    assert isinstance(table, FeatureTable) and table.classes == [", ".join(names) for names in shown.values()]
    strips = sample_strips(trained.predict_datasets, trained.reader("jumps", manifest), "jumps", 4, 0, is_sigmoid=True)
    assert all(strip.true_classes == shown[strip.sample_id] for strip in strips)
    assert all(strip.correct == (strip.predictions[0][0] in strip.true_classes) for strip in strips)
    text = Console(width=200, record=True)
    text.print(info_table(describe(trained.checkpoint)))
    assert "3 classes, each with a probability of its own: left, right, outdoors" in text.export_text()


def test_kept_logits_have_all_labels_of_a_sample(trained: TrainedRun) -> None:
    manifest = trained.manifest("jumps", "val")
    for name, opened in {"jumps": manifest, "turns": trained.manifest("turns", "val")}.items():
        trained.evaluate(name, opened, "normal", num_clips=1, num_crops=1, keep_logits=True)
    (file,) = trained.files.results_folder.glob("jumps-*-logits.parquet")
    table = pq.read_table(file)
    assert table["sample"].to_pylist() == [row.sample_id for row in manifest]
    assert table["labels"].to_pylist() == [sorted(row.labels or ()) for row in manifest]
    assert all(set(weights) == {1.0} for weights in table["label_weights"].to_pylist())
    assert b'"probabilities": "sigmoid"' in table.schema.metadata[b"cover"]
    (file,) = trained.files.results_folder.glob("turns-*-logits.parquet")
    assert pq.read_schema(file).names == ["sample", "dataset", "label", "logits"]
