"""Two heads on the same clips, as verbs and nouns of EPIC-Kitchens, beside a dataset of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.tiny import MakeRecipe, lines_of, quiet

import cover
from cover.config.recipe import Recipe
from cover.core.batch import UNREADABLE, MixedBatch
from cover.core.run_files import find_checkpoint
from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import ManifestError, RecipeError
from cover.evaluation.metrics import all_right
from cover.evaluation.result import DatasetResult, Predictions
from cover.models.create import build
from cover.runs.measurements import sample_files
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun
from cover.training.checkpoint import TrainingState
from cover.training.launch import start_accelerator
from cover.training.objective import Supervised
from cover.training.packed_batch import PackedBatch

PLAIN = {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0}
NOUNS = ("pan", "knife", "tap")
HEADS = ["jumps", "nouns", "pets"]
OPTIONS = {"nouns": {"clips_of": "jumps", "loss_weight": 0.5}}
TRAINING = {"projection_weight": 0.5, "ema_decay": 0.9}
UNREADABLE_TOO = {"max_unreadable_share": 0.5}


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of jumps, one file of which cannot be decoded; of nouns, the same clips; and of pets."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "broken.mp4").write_bytes(b"no video")
    for split in ("train", "val"):
        for name in ("jumps", "pets"):
            manifest = Manifest.open(data / f"{name}-{split}.arrow")
            rows = [vars(row) | {"path": str(row.file)} for row in manifest]
            if name == "jumps" and split == "train":
                rows[3]["path"] = "broken.mp4"
            shared: dict[str, Any] = {"kind": manifest.kind, "split": split, "root": folder}
            write_manifest(
                folder / f"{name}-{split}.arrow", rows, name=name, class_names=manifest.class_names, **shared
            )
            if name == "jumps":
                others = [row | {"label": number % 3} for number, row in enumerate(rows)]
                write_manifest(folder / f"nouns-{split}.arrow", others, name="nouns", class_names=NOUNS, **shared)
    return folder


def recipe(recipe_of: MakeRecipe, root: Path, **changes: Any) -> Recipe:
    training = {"max_steps": 4, **changes.pop("training", {})}
    return recipe_of("cotrain", HEADS, root=root, options=OPTIONS, training=training, data=UNREADABLE_TOO, **changes)


def batches(planned: Any, **slices: int) -> list[MixedBatch]:
    accelerator = start_accelerator(planned.recipe, None)
    mixture = planned.mixture(TrainingState(), accelerator)
    for key, value in slices.items():
        setattr(mixture, key, value)
    return list(mixture)


def test_heads_share_frames_and_each_has_its_labels(recipe_of: MakeRecipe, root: Path) -> None:
    planned = plan(recipe(recipe_of, root, augmentation=PLAIN, training={"micro_batches": 1}))
    assert [row.dataset for row in planned.rows] == ["jumps", "pets"] and planned.steps_per_epoch == 22 / 6
    train_rows = Manifest.open(root / "nouns-train.arrow")
    label_of = {row.sample_id: row.label for row in train_rows}
    seen = set()
    for batch in batches(planned):
        assert batch["nouns"].frames is batch["jumps"].frames
        assert batch.counts["nouns"] == batch.counts["jumps"]
        assert batch.num_clips == 6
        for name, label, other in zip(
            batch["nouns"].sample_ids, batch["nouns"].labels, batch["jumps"].labels, strict=True
        ):
            readable = int(label) != UNREADABLE
            assert readable == (int(other) != UNREADABLE)
            if readable:
                assert int(label) == label_of[name.removeprefix("jumps/")]
            seen.add(readable)
    assert seen == {True, False}


def test_one_pass_of_the_backbone_gives_the_losses_of_two(recipe_of: MakeRecipe, root: Path) -> None:
    """Each clip is encoded once; the loss is the weighted sum of both heads' means, however a step is split."""
    own = recipe(recipe_of, root, training={"precision": "fp32", "label_smoothing": 0.0})
    planned = plan(own)
    model = build(planned.config).eval().requires_grad_(False)
    assert isinstance(planned.objective, Supervised)
    pack = partial(planned.objective.pack, device=torch.device("cpu"))
    encoded: list[int] = []
    model.backbone.register_forward_hook(lambda module, args, output: encoded.append(len(output)))
    whole = batches(planned, num_micro_batches=1)[0]
    parts = [batch for batch in batches(planned, num_micro_batches=3) if batch.step == whole.step]

    def loss_of(packed: PackedBatch) -> float:
        with torch.no_grad():
            output = planned.objective.step(model, packed)
        assert len(output.finite) == len(packed.sample_ids) == len(packed.labels)
        return float(output.total)

    expected = 0.0
    for name, weight in (("jumps", 1.0), ("nouns", 0.5), ("pets", 1.0)):
        clips = whole[name]
        logits = model({name: clips.frames})[name]
        own_loss = torch.nn.functional.cross_entropy(logits, clips.labels, ignore_index=UNREADABLE, reduction="none")
        assert clips.partner_labels is not None and clips.label_weights is not None
        other = torch.nn.functional.cross_entropy(
            logits, clips.partner_labels, ignore_index=UNREADABLE, reduction="none"
        )
        mixed = clips.label_weights * own_loss + (1 - clips.label_weights) * other
        expected += weight * float(mixed.sum()) / whole.counts[name]
    encoded.clear()
    packed = pack(whole)
    assert loss_of(packed) == pytest.approx(expected, rel=1e-5) and encoded == [6]
    assert sum(loss_of(pack(part)) for part in parts) == pytest.approx(expected, rel=1e-5)
    by_head = [loss_of(packed.of_dataset(number)[1]) for number in range(3)]
    assert sum(by_head) == pytest.approx(expected, rel=1e-5) and all(by_head)
    encoded.clear()
    logits = model(whole)
    weights = {"jumps": 1.0, "nouns": 0.5, "pets": 1.0}
    assert float(cover.loss(logits, whole, weights)) == pytest.approx(expected, rel=1e-5) and encoded == [6]


@pytest.fixture(scope="module")
def finished(recipe_of: MakeRecipe, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert not train(plan(recipe(recipe_of, root, training=TRAINING)), run, quiet())
    return run


def test_a_run_resumes_exactly(recipe_of: MakeRecipe, root: Path, finished: Path, tmp_path: Path) -> None:
    for steps in (2, 4):
        assert not train(
            plan(recipe(recipe_of, root, training=TRAINING | {"max_steps": steps})), tmp_path, quiet(), resume=True
        )
    weights = [load_file(find_checkpoint(run, "latest") / "model.safetensors") for run in (finished, tmp_path)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_heads_are_evaluated_each_and_together(finished: Path) -> None:
    opened = TrainedRun.open(find_checkpoint(finished, "latest"))
    (together,) = opened.on_same_clips([(name, opened.manifest(name, "val")) for name in ("jumps", "nouns")])
    results = opened.evaluate_together(together, "normal", keep_logits=True)
    alone = opened.evaluate("nouns", together["nouns"], "normal")
    assert results[1].predictions == alone.predictions and results[1].file_name == alone.file_name
    scores = [line["val"] for line in lines_of(finished) if "val" in line][-1]
    assert [result.top1 for result in results] == [scores["jumps"]["top1"], scores["nouns"]["top1"]]
    right = [[a == b for a, b in zip(own.labels, own.predicted, strict=True)] for own in map(predictions, results)]
    assert all_right(results).value == sum(map(all, zip(*right, strict=True))) / 4
    assert opened.predict_heads(torch.zeros(4, 1, 3, 32, 32, dtype=torch.uint8)).keys() == {*HEADS}


def predictions(result: DatasetResult) -> Predictions:
    assert result.predictions
    return result.predictions


def test_a_probe_has_both_heads(recipe_of: MakeRecipe, root: Path, finished: Path, tmp_path: Path) -> None:
    training = {"micro_batches": 1, "max_steps": 4}
    probe = recipe_of(
        "probe", HEADS, finished, root, OPTIONS, data=UNREADABLE_TOO, augmentation=PLAIN, training=training
    )
    assert not train(plan(probe), tmp_path / "probe", quiet())
    lines = [line["datasets"] for line in lines_of(tmp_path / "probe") if "datasets" in line]
    assert lines and all(line["nouns"]["clips"] == line["jumps"]["clips"] for line in lines)


def test_a_dry_run_opens_shared_files_once(recipe_of: MakeRecipe, root: Path) -> None:
    shared = {"jumps": {"loss_weight": 0.0}, "nouns": {"clips_of": "jumps", "loss_weight": 0.0}}
    planned = plan(recipe_of("cotrain", HEADS[:2], root=root, options=shared, data={"rates": "sqrt"}))
    named = [warning.partition(" ")[0] for warning in planned.warnings]
    assert [name for name in named if "flip" not in name] == [
        "datasets.jumps.loss_weight",
        "datasets.nouns.loss_weight",
        "data.rates",  # clips of one dataset
    ]
    files = sample_files(planned)
    assert files.seconds.keys() == {"jumps"} and len(files.warnings) == 1


def test_other_samples_and_keys_of_clips_are_refused(recipe_of: MakeRecipe, root: Path, data: Path) -> None:
    others = {split: str(data / f"turns-{split}.arrow") for split in ("train", "val")}
    options: dict[str, Any] = {"nouns": {"clips_of": "jumps", **others}}
    with pytest.raises(ManifestError, match=r"datasets\.nouns has clips_of 'jumps', and the samples of .* are not"):
        plan(recipe_of("cotrain", HEADS, root=root, options=options))
    for key, value in {"rate": 2.0, "mixup": 0.5, "horizontal_flip": False, "num_frames": 2}.items():
        own = {"nouns": {"clips_of": "jumps", key: value}}
        with pytest.raises(RecipeError, match=rf"datasets\.nouns\.{key} concerns clips, and nouns has those of jumps"):
            recipe_of("cotrain", HEADS, root=root, options=own)
    with pytest.raises(RecipeError, match=r"datasets\.nouns\.clips_of = 'turns' is no other dataset with clips"):
        recipe_of("cotrain", HEADS, root=root, options={"nouns": {"clips_of": "turns"}})
