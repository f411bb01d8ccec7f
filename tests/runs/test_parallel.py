"""One process or two, however a step is split: the same losses and the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.family_runs import assert_same_weights
from tests.processes import started
from tests.runs.tiny import IMAGES, LESS, SAMPLING, VIDEOS, MakeRecipe, lines_of, quiet

import cover
from cover.config.recipe import Recipe
from cover.datasets.manifest import Manifest, write_manifest
from cover.runs.plan import plan
from cover.runs.train import train

PROGRAM = """
import gc, json, os, sys
from io import StringIO
from pathlib import Path
from accelerate import Accelerator
from rich.console import Console
from cover.errors import RecipeError
from cover.config.recipe_files import read_recipe
from cover.runs.plan import plan
from cover.runs.train import train
from cover.training.trainer import Trainer
from torch.nn.parallel import DistributedDataParallel

fit = Trainer.fit

def noted_fit(trainer):
    kinds = {type(parameter).__name__ for parameter in trainer.engine.model.parameters()}
    found = {"processes": trainer.accelerator.num_processes, "parameters": sorted(kinds),
             "wrapped": type(trainer.engine.wrapped).__name__}
    Path(f"{trainer.run.path.name}.{os.environ['RANK']}.json").write_text(json.dumps(found))
    return fit(trainer)

def noted_end(accelerator):  # the processes stay together for the next run
    # Freed later than its process group, DDP can hang.
    alive = sum(type(thing) is DistributedDataParallel for thing in gc.get_objects())
    assert not alive
    accelerator.wait_for_everyone()

Trainer.fit = noted_fit
Accelerator.end_training = noted_end
for recipe in sys.argv[1:]:
    name = recipe.split(".")[0]
    try:
        train(plan(read_recipe(Path(recipe))), Path("runs") / name, Console(file=StringIO()), resume=True)
    except RecipeError as error:
        Path(f"{name}.{os.environ['RANK']}.txt").write_text(str(error))
"""

TRAINING: dict[str, Any] = {"epochs": 1.2, "micro_batches": 1, "ema_decay": 0.9, "evaluate_every_epochs": 0.6}
SPLITS: dict[str, Mapping[str, Any]] = {
    "ddp-3": {"parallel": "ddp", "micro_batches": 3},
    "fsdp-3": {"parallel": "fsdp", "micro_batches": 3, "activation_checkpointing": 2},
}
"""Slices of one clip each, as with 2 x 3 micro-batches of 6 clips, hold one dataset and none of the others."""
NUM_STEPS, STOP = 6, 3
PARADIGMS: dict[str, dict[str, Any]] = {
    "one_dataset": {
        "data": {"batches": "one_dataset"},
        "options": {"jumps": {"batch_size": 4}, "pets": {"batch_size": 8, "learning_rate_factor": 0.5}},
        "training": {"projection_weight": 1.0},
    },
    "sharded_projections": {"training": {"projection_weight": 1.0, "parallel": "fsdp"}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, recipe_of: MakeRecipe, pretrained: Path) -> Path:
    """Runs of one process, and of two in one launch; "mixed" continued from step 3 of DDP as FSDP."""
    folder = tmp_path_factory.mktemp("parallel")

    def write(name: str, **changes: Any) -> str:
        recipe = recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, training=TRAINING | changes, **SAMPLING)
        recipe.write(folder / f"{name}.toml")
        return f"{name}.toml"

    files = [write(name, **changes) for name, changes in SPLITS.items()]
    files += [write("mixed.a", max_steps=STOP), write("mixed.b", parallel="fsdp")]
    files += [write("half", max_steps=STOP, parallel="fsdp"), write("none", parallel="none")]
    probe_of(recipe_of, pretrained).write(folder / "probe.toml")
    pcgrad_of(recipe_of, pretrained).write(folder / "pcgrad.toml")
    multi_label_of(recipe_of, pretrained, folder).write(folder / "multi.toml")
    for parallel in ("ddp", "fsdp"):
        less_of(recipe_of, pretrained, parallel=parallel).write(folder / f"less-{parallel}.toml")
    for name in PARADIGMS:
        paradigm_of(recipe_of, pretrained, name).write(folder / f"{name}.toml")
    files += ["probe.toml", "pcgrad.toml", "multi.toml", "less-ddp.toml", "less-fsdp.toml"]
    files += [f"{name}.toml" for name in PARADIGMS]
    (folder / "program.py").write_text(PROGRAM)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "program.py"]
    environment = os.environ | {"PYTHONPATH": str(Path(cover.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with started(launch + files, cwd=folder, env=environment, stderr=subprocess.PIPE) as running:
        _, errors = running.communicate(timeout=280)
    assert running.returncode == 0, errors
    assert not train(
        plan(recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, training=TRAINING, **SAMPLING)),
        folder / "runs" / "one",
        quiet(),
    )
    return folder


def probe_of(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    plain = {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0}
    return recipe_of("probe", IMAGES, init=pretrained, augmentation=plain, training={"micro_batches": 1})


def pcgrad_of(recipe_of: MakeRecipe, pretrained: Path) -> Recipe:
    training = {"max_steps": 4, "measure_gradients_every": 2}
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer={"balance": "pcgrad"}, training=training)


def less_of(recipe_of: MakeRecipe, pretrained: Path, **training: Any) -> Recipe:
    shared = {"max_steps": 2, "ema_decay": 0.9, "micro_batches": 1} | training
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, optimizer=LESS, training=shared)


def paradigm_of(recipe_of: MakeRecipe, pretrained: Path, name: str) -> Recipe:
    changes = PARADIGMS[name] | {"training": {"max_steps": 4} | PARADIGMS[name].get("training", {})}
    return recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, **changes)


def multi_label_of(recipe_of: MakeRecipe, pretrained: Path, folder: Path) -> Recipe:
    """Jumps with two classes for every third sample, beside turns."""
    plain = recipe_of("cotrain", VIDEOS, init=pretrained, training={"max_steps": 4})
    changes = {}
    for split in ("train", "val"):
        manifest = Manifest.open(getattr(plain.datasets["jumps"], split))
        rows = [
            vars(row) | {"labels": [row.label, *([1 - row.label] if number % 3 == 0 else [])]}
            for number, row in enumerate(manifest)
        ]
        changes[split] = folder / f"multi-{split}.arrow"
        about: dict[str, Any] = {"class_names": manifest.class_names, "root": manifest.root}
        write_manifest(changes[split], rows, name="jumps", kind="video", split=split, **about)
    section = plain.datasets["jumps"].model_copy(update=changes)
    return plain.model_copy(update={"datasets": plain.datasets | {"jumps": section}})


def same_as_one_process(folder: Path, name: str) -> None:
    found, expected = ([line for line in lines_of(folder / "runs" / run) if "loss" in line] for run in (name, "one"))
    assert len(found) == NUM_STEPS
    for line, wanted in zip(found, expected, strict=True):
        for dataset, row in line.pop("datasets").items():
            assert row == pytest.approx(wanted["datasets"][dataset], rel=1e-5)
        assert line == pytest.approx({key: wanted[key] for key in line}, rel=1e-5)
    for file in ("model.safetensors", "training.safetensors"):  # averaged weights; weights, momentum and totals
        tensors, wanted_tensors = (
            load_file(folder / "runs" / run / "checkpoints" / f"step-{NUM_STEPS}" / file) for run in (name, "one")
        )
        assert tensors.keys() == wanted_tensors.keys()
        for key, tensor in tensors.items():
            assert torch.allclose(tensor, wanted_tensors[key], rtol=1e-4, atol=1e-6), (file, key)


@pytest.mark.parametrize("name", [*SPLITS, "mixed"])
def test_two_processes_train_as_one(runs: Path, name: str) -> None:
    for rank in (0, 1):
        found = json.loads((runs / f"{name}.{rank}.json").read_text())
        assert found["processes"] == 2
        sharded = (name != "mixed" and name.startswith("fsdp")) or name == "mixed"
        assert found["parameters"] == (["DTensor"] if sharded else ["Parameter"])
        assert found["wrapped"] == ("FSDPVideoClassifier" if sharded else "DistributedDataParallel")
    same_as_one_process(runs, name)


def test_a_recipe_for_one_process_is_refused_by_all_of_several(runs: Path) -> None:
    for rank in (0, 1):
        assert (runs / f"none.{rank}.txt").read_text() == (
            "training.parallel = 'none' is for one process, and 2 were started; start one, or set it to 'ddp' or 'fsdp'"
        )
    assert not (runs / "runs" / "none").exists()


def test_two_processes_train_a_probe_as_one(
    runs: Path, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    assert json.loads((runs / "probe.1.json").read_text())["wrapped"] == "DistributedDataParallel"
    assert not train(plan(probe_of(recipe_of, pretrained)), tmp_path / "one", quiet())
    found, expected = (
        [line["loss"] for line in lines_of(run) if "loss" in line]
        for run in (runs / "runs" / "probe", tmp_path / "one")
    )
    assert found == pytest.approx(expected, rel=1e-5) and found


def test_two_processes_train_a_part_of_the_weights_as_one(
    runs: Path, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    assert not train(plan(less_of(recipe_of, pretrained)), tmp_path / "one", quiet())
    for parallel in ("ddp", "fsdp"):
        assert_same_weights(runs / "runs" / f"less-{parallel}", tmp_path / "one", to_the_bit=False)


def test_two_processes_combine_and_measure_gradients_as_one(
    runs: Path, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    assert not train(plan(pcgrad_of(recipe_of, pretrained)), tmp_path / "one", quiet())
    for found, expected in zip(lines_of(runs / "runs" / "pcgrad"), lines_of(tmp_path / "one"), strict=True):
        if "loss" in found:
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        if "gradients" in found:
            for measure in ("norm", "share"):
                assert found["gradients"][measure] == pytest.approx(expected["gradients"][measure], rel=1e-2)


@pytest.mark.parametrize("name", PARADIGMS)
def test_two_processes_train_by_other_paradigms_as_one(
    runs: Path, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path, name: str
) -> None:
    assert not train(plan(paradigm_of(recipe_of, pretrained, name)), tmp_path / "one", quiet())
    found, expected = (
        load_file(run / "checkpoints" / "step-4" / "training.safetensors")
        for run in (runs / "runs" / name, tmp_path / "one")
    )
    assert found.keys() == expected.keys()
    assert any("projections" in key for key in found)
    for key, tensor in expected.items():
        assert torch.allclose(found[key], tensor, rtol=1e-4, atol=1e-6), key


def test_two_processes_learn_and_validate_several_classes_as_one(
    runs: Path, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    assert not train(plan(multi_label_of(recipe_of, pretrained, tmp_path)), tmp_path / "one", quiet())
    for found, expected in zip(lines_of(runs / "runs" / "multi"), lines_of(tmp_path / "one"), strict=True):
        if "loss" in found:
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        else:
            assert found["val"]["jumps"] == pytest.approx(expected["val"]["jumps"], rel=1e-5)
            assert "map" in found["val"]["jumps"]


def test_validation_is_shared_and_counts_each_sample_once(runs: Path) -> None:
    one, ddp, fsdp = (
        [line["val"] for line in lines_of(runs / "runs" / run) if "val" in line] for run in ("one", "ddp-3", "fsdp-3")
    )
    assert len(ddp) == len(fsdp) == len(one) > 0
    for other in (ddp, fsdp):
        for found, expected in zip(other, one, strict=True):
            for dataset, scores in expected.items():
                assert found[dataset] == pytest.approx(scores, rel=1e-5)
                assert found[dataset]["top1"] == scores["top1"]


def test_one_process_goes_on_from_two(runs: Path, recipe_of: MakeRecipe, pretrained: Path) -> None:
    recipe = recipe_of("cotrain", VIDEOS + IMAGES, init=pretrained, training=TRAINING, **SAMPLING)
    assert not train(plan(recipe), runs / "runs" / "half", quiet(), resume=True)
    same_as_one_process(runs, "half")
