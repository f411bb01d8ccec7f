"""From recipes to run folders, on clips and pictures that the tests make."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tests.runs.tiny import IMAGES, SECTIONS, STEPS_PER_EPOCH, VIDEOS, MakeRecipe, WriteMedia, lines_of, quiet

from cover.config.recipe import Recipe
from cover.config.recipe_files import read_recipe
from cover.core.run_files import RunFiles, find_checkpoint
from cover.datasets.exclusion import write_exclusions
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.errors import CheckpointError, CoverError, DecodeError, ManifestError, RecipeError, TrainingError
from cover.models.checkpoints.integrity import read_state, write_state
from cover.models.classifier import read_model, save_model
from cover.models.config import ViTConfig
from cover.models.create import create_model
from cover.runs.plan import plan
from cover.runs.train import best_line, train
from cover.runs.trained import TrainedRun


def printed(console: Console) -> str:
    """What a quiet console was given, words apart by single spaces."""
    assert isinstance(console.file, StringIO)
    return " ".join(console.file.getvalue().split())


class InterruptedConsole(Console):
    """Presses Ctrl-C when the first validation is printed."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if "validation top-1" in "".join(map(str, objects)):
            signal.raise_signal(signal.SIGINT)


def refusal(kind: type[CoverError], recipe: Recipe, run: Path, **options: bool) -> str:
    """The one line that a training is refused with; the run folder stays as it is."""
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(kind) as caught:
        train(plan(recipe), run, quiet(), **options)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_folder_holds_all_that_was_done(finished: Path, cotrain: Recipe) -> None:
    assert read_recipe(finished / "recipe.toml") == cotrain
    assert [row["dataset"] for row in json.loads((finished / "mixture.json").read_text())] == VIDEOS + IMAGES
    assert list((finished / "tensorboard").rglob("events.out.tfevents.*"))

    lines = lines_of(finished)
    training, validation = ([line for line in lines if key in line] for key in ("datasets", "val"))
    assert [line["step"] for line in training] == list(range(1, 2 * STEPS_PER_EPOCH + 1))
    assert [line["step"] for line in validation] == [3, 6, 9, 10]
    clips = {name: sum(line["datasets"][name]["clips"] for line in training) for name in VIDEOS + IMAGES}
    assert clips == {"jumps": 24, "turns": 16, "pets": 20}
    assert all(row.keys() == {"top1", "mean_class", "loss"} for line in validation for row in line["val"].values())

    latest, best = ((finished / pointer).read_text().strip() for pointer in ("latest", "best"))
    assert latest == "step-10"
    assert {folder.name for folder in (finished / "checkpoints").iterdir()} == {latest, best, "step-9"}
    top1 = {line["step"]: sum(row["top1"] for row in line["val"].values()) for line in validation}
    assert int(best.removeprefix("step-")) == max(top1, key=lambda step: (top1[step], step))


def test_pretraining_has_no_temporal_layers_and_cotraining_starts_from_it(
    pretrained: Path, recipe_of: MakeRecipe, tmp_path: Path
) -> None:
    source = read_model(find_checkpoint(pretrained))
    assert not [name for name in source.state_dict() if "temporal" in name or "time" in name]
    still = recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer={"learning_rate": 0.0})
    recipe = still.model_copy(update={"training": still.training.model_copy(update={"max_steps": 1})})
    console = quiet()
    assert not train(plan(recipe), tmp_path / "run", console)
    weights = read_model(tmp_path / "run" / "checkpoints" / "step-1").state_dict()
    for name, tensor in source.state_dict().items():
        assert torch.equal(weights[name], tensor)
        if ".attn." in name:
            assert torch.equal(weights[name.replace(".attn.", ".temporal_attn.")], tensor)
    assert isinstance(console.file, StringIO)
    assert (
        f"weights from {find_checkpoint(pretrained)} (step 2, best and latest): cover, "
        in console.file.getvalue().replace("\n", "")
    )


def test_what_a_file_of_weights_does_not_state_is_a_line_of_its_own(
    recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    weights = load_file(find_checkpoint(pretrained) / "model.safetensors")
    backbone = {name: tensor for name, tensor in weights.items() if not name.startswith("heads.")}
    save_file(backbone, tmp_path / "plain.safetensors")
    recipe = recipe_of("cotrain", VIDEOS + IMAGES, init=tmp_path / "plain.safetensors", training={"max_steps": 1})
    console = quiet()
    assert not train(plan(recipe), tmp_path / "run", console)
    assert isinstance(console.file, StringIO)
    assert "num_heads: not stated by the file; taken from the model (3)" in console.file.getvalue().splitlines()


def test_an_interrupted_run_resumes_as_if_it_had_not_stopped(finished: Path, cotrain: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(plan(cotrain), run, InterruptedConsole(file=StringIO(), width=120)) == signal.SIGINT
    assert (run / "latest").read_text() == "step-3\n"
    with (run / "metrics.jsonl").open("a") as file:  # what a crash after the checkpoint leaves behind
        file.write('{"step": 4, "loss": 9.9}\n{"step": 5, "lo')
    assert not train(plan(cotrain), run, quiet(), resume=True)
    assert lines_of(run) == lines_of(finished)
    for name in ("model.safetensors", "training.safetensors"):
        last = Path("checkpoints", "step-10", name)
        assert (run / last).read_bytes() == (finished / last).read_bytes(), name


def test_a_run_cut_short_by_max_steps_goes_on_with_more(finished: Path, cotrain: Recipe, tmp_path: Path) -> None:
    def until(step: int) -> Recipe:
        return cotrain.model_copy(update={"training": cotrain.training.model_copy(update={"max_steps": step})})

    assert not train(plan(until(4)), tmp_path / "run", quiet())
    assert not train(plan(until(7)), tmp_path / "run", quiet(), resume=True)
    training = [[line for line in lines_of(run) if "loss" in line] for run in (tmp_path / "run", finished)]
    assert training[0] == training[1][:7]


def test_the_best_checkpoint_is_named_with_the_validation_that_chose_it(finished: Path) -> None:
    best = (finished / "best").read_text().strip()
    (scores,) = [line["val"] for line in lines_of(finished) if "val" in line and best == f"step-{line['step']}"]
    shown = ", ".join(f"{name} {100 * row['top1']:.1f}" for name, row in scores.items())
    assert best_line(RunFiles(finished)) == f"best: {best}, validation top-1 %: {shown}"


def test_nothing_is_left_to_do_for_a_finished_run(finished: Path, cotrain: Recipe, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    assert not train(plan(cotrain), run, quiet(), resume=True)
    assert lines_of(run) == lines_of(finished)


def test_a_run_is_not_overwritten(finished: Path, cotrain: Recipe) -> None:
    assert refusal(CheckpointError, cotrain, finished) == (
        f"{finished} holds a run already; continue it with --resume or choose another --out"
    )


def test_a_checkpoint_of_another_architecture_is_refused(finished: Path, recipe_of: MakeRecipe, tmp_path: Path) -> None:
    narrow = recipe_of("cotrain", VIDEOS + IMAGES, model={"width": 24})
    assert "step-10 has width 48, this model has 24; set model.width = 48" in refusal(
        CheckpointError, narrow, finished, resume=True
    )
    deep = recipe_of("cotrain", VIDEOS + IMAGES, model={"depth": 3})
    assert re.search(
        r"has depth \d, this model has 3; set model.depth = \d", refusal(CheckpointError, deep, finished, resume=True)
    )
    narrow = recipe_of("standard", ["jumps"], init=finished, model={"width": 24})
    assert "has width 48, this model has 24; set model.width = 48" in refusal(CheckpointError, narrow, tmp_path / "run")


def test_changed_data_are_refused_by_name_unless_allowed(
    data: Path, recipe_of: MakeRecipe, write_video: WriteMedia, tmp_path: Path
) -> None:
    def recipe(max_steps: int) -> Recipe:
        return recipe_of("standard", ["jumps"], root=tmp_path, training={"max_steps": max_steps})

    shutil.copytree(data / "jumps" / "train", tmp_path / "jumps")
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    run = tmp_path / "run"
    assert not train(plan(recipe(1)), run, quiet())
    write_video(tmp_path / "jumps" / "left" / "new.mp4", num_frames=6)
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    assert refusal(CheckpointError, recipe(3), run, resume=True) == (
        "the training samples of jumps are not those this run began with; restore the manifest and data.exclude, "
        "or pass --allow-changed-data to continue with the new ones"
    )
    assert not train(plan(recipe(3)), run, quiet(), resume=True, allow_changed_data=True)
    state = json.loads((run / "checkpoints" / "step-3" / "state.json").read_text())
    assert (state["step"], state["mixture_start"]) == (3, 1)
    assert not train(plan(recipe(4)), run, quiet(), resume=True)


def test_renamed_classes_keep_no_weights_of_others(data: Path, recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """ "left" becomes "up" and comes last; with a rate of 0 the resumed step changes no weight."""

    def recipe(max_steps: int, rate: float) -> Recipe:
        return recipe_of(
            "standard",
            ["jumps"],
            root=tmp_path,
            optimizer={"learning_rate": rate},
            training={"max_steps": max_steps, "ema_decay": 0.5},
        )

    shutil.copytree(data / "jumps" / "train", tmp_path / "jumps")
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    run, console = tmp_path / "run", quiet()
    assert not train(plan(recipe(2, 0.05)), run, quiet())
    (tmp_path / "jumps" / "left").rename(tmp_path / "jumps" / "up")
    for file in tmp_path.glob("jumps-*.arrow"):
        file.unlink()  # other classes would be refused
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    assert "pass --allow-changed-data" in refusal(CheckpointError, recipe(3, 0.0), run, resume=True)
    assert not train(plan(recipe(3, 0.0)), run, console, resume=True, allow_changed_data=True)
    assert "head jumps has other classes than before; rows: 1 moved, 1 fresh, 1 dropped" in printed(console)
    before, after = (
        load_file(run / "checkpoints" / f"step-{step}" / "training.safetensors")["weights/heads.jumps.weight"]
        for step in (2, 3)
    )
    assert torch.equal(after[0], before[1]) and not torch.isin(before[0], after[1]).any()


@pytest.mark.parametrize("change", ["classes", "validation", "nothing"])
def test_the_best_checkpoint_stands_for_a_run_while_its_data_are_the_same(
    data: Path, recipe_of: MakeRecipe, tmp_path: Path, change: str
) -> None:
    def recipe(max_steps: int) -> Recipe:
        training = {"max_steps": max_steps, "evaluate_every_epochs": 1.0}
        return recipe_of("standard", ["jumps"], root=tmp_path, training=training)

    shutil.copytree(data / "jumps", tmp_path / "jumps")
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    run = tmp_path / "run"
    assert not train(plan(recipe(2)), run, quiet())
    best = find_checkpoint(run)
    values = read_state(best) | {"best_score": 1.0}  # which nothing later exceeds
    (best / "state.json").unlink()
    write_state(best, values)
    splits = {"classes": ("train", "val"), "validation": ("val",), "nothing": ()}[change]
    for split in splits:
        left = tmp_path / "jumps" / split / "left"
        (left / "13.mp4").unlink(missing_ok=True)
        if change == "classes":
            left.rename(left.with_name("up"))
    for file in tmp_path.glob("jumps-*.arrow"):
        file.unlink()  # other classes would be refused
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    assert not train(plan(recipe(3)), run, quiet(), resume=True, allow_changed_data=True)
    assert find_checkpoint(run).name == (best.name if change == "nothing" else "step-3")


def test_a_run_ends_early_by_the_measure_of_its_recipe(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """Without a learning rate no validation is better than the first one, nor worse."""

    def recipe(early_stopping: int) -> Recipe:
        best = {"measure": "loss", "weights": {"jumps": 1.0}}
        training = {"best": best, "early_stopping": early_stopping, "evaluate_every_epochs": 0.5}
        training |= {"ema_decay": None, "log_every": 10}
        return recipe_of("cotrain", VIDEOS, optimizer={"learning_rate": 0.0}, training=training)

    console = Console(file=StringIO(), width=120)
    run = tmp_path / "run"
    assert not train(plan(recipe(2)), run, console)
    scores = [line["val"] for line in lines_of(run) if "val" in line]
    assert len(scores) == 3 and scores[0] == scores[2]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ended early: no better loss of jumps in 2 validations" in shown
    logged = [line for line in lines_of(run) if "loss" in line]
    assert [line["step"] for line in logged] == [5]  # although lines come every 10 steps
    state = read_state(find_checkpoint(run, "latest"))
    assert state["best_score"] == -scores[0]["jumps"]["loss"] and state["num_without_better"] == 2
    again = Console(file=StringIO(), width=120)
    assert not train(plan(recipe(2)), run, again, resume=True)
    reason = "5 of 7 steps, ended early by training.early_stopping = 2; raise it to continue"
    assert reason in again.file.getvalue().replace("\n", " ")  # type: ignore[attr-defined]
    assert not train(plan(recipe(3)), run, quiet(), resume=True)
    assert len([line for line in lines_of(run) if "val" in line]) == 4
    logged = [line for line in lines_of(run) if "loss" in line]
    clips = sum(row["clips"] for line in logged for row in line["datasets"].values())
    assert clips == 6 * logged[-1]["step"]  # each is counted once


def test_another_measure_of_the_best_forgets_the_scores_so_far(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    def recipe(measure: str, max_steps: int) -> Recipe:
        return recipe_of("cotrain", VIDEOS, training={"best": {"measure": measure}, "max_steps": max_steps})

    assert not train(plan(recipe("top1", 2)), tmp_path / "run", quiet())
    assert not train(plan(recipe("loss", 4)), tmp_path / "run", quiet(), resume=True)
    losses = [[row["loss"] for row in line["val"].values()] for line in lines_of(tmp_path / "run") if "val" in line]
    best = read_state(find_checkpoint(tmp_path / "run", "latest"))["best_score"]
    assert best == max(-sum(values) / len(values) for values in losses[1:])


def test_top5_of_too_few_classes_chooses_nothing(recipe_of: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"training\.best\.measure = 'top5', and jumps has only 2 classes; choose"):
        plan(recipe_of("cotrain", VIDEOS, training={"best": {"measure": "top5"}}))


def test_a_run_is_evaluated_on_longer_and_larger_clips(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    same, longer = (TrainedRun.open(run), TrainedRun.open(run, num_frames=6, image_size=48))
    manifest = same.manifest("jumps", "val")
    result = longer.evaluate("jumps", manifest, "normal")
    assert (result.num_frames, result.image_size_px) == (6, 48)
    assert not same.has_result("jumps", manifest, "normal") and longer.has_result("jumps", manifest, "normal")
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)
    unchanged = TrainedRun.open(run, num_frames=4, image_size=32)
    assert torch.equal(unchanged.predict_heads(frames)["jumps"], same.predict_heads(frames)["jumps"])


def test_every_option_beyond_the_paper_reaches_the_training(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """Each changes the losses of the first two steps, the layers' rates that of the second only."""
    off: dict[str, Any] = {
        "augmentation": {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0},
        "optimizer": {"layer_decay": 1.0, "backbone_rate": 1.0},
        "training": {"label_smoothing": 0.0, "max_steps": 2},
    }
    options: list[tuple[str, dict[str, Any]]] = [
        ("training", {}),
        ("training", {"label_smoothing": 0.1}),
        ("augmentation", {"mixup": 0.8}),
        ("augmentation", {"cutmix": 1.0}),
        ("augmentation", {"randaugment": {"num_ops": 2}}),
        ("augmentation", {"repeats": 2}),
        ("optimizer", {"layer_decay": 0.5}),
        ("optimizer", {"backbone_rate": 0.1}),
    ]
    losses = []
    for number, (section, option) in enumerate(options):
        recipe = recipe_of("standard", ["jumps"], **off | {section: off[section] | option})
        assert not train(plan(recipe), tmp_path / str(number), quiet())
        losses.append([line["loss"] for line in lines_of(tmp_path / str(number)) if "loss" in line])
    plain, *others = losses
    assert [loss[0] != plain[0] for loss in others] == [True] * 5 + [False] * 2
    assert all(loss[1] != plain[1] for loss in others)


@pytest.mark.parametrize("variant", ["timesformer_tiny", "videomae_small"])
def test_what_comes_with_weights_stays_when_a_run_resumes(variant: str, recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """The recipe does not say that its weights have CLIP's activation, and a norm before the blocks."""
    sizes: dict[str, Any] = {"depth": 1, "width": 48, "num_heads": 3, "num_frames": 4, "image_size": 32}
    model = create_model(variant, heads={"other": 2}, **sizes)
    assert isinstance(model.config, ViTConfig)
    model.normalise_as(replace(model.config, activation="quick_gelu", norm_pre=True, layer_norm_eps=1e-5))
    save_model(model, tmp_path / "clip")
    family = {"family": variant.partition("_")[0], "variant": variant}

    def recipe(max_steps: int) -> Recipe:
        training = {"max_steps": max_steps, "ema_decay": 0.5}
        return recipe_of("standard", ["jumps"], init=tmp_path / "clip", model=family | sizes, training=training)

    assert not train(plan(recipe(4)), tmp_path / "whole", quiet())
    assert not train(plan(recipe(2)), tmp_path / "parts", quiet())
    assert not train(plan(recipe(4)), tmp_path / "parts", quiet(), resume=True)
    for file in ("model.safetensors", "training.safetensors"):
        whole, parts = (load_file(find_checkpoint(tmp_path / run, "latest") / file) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys() and all(torch.equal(parts[name], whole[name]) for name in whole)
    trained = TrainedRun.open(tmp_path / "parts").model
    assert isinstance(trained.config, ViTConfig)
    assert (trained.config.activation, trained.config.norm_pre) == ("quick_gelu", True)
    assert not torch.equal(trained.state_dict()["norm_pre.weight"], torch.ones(48))


def test_on_a_cpu_fp8_is_float32_as_every_precision(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    for precision in ("fp8", "bf16"):
        recipe = recipe_of("standard", ["jumps"], training={"precision": precision, "max_steps": 2})
        assert not train(plan(recipe), tmp_path / precision, quiet())
    assert lines_of(tmp_path / "fp8") == lines_of(tmp_path / "bf16")
    assert TrainedRun.open(tmp_path / "fp8").mixed_precision == "no"


def test_a_run_that_goes_on_otherwise_says_so(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    run, output = tmp_path / "run", StringIO()
    assert not train(plan(recipe_of("standard", ["jumps"])), run, quiet())
    other = recipe_of("standard", ["jumps"], training={"epochs": 3, "reduction": "pooled"})
    assert not train(plan(other), run, Console(file=output, width=100), resume=True)
    assert [line for line in output.getvalue().splitlines() if line.startswith("note: ")] == [
        "note: continuing with training.epochs = 3.0, which was 2.0",
        "note: continuing with training.reduction = pooled, which was dataset_mean",
    ]


def test_evaluation_keeps_frames_where_training_did(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    scores, top1 = [], []
    keeping = {"cache_frames": True, "cache_folder": str(tmp_path / "frames")}
    for name, options in {"files": {}, "kept": keeping}.items():
        assert not train(plan(recipe_of("standard", ["jumps"], data=options)), tmp_path / name, quiet())
        scores.append([line["val"] for line in lines_of(tmp_path / name) if "val" in line])
        trained = TrainedRun.open(tmp_path / name)
        top1.append(trained.evaluate("jumps", trained.manifest("jumps", "train"), "reversed").top1)
    assert scores[0] == scores[1] and top1[0] == top1[1]
    assert len(list((tmp_path / "frames").glob("*x*"))) >= 3, "of training, validation and evaluation"

    shutil.rmtree(tmp_path / "frames")
    assert trained.evaluate("jumps", trained.manifest("jumps", "train"), "reversed").top1 == top1[1]
    assert not (tmp_path / "frames").exists()


def test_excluded_samples_are_neither_trained_on_nor_counted(data: Path, recipe_of: MakeRecipe, tmp_path: Path) -> None:
    def recipe(*excluded: int, **changes: Any) -> Recipe:
        sample_ids = [row.sample_id for row in Manifest.open(data / "jumps-train.arrow")]
        lines = [("jumps", "train", sample_ids[row], "similar frames", "turns-val/a.mp4") for row in excluded]
        write_exclusions(tmp_path / "leaks.csv", lines)
        return recipe_of("standard", ["jumps"], data={"exclude": [str(tmp_path / "leaks.csv")]}, **changes)

    run = tmp_path / "run"
    assert not train(plan(recipe(0, 5, 7)), run, quiet())
    (row,) = json.loads((run / "mixture.json").read_text())
    assert (row["num_clips"], row["num_excluded"]) == (9, 3)
    training = [line for line in lines_of(run) if "datasets" in line]
    assert sum(line["datasets"]["jumps"]["clips"] for line in training) == 2 * 9
    trained = TrainedRun.open(run)
    assert trained.evaluate("jumps", trained.manifest("jumps", "train"), "normal").num_samples == 12

    longer = {"epochs": 3}
    assert "the training samples of jumps are not those this run began with; restore the manifest and" in refusal(
        CheckpointError, recipe(0, 5, training=longer), run, resume=True
    )
    assert not train(plan(recipe(7, 0, 5, training=longer)), run, quiet(), resume=True)
    (tmp_path / "leaks.csv").unlink()
    assert "leaks.csv does not exist; write it with `cover check --leaks`" in refusal(
        ManifestError,
        recipe_of("standard", ["jumps"], data={"exclude": [str(tmp_path / "leaks.csv")]}),
        tmp_path / "other",
    )


def test_policies_refuse_the_wrong_kind(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    for policy, name, message in (
        (
            "pretrain",
            "jumps",
            "policy 'pretrain' trains on images, datasets.jumps holds videos; use policy = \"cotrain\"",
        ),
        (
            "standard",
            "pets",
            "policy 'standard' trains on videos, datasets.pets holds images; use policy = \"cotrain\"",
        ),
    ):
        assert refusal(RecipeError, recipe_of(policy, [name]), tmp_path / "run") == message


def test_foreign_weights_bring_their_normalisation_which_the_run_keeps(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    shape = {"width": 64, "num_heads": 1}
    published = create_model(**SECTIONS["model"] | shape, heads={}).state_dict()
    torch.save({"model_state": {f"model.{name}": tensor for name, tensor in published.items()}}, tmp_path / "k400.pyth")
    for step in (1, 2):
        recipe = recipe_of(
            "standard", ["jumps"], init=tmp_path / "k400.pyth", model=shape, training={"max_steps": step}
        )
        assert not train(plan(recipe), tmp_path / "run", quiet(), resume=True)
        assert read_model(find_checkpoint(tmp_path / "run", "latest")).config.mean == (0.45, 0.45, 0.45)


def test_an_init_without_weights_is_refused(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    weights = tmp_path / "vit_in21k.npz"
    assert refusal(CheckpointError, recipe_of("standard", ["jumps"], init=weights), tmp_path / "run") == (
        f"{weights} does not exist; give a run, a file or folder of weights, or hf://owner/name"
    )


def test_validation_classes_must_be_the_training_classes(data: Path, recipe_of: MakeRecipe, tmp_path: Path) -> None:
    shutil.copytree(data / "jumps" / "val" / "left", tmp_path / "jumps" / "val" / "up")
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)
    shutil.copy(data / "jumps-train.arrow", tmp_path)
    recipe = recipe_of("standard", ["jumps"], root=tmp_path)
    assert refusal(ManifestError, recipe, tmp_path / "run") == (
        f"datasets.jumps.val = '{tmp_path}/jumps-val.arrow' has other classes than its training manifest; "
        "index both splits together"
    )


def test_a_batch_smaller_than_its_parts_is_refused(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_of("standard", ["jumps"], training={"micro_batches": 7})
    assert "batch_size 6 is split over 1 processes x 7 micro-batches" in refusal(RecipeError, recipe, tmp_path / "run")


def test_an_undecodable_file_is_named_counted_and_too_many_stop_the_training(
    data: Path, recipe_of: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(data / "jumps" / "train", tmp_path / "jumps")
    (tmp_path / "jumps" / "left" / "1.mp4").write_bytes(b"no video\0")
    index_folder(tmp_path / "jumps", kind="video", out=tmp_path)

    def recipe(share: float) -> Recipe:
        return recipe_of("standard", ["jumps"], root=tmp_path, data={"max_unreadable_share": share})

    console = quiet()
    with caplog.at_level(logging.WARNING):
        assert not train(plan(recipe(0.01)), tmp_path / "run", console)
    assert [record.getMessage() for record in caplog.records if "left/1.mp4 is unreadable" in record.getMessage()]
    rows = [line["datasets"]["jumps"] for line in lines_of(tmp_path / "run")]
    assert [sum(row[count] for row in rows) for count in ("clips", "unreadable")] == [2 * 11, 2 * 1]
    reasons = [row["unreadable_reasons"] for row in rows if row["unreadable"]]
    assert reasons == [{"Invalid data found when processing input": 1}] * 2
    summary = "jumps 1 Invalid data found when processing input left/1.mp4"
    assert summary in printed(console)

    strict = quiet()
    with pytest.raises(DecodeError, match=r"samples of 'jumps' are unreadable.*max_unreadable_share = 0 .*1\.mp4"):
        train(plan(recipe(0.0)), tmp_path / "strict", strict)
    assert summary in printed(strict)


class KillingConsole(Console):
    """Kills a process that decodes when the first validation is printed, as a system does that has no memory left."""

    def __init__(self) -> None:
        super().__init__(file=StringIO(), width=120)
        self._others = set(multiprocessing.active_children())  # such as those of a server that other tests share

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if "validation top-1" in "".join(map(str, objects)):
            killed = (set(multiprocessing.active_children()) - self._others).pop()
            killed.kill()
            assert killed.pid
            os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)


def test_a_killed_worker_ends_the_run_in_one_line_and_it_resumes(
    finished: Path, cotrain: Recipe, tmp_path: Path
) -> None:
    recipe = cotrain.model_copy(update={"data": cotrain.data.model_copy(update={"num_workers": 2})})
    run = tmp_path / "run"
    with pytest.raises(CoverError) as caught:
        train(plan(recipe), run, KillingConsole())
    assert str(caught.value) == (
        "a process that decodes clips was killed, most likely because memory ran out; give it more memory, or lower "
        f"data.num_workers; then continue from the last checkpoint of {run} with --resume"
    )
    assert (run / "latest").read_text() in ("step-2\n", "step-4\n")  # the news may take a step or two
    assert not train(plan(recipe), run, quiet(), resume=True)
    assert lines_of(run) == lines_of(finished)


def test_numbers_that_are_not_finite_end_the_run_with_the_checkpoint_before_intact(
    cotrain: Recipe, tmp_path: Path
) -> None:
    steep = cotrain.model_copy(
        update={
            "optimizer": cotrain.optimizer.model_copy(update={"learning_rate": 1e38, "clip_gradient_norm": None}),
            "training": cotrain.training.model_copy(update={"save_every": 1}),
        }
    )
    with pytest.raises(TrainingError, match=r"step \d+: .* not .*finite.*; lower optimizer.learning_rate") as caught:
        train(plan(steep), tmp_path / "run", quiet())
    step = int(str(caught.value).split(":")[0].removeprefix("step "))
    assert (tmp_path / "run" / "latest").read_text() == f"step-{step - 1}\n"
    assert not [line for line in lines_of(tmp_path / "run") if line["step"] >= step]


def test_a_tracker_that_is_not_installed_is_refused(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    recipe = recipe_of("standard", ["jumps"], training={"trackers": ["swanlab"]})
    assert refusal(RecipeError, recipe, tmp_path / "run").startswith(
        "training.trackers names 'swanlab', which is not installed; `pip install swanlab`, or take one of tensorboard"
    )


def test_a_line_of_metrics_tells_speed_and_progress(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "datasets" in line]
    for line in training:
        parts = ("data", "forward_backward", "optimizer")
        assert 0 < sum(line[f"{part}_seconds"] for part in parts) <= 1.001 * line["step_seconds"]
        assert line["frames_per_second"] == pytest.approx(line["clips_per_second"] * (4 * 20 + 10) / 30, rel=1e-3)
        assert line["tflops_per_device"] > 0
    assert training[-1]["datasets"]["pets"]["epochs"] == 2.0
