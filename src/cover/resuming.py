"""A run that goes on: from which checkpoint, with which state, and what is other than before."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from cover.errors import CheckpointError
from cover.models.integrity import damage
from cover.recipe import PATH_KEYS, Recipe
from cover.run_folder import RunFolder
from cover.sections import flattened, with_base
from cover.training.checkpoint import TrainingState, checkpoints


def starting_point(run: Path, resume: bool, console: Console) -> Path | None:
    """The newest whole checkpoint of a run that continues; None for a run that begins. Damaged ones are named.

    Raises:
        CheckpointError: There is a run already and it is not to be resumed, or all of its checkpoints are damaged.
    """
    folders = checkpoints(run)
    if folders and not resume:
        raise CheckpointError(f"{run} holds a run already; continue it with --resume or choose another --out")
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
        raise CheckpointError(f"{run} has no whole checkpoint to resume from; remove it, or choose another --out")
    return None


def resumed_state(state: TrainingState, fresh: TrainingState, allow_changed_data: bool) -> TrainingState:
    """The state to go on from.

    state: as saved. fresh: as the recipe would begin. Raises CheckpointError for another optimizer, and naming a
    dataset whose samples are not those of before, unless that is allowed; the mixture starts a new epoch then.
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
            "data.exclude, or pass --allow-changed-data to go on with the new ones"
        )
    if changed:
        state.mixture_start = state.step
    state.digests = digests
    return state


def recipe_changes(recipe: Recipe, run: Path) -> list[str]:
    """What the recipe says that a run was not trained with so far, such as "seed = 5, which was 0"."""
    before, now = (
        flattened(with_base(part.model_dump(mode="json"), PATH_KEYS, Path()))
        for part in (RunFolder(run).read_recipe(), recipe)
    )
    return [
        f"{key} = {now.get(key)}, which was {before.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
