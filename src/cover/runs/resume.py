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
from cover.models.loading import check_sizes
from cover.models.weights import load_exactly, read_config, read_tensors
from cover.runs.data import RecipeData
from cover.runs.folder import RunFolder
from cover.training.checkpoint import TrainingState, read_training
from cover.training.optimizer import learning_rate
from cover.training.projections import is_projection_of


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
    if not folders and resume:
        missing = f"no checkpoint in {run.path} yet" if run.is_run else f"no run at {run.path}"
        console.print(f"{missing}; starting a new one", soft_wrap=True, highlight=False, markup=False)
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
    tensors = with_rows(with_heads_of(model.config, tensors), rows, model.state_dict())
    tensors = without_projections(tensors, rows)
    return Start(model, state, tensors, is_resumed=True)


def resumed_state(state: TrainingState, fresh: TrainingState, allow_changed_data: bool) -> TrainingState:
    """The state to continue from.

    If data have changed, the mixture starts a new epoch. If the number of clips or steps in an epoch has changed, the
    run continues at the epoch, and in an unchanged mixture at the clip, where it was.

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
        raise CheckpointError(_changed_data(changed, state.digests, digests))
    if changed:
        state.mixture_start, state.mixture_offset = state.step, 0
    elif state.batch_size:
        num_steps = state.step - state.mixture_start
        state.mixture_offset += num_steps * (state.batch_size - fresh.batch_size)
    if state.steps_per_epoch not in (0, fresh.steps_per_epoch):
        completed = state.step / state.steps_per_epoch + state.epoch_offset
        state.epoch_offset = completed - state.step / fresh.steps_per_epoch
    state.digests, state.batch_size, state.steps_per_epoch = digests, fresh.batch_size, fresh.steps_per_epoch
    if state.best_by != fresh.best_by:
        state.best_by = fresh.best_by
        forget_best(state)
    return state


def check_adapters(before: Recipe, recipe: Recipe) -> None:
    """Raise CheckpointError if adapters of LoRA that have learned would mean another product of matrices."""
    was, now = before.optimizer.lora, recipe.optimizer.lora
    if was and now and (was.rank, was.alpha) != (now.rank, now.alpha):
        raise CheckpointError(
            f"optimizer.lora has rank {now.rank} and alpha {now.alpha:g}, but the adapters of this run have rank "
            f"{was.rank} and alpha {was.alpha:g}; resume with these, or start a new run with init"
        )


def _changed_data(changed: list[str], before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What to say about datasets whose training samples are not those of the run."""
    added = [name for name in changed if name not in before]
    removed = [name for name in changed if name not in now]
    if added or removed:
        parts = [f"adds {', '.join(added)}"] * bool(added) + [f"lacks {', '.join(removed)}"] * bool(removed)
        return (
            f"the recipe {' and '.join(parts)}, compared with this run; restore the datasets, or pass "
            "--allow-changed-data to continue with the new ones"
        )
    return (
        f"the training samples of {', '.join(changed)} are not those this run began with; restore the manifest and "
        "data.exclude, or pass --allow-changed-data to continue with the new ones"
    )


def forget_best(state: TrainingState) -> None:
    """Let the next validation be the best one so far."""
    state.best_score, state.num_without_better = None, 0


def restore_model(model: VideoClassifier, checkpoint: Path, console: Console | None) -> dict[str, HeadRows]:
    """Put the weights of a checkpoint into a model. Returns the heads whose classes changed.

    Heads of datasets that the checkpoint has not keep their weights.
    """
    saved, config = read_config(checkpoint), model.config
    if saved.family != config.family:
        raise CheckpointError(
            f"{checkpoint} has weights of {saved.family}, and model.family is {config.family}; set it to {saved.family}"
        )
    check_sizes(str(checkpoint), saved, config, config.adopted)
    rows = changed_heads(saved, model.config)
    model.normalise_as(saved)
    fresh = model.state_dict()
    tensors = with_rows(with_heads_of(model.config, read_tensors(checkpoint)), rows, fresh)
    added = {name: tensor for name, tensor in fresh.items() if head_of(name) and head_of(name) not in saved.heads}
    load_exactly(model, tensors | added, checkpoint)
    if console:
        for name in sorted(model.config.heads.keys() ^ saved.heads.keys()):
            what = "starts anew" if name in model.config.heads else "is left out"
            console.print(f"head {name} {what}", markup=False, highlight=False)
        for name, found in rows.items():
            console.print(f"head {name} has other classes than before; {found}", markup=False, highlight=False)
    return rows


def with_heads_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what belongs to heads that a model has not. Arguments as in `with_rows`."""
    heads = {key: head_of(key.rpartition("/")[2]) for key in tensors}
    return {key: tensor for key, tensor in tensors.items() if not heads[key] or heads[key] in config.heads}


def without_projections(tensors: Mapping[str, Tensor], rows: Mapping[str, HeadRows]) -> dict[str, Tensor]:
    """Leave out projections of heads whose classes have changed; they start anew. Arguments as in `with_rows`."""
    return {
        key: tensor
        for key, tensor in tensors.items()
        if not any(is_projection_of(key.rpartition("/")[2], name) for name in rows)
    }


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


def rate_jump(before: Recipe, recipe: Recipe, state: TrainingState) -> str:
    """Say that a resumed run has another learning rate than it had, unless the peak alone has changed; "" if not.

    Args:
        before: The recipe so far.
        recipe: The recipe from now on.
        state: Where the run is.
    """
    last_step = state.step + state.epoch_offset * state.steps_per_epoch - 1
    was, now = (
        learning_rate(
            one.optimizer.model_copy(update={"learning_rate": 1.0}),
            last_step,
            steps_per_epoch=state.steps_per_epoch,
            num_epochs=one.training.epochs,
        )
        for one in (before, recipe)
    )
    if 0.8 * was <= now <= 1.25 * was:
        return ""
    return (
        f"the learning rate continues at {now:.2g} of its peak, where it had come to {was:.2g}, because the schedule "
        "has changed; if that is not meant, train on in a new run, with init and a lower optimizer.learning_rate"
    )


def recipe_changes(before: Recipe, recipe: Recipe) -> list[str]:
    """What the recipe changes for a run, such as "seed = 5, which was 0"."""
    was, now = (
        flattened(with_base(part.without_repeats().model_dump(mode="json"), PATH_KEYS, Path()))
        for part in (before, recipe)
    )
    return [
        f"{key} = {now.get(key)}, which was {was.get(key)}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    ]
