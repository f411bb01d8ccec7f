"""Two datasets in one label space, answered by one head, as OmniSource trains on web media beside Kinetics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.runs.tiny import MakeRecipe, lines_of, quiet

from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import CheckpointError, ManifestError, RecipeError
from cover.models.create import build
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun
from cover.training.checkpoint import TrainingState
from cover.training.launch import start_accelerator
from cover.training.objective import Supervised

OPTIONS = {"pets": {"head_of": "jumps", "rate": 1.0, "loss_weight": 0.5}, "jumps": {"rate": 2.0}}
NAMES = ["jumps", "pets"]


@pytest.fixture(scope="module")
def root(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests of jumps, and that of the training images of pets, which have the same classes."""
    folder = tmp_path_factory.mktemp("space")
    for file in ("jumps-train", "jumps-val", "pets-train"):
        (folder / f"{file}.arrow").write_bytes((data / f"{file}.arrow").read_bytes())
    for name in ("jumps", "pets"):
        (folder / name).symlink_to(data / name)
    return folder


def test_one_head_learns_from_both_datasets(recipe_of: MakeRecipe, root: Path, tmp_path: Path) -> None:
    recipe = recipe_of("cotrain", NAMES, root=root, options=OPTIONS, training={"max_steps": 4})
    planned = plan(recipe)
    assert planned.config.heads.keys() == {"jumps"}
    accelerator = start_accelerator(recipe, None)
    batch = next(iter(planned.mixture(TrainingState(), accelerator)))
    assert {*batch} == {"jumps", "pets"} and isinstance(planned.objective, Supervised)
    model = build(planned.config).eval()
    torch.nn.init.normal_(model.get_parameter("heads.jumps.weight"))
    packed = planned.objective.pack(batch, torch.device("cpu"))
    losses = planned.objective.step(model, packed).sums[:, 0]
    swapped = model({"jumps": batch["pets"].frames})["jumps"]
    assert batch["pets"].partner_labels is not None and batch["pets"].label_weights is not None
    own, other = (
        torch.nn.functional.cross_entropy(swapped, labels, reduction="none", label_smoothing=0.1)
        for labels in (batch["pets"].labels, batch["pets"].partner_labels)
    )
    expected = own.lerp(other, 1 - batch["pets"].label_weights).sum()
    torch.testing.assert_close(losses[1], expected.detach())
    assert not train(planned, tmp_path / "run", quiet())
    assert {"jumps", "pets"} <= {name for line in lines_of(tmp_path / "run") for name in line.get("datasets", ())}
    opened = TrainedRun.open(tmp_path / "run")
    assert {*opened.manifests("train")} == {"jumps"}
    with pytest.raises(CheckpointError, match="pets has the head of jumps"):
        opened.manifest("pets", "train")


def test_other_classes_and_keys_of_a_head_are_refused(recipe_of: MakeRecipe, root: Path, tmp_path: Path) -> None:
    pets = Manifest.open(root / "pets-train.arrow")
    other = write_manifest(
        tmp_path / "o.arrow", list(pets), name="pets", kind="image", split="train", class_names=("a", "b"), root=root
    )
    options = {"pets": {"head_of": "jumps", "train": str(other.path)}}
    with pytest.raises(ManifestError, match=r"datasets\.pets has head_of 'jumps', and .*o\.arrow has other classes"):
        plan(recipe_of("cotrain", NAMES, root=root, options=options))
    with pytest.raises(RecipeError, match=r"datasets\.pets\.loss is 'bce', and that of jumps, .* is 'cross_entropy'"):
        plan(recipe_of("cotrain", NAMES, root=root, options={"pets": {"head_of": "jumps", "loss": "bce"}}))
    for own, rule in {
        "jumps": "is no other dataset with a head of its own; it is one of pets",
        "pets": "takes a head",
    }.items():
        changed = {own: {"head_of": "jumps", "val": str(root / "jumps-val.arrow")}}
        with pytest.raises(RecipeError, match=rule):
            recipe_of("cotrain", NAMES, root=root, options=changed)
