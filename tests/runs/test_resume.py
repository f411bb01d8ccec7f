"""A run whose classes, datasets, batch size or schedule changed continues where it was, and says what is different."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, lines_of, quiet

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.errors import CheckpointError
from cover.models.create import create_model
from cover.runs.plan import plan
from cover.runs.resume import changed_heads, with_rows
from cover.runs.train import train

OLD, NEW = ("jump", "run", "swim"), ("dive", "swim", "jump")


def test_every_class_takes_its_rows_along() -> None:
    settings = {"depth": 1, "width": 12, "num_heads": 1, "num_frames": 2, "image_size": 32}
    old = create_model(**settings, heads={"moves": OLD, "pets": ("cat", "dog")})  # type: ignore[arg-type]
    new = create_model(**settings, heads={"moves": NEW, "pets": ("cat", "dog")})  # type: ignore[arg-type]
    rows = changed_heads(old.config, new.config)
    assert list(rows) == ["moves"] and str(rows["moves"]) == "rows: 2 moved, 1 fresh, 1 dropped"

    was, fresh = old.state_dict(), new.state_dict()
    weights = with_rows(was, rows, fresh)
    for name in ("heads.moves.weight", "heads.moves.bias"):
        assert torch.equal(weights[name], torch.stack([fresh[name][0], was[name][2], was[name][0]]))
    assert torch.equal(weights["heads.pets.weight"], was["heads.pets.weight"])

    momentum = torch.arange(36.0).view(3, 12)
    training = {
        "optimizer/momentum_buffer/heads.moves.weight": momentum,
        "optimizer/step/heads.moves.weight": torch.tensor(7.0),
        "weights/heads.moves.weight": was["heads.moves.weight"],
        "totals/moves": torch.ones(4),
    }
    changed = with_rows(training, rows, fresh)
    expected = torch.stack([torch.zeros(12), momentum[2], momentum[0]])
    assert torch.equal(changed["optimizer/momentum_buffer/heads.moves.weight"], expected)
    assert changed["optimizer/step/heads.moves.weight"] == 7 and torch.equal(changed["totals/moves"], torch.ones(4))
    assert torch.equal(changed["weights/heads.moves.weight"], weights["heads.moves.weight"])


def continued(recipe: Recipe, run: Path, *, allow_changed_data: bool = False) -> list[str]:
    """Continue a run to its end. Returns the notes and warnings."""
    output = StringIO()
    console = Console(file=output, width=500)
    assert not train(plan(recipe), run, console, resume=True, allow_changed_data=allow_changed_data)
    return [line for line in output.getvalue().splitlines() if line.startswith(("note: ", "warning: ", "head "))]


def test_another_batch_size_continues_at_the_same_clip_and_epoch(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """3 steps of 6 clips and one of 12 are an epoch: each sample once. The cosine ends at 0 after 2 epochs."""

    def recipe(batch_size: int, **training: Any) -> Recipe:
        return recipe_of("cotrain", VIDEOS + IMAGES, data={"batch_size": batch_size}, training=training)

    assert not train(plan(recipe(6, max_steps=3)), tmp_path / "run", quiet())
    notes = continued(recipe(12), tmp_path / "run")
    assert "note: an epoch has 2.5 steps now; the run continues at epoch 0.6 of 2, with 3 steps left" in notes
    lines = [line for line in lines_of(tmp_path / "run") if "loss" in line]
    read = {name: sum(line["datasets"][name]["clips"] for line in lines[:4]) for name in VIDEOS + IMAGES}
    assert read == {"jumps": 12, "turns": 8, "pets": 10}
    assert [line["epoch"] for line in lines] == pytest.approx([0.2, 0.4, 0.6, 1.0, 1.4, 1.8])
    assert lines[3]["learning_rate"] == pytest.approx(0.05 * (1 + torch.tensor(0.3 * torch.pi).cos()) / 2)
    assert {name: row["epochs"] for name, row in lines[3]["datasets"].items()} == dict.fromkeys(read, 1.0)


def test_the_order_of_datasets_in_a_recipe_does_not_matter(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    training = {"max_steps": 2, "ema_decay": 0.9}
    for name in ("whole", "parts"):
        assert not train(plan(recipe_of("cotrain", VIDEOS + IMAGES, training=training)), tmp_path / name, quiet())
    continued(recipe_of("cotrain", VIDEOS + IMAGES, training={"ema_decay": 0.9}), tmp_path / "whole")
    continued(recipe_of("cotrain", IMAGES + VIDEOS[::-1], training={"ema_decay": 0.9}), tmp_path / "parts")
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    weights = [find_checkpoint(tmp_path / name, "latest") / "model.safetensors" for name in ("whole", "parts")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_datasets_are_added_and_removed_where_that_is_allowed(
    recipe_of: MakeRecipe, tmp_path: Path, optimizer: str
) -> None:
    """At a rate of 0, kept heads stay as they were. The epoch goes on: 3 of 5 steps are 0.6 of 2 epochs."""

    def recipe(datasets: list[str], rate: float, **training: Any) -> Recipe:
        settings = {"name": optimizer, "learning_rate": rate}
        return recipe_of("cotrain", datasets, optimizer=settings, training={"ema_decay": 0.5} | training)

    run = tmp_path / "run"
    assert not train(plan(recipe(["turns", "pets"], 0.01, max_steps=3)), run, quiet())
    before = load_file(find_checkpoint(run, "latest") / "training.safetensors")
    changed = recipe(["jumps", "pets"], 0.0)
    with pytest.raises(CheckpointError) as refused:
        train(plan(changed), run, quiet(), resume=True)
    assert str(refused.value) == (
        "the recipe adds jumps and lacks turns, compared with this run; restore the datasets, or pass "
        "--allow-changed-data to continue with the new ones"
    )
    notes = continued(changed, run, allow_changed_data=True)
    assert [line for line in notes if line.startswith("head ")] == ["head jumps starts anew", "head turns is left out"]
    assert "note: an epoch has 3.667 steps now; the run continues at epoch 1 of 2, with 4 steps left" in notes
    after = load_file(find_checkpoint(run, "latest") / "training.safetensors")
    assert torch.equal(after["weights/heads.pets.weight"], before["weights/heads.pets.weight"])
    assert "weights/heads.jumps.weight" in after and "weights/heads.turns.weight" not in after


def test_a_schedule_that_jumps_is_warned_of(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """A finished cosine that is extended; not another peak, nor a run that was cut off."""
    run = tmp_path / "run"
    assert not train(plan(recipe_of("standard", ["jumps"], training={"epochs": 1})), run, quiet())
    notes = continued(recipe_of("standard", ["jumps"], training={"epochs": 2}), run)
    assert [line for line in notes if "its peak" in line] == [
        "warning: the learning rate continues at 0.85 of its peak, where it had come to 0.5, because the schedule has "
        "changed; if that is not meant, train on in a new run, with init and a lower optimizer.learning_rate"
    ]
    for changes in ({"optimizer": {"learning_rate": 0.01}}, {}):
        cut = tmp_path / str(len(changes))
        assert not train(plan(recipe_of("standard", ["jumps"], training={"max_steps": 2})), cut, quiet())
        assert not any("its peak" in line for line in continued(recipe_of("standard", ["jumps"], **changes), cut))
