"""A run that continues: its checkpoint and state, and what has changed since."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor

from cover.config.layers import flattened, with_base
from cover.config.recipe import PATH_KEYS, Recipe
from cover.core.run_files import RunFiles
from cover.errors import CheckpointError
from cover.models.checkpoints.integrity import damage
from cover.models.classifier import VideoClassifier, head_of
from cover.models.config import ModelConfig
from cover.models.head_rows import HeadRows, match_rows, take_rows
from cover.models.weights import load_exactly, read_config, read_tensors
from cover.runs.data import RecipeData
from cover.runs.folder import RunFolder
from cover.training.checkpoint import TrainingState, read_training


def starting_point(run: RunFiles, resume: bool, console: Console) -> Path | None:
    """Find the newest intact checkpoint. Damaged ones are named and skipped.

    Args:
        run: The run folder.
        resume: Whether the user wants to continue the run.
        console: Where the choice is printed.

    Returns:
        The checkpoint, or None if the run has none yet.

    Raises:
        CheckpointError: There are checkpoints and `resume` is false, or all of them are damaged.
    """
    folders = run.checkpoints()
    if folders and not resume:
        raise CheckpointError(f"{run.path} holds a run already; continue it with --resume or choose another --out")
    for folder in folders:
        started = time.monotonic()
        fault = damage(folder)
        line = f"{folder} is damaged ({fault}) and skipped"
        if fault is None:
            num_bytes = sum(file.stat().st_size for file in folder.iterdir())
            line = f"continuing from {folder} ({decimal(num_bytes)} checked in {time.monotonic() - started:.2g} s)"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
        if fault is None:
            return folder
    if folders:
        raise CheckpointError(f"{run.path} has no whole checkpoint to resume from; remove it, or choose another --out")
    return None


@dataclass(frozen=True)
class Start:
    """What training starts with.

    Attributes:
        model: With its weights, on the CPU.
        state: Where the run is.
        tensors: From a checkpoint: states of the optimizer, last weights under EMA, running totals.
        is_resumed: Whether it comes from a checkpoint.
    """

    model: VideoClassifier
    state: TrainingState
    tensors: dict[str, Tensor] = field(default_factory=dict)
    is_resumed: bool = False


def resumed(
    checkpoint: Path,
    fresh: TrainingState,
    data: RecipeData,
    folder: RunFolder,
    create: Callable[[], VideoClassifier],
    console: Console | None,
) -> Start:
    """Continue from a checkpoint.

    Args:
        checkpoint: The folder of an intact one.
        fresh: The state that a new run of the recipe would start with.
        data: The recipe's manifests.
        folder: The run folder.
        create: Creates the recipe's model.
        console: Where changed heads are named; None to print nothing.

    Raises:
        CheckpointError: Data, optimizer or architecture differ from the checkpoint's.
    """
    folder.check_manifests({split: data.splits[split] for split in ("val", "test")})
    saved, tensors = read_training(checkpoint)
    state = resumed_state(saved, fresh, folder.allow_changed_data)
    model = create()
    rows = restore_model(model, checkpoint, console)
    if rows or not folder.has_same("val", data.splits["val"]):
        forget_best(state)  # scores on other classes or samples cannot be compared
    return Start(model, state, with_rows(tensors, rows, model.state_dict()), is_resumed=True)


def resumed_state(state: TrainingState, fresh: TrainingState, allow_changed_data: bool) -> TrainingState:
    """The state to continue from. If data have changed, the mixture starts a new epoch.

    Args:
        state: The saved one.
        fresh: The state that a new run of the recipe would start with.
        allow_changed_data: Accept other training samples than before.

    Raises:
        CheckpointError: The optimizer is different, or the training samples are and that is not allowed.
    """
    if state.optimizer != fresh.optimizer:
        raise CheckpointError(
            f"optimizer.name = {fresh.optimizer!r}, but this run began with {state.optimizer!r}, whose state cannot "
            "be taken over; resume with that, or start a new run with init"
        )
    digests = fresh.digests
    changed = sorted(
        name for name in digests.keys() | state.digests.keys() if digests.get(name) != state.digests.get(name)
    )
    if changed and not allow_changed_data:
        raise CheckpointError(
            f"the training samples of {', '.join(changed)} are not those this run began with; restore the manifest and "
            "data.exclude, or pass --allow-changed-data to continue with the new ones"
        )
    if changed:
        state.mixture_start = state.step
    state.digests = digests
    if state.best_by != fresh.best_by:
        state.best_by = fresh.best_by
        forget_best(state)
    return state


def forget_best(state: TrainingState) -> None:
    """Let the next validation be the best one so far."""
    state.best_score, state.num_without_better = None, 0


def restore_model(model: VideoClassifier, checkpoint: Path, console: Console | None) -> dict[str, HeadRows]:
    """Put the weights of a checkpoint into a model. Returns the heads whose classes changed."""
    saved = read_config(checkpoint)
    rows = changed_heads(saved, model.config)
    model.normalise_as(saved)
    load_exactly(model, with_rows(read_tensors(checkpoint), rows, model.state_dict()), checkpoint)
    for name, found in rows.items():
        if console:
            console.print(f"head {name} has other classes than before; {found}", markup=False, highlight=False)
    return rows


def changed_heads(saved: ModelConfig, config: ModelConfig) -> dict[str, HeadRows]:
    """Find the heads whose classes have changed, and where each class's row comes from.

    Args:
        saved: The checkpoint's configuration.
        config: The recipe's.
    """
    rows = {
        name: match_rows(saved.heads[name], classes) for name, classes in config.heads.items() if name in saved.heads
    }
    return {name: found for name, found in rows.items() if not found.unchanged}


def with_rows(
    tensors: Mapping[str, Tensor], rows: Mapping[str, HeadRows], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Move the rows of changed heads to where their classes are now.

    Args:
        tensors: Weights by name, or `Engine.training_tensors`.
        rows: From `changed_heads`.
        weights: The model's. New classes keep these; their optimizer's state starts at zero.
    """

    def follow(key: str, tensor: Tensor) -> Tensor:
        *kind, name = key.split("/")
        head = head_of(name)
        if head not in rows or not tensor.ndim:
            return tensor
        fresh = torch.zeros_like(weights[name]) if "optimizer" in kind else weights[name]
        return take_rows(rows[head], tensor, fresh)

    return {key: follow(key, tensor) for key, tensor in tensors.items()}


def recipe_changes(recipe: Recipe, run: RunFolder) -> list[str]:
    """What the recipe changes for a run, such as "seed = 5, which was 0"."""
    before, now = (
        flattened(with_base(part.model_dump(mode="json"), PATH_KEYS, Path())) for part in (run.read_recipe(), recipe)
    )
    return [
        f"{key} = {now.get(key)}, which was {before.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
