"""Checkpoints of a run: written under another name, synced to disk and renamed, so every checkpoint is complete.

RUN/latest                          name of the newest checkpoint
RUN/best                            name of the one with the best validation
RUN/checkpoints/step-1200/
    model.safetensors, config.json  the model: what evaluate and predict read
    training.safetensors            what else training needs to continue (Engine.training_tensors, running totals)
    state.json                      the rest: step, mixture, scores; and a digest of each file
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cover.config.layers import reason_of
from cover.config.training_sections import BestSection
from cover.core.run_files import BEST, LATEST, TRAINING_FILE, RunFiles
from cover.errors import CheckpointError, system_reason
from cover.models.checkpoints.integrity import read_state, write_state
from cover.models.config import ModelConfig
from cover.models.weights import save_tensors, save_weights

Steps = Annotated[int, Field(ge=0)]


@dataclass
class TrainingState:
    """Where a run is, without tensors.

    Attributes:
        step: Completed steps.
        optimizer: Its name in the recipe.
        mixture_start: The step at which the present mixture began; above 0 only if the run's data have changed.
        mixture_offset: Clips of the present mixture that were read, less those that as many steps of the present
            batch_size take; not 0 only if batch_size has changed.
        batch_size: Clips in a step.
        steps_per_epoch: 0 in checkpoints of older versions, which do not have it.
        epoch_offset: Completed epochs, less step / steps_per_epoch; not 0 only if an epoch has had another number of
            steps before.
        digests: Of each dataset's training manifest.
        fresh: Tensors of the backbone that `init` had not. None in checkpoints of older versions.
        best_by: By what validations are compared: training.best of the recipe, in words.
        best_score: The highest score so far (`scores.best_score`); None before the first validation.
        num_without_better: Validations since then.
        seconds: Wall time so far, validation included.
        grad_scaler: State of the loss scaling of fp16.
    """

    step: Steps = 0
    optimizer: str = ""
    mixture_start: Steps = 0
    mixture_offset: int = 0
    batch_size: Steps = 0
    steps_per_epoch: float = 0.0
    epoch_offset: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] | None = None
    best_by: str = str(BestSection())
    best_score: float | None = None
    num_without_better: Steps = 0
    seconds: float = 0.0
    grad_scaler: dict[str, Any] = field(default_factory=dict)

    def is_over(self, num_steps: int, early_stopping: int | None) -> bool:
        """Whether nothing is left to train, after so many steps, or validations without a better one."""
        return self.step >= num_steps or (early_stopping is not None and self.num_without_better >= early_stopping)


class CheckpointWriter:
    """Writes checkpoints in a background thread, one at a time.

    Args:
        run: Where they go. Unfinished ones of a killed process are deleted.
        keep: How many of the newest checkpoints to keep; the best one is kept, too.
    """

    def __init__(self, run: RunFiles, keep: int) -> None:
        self.run = run
        self.keep = keep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        for unfinished in run.unfinished_checkpoints():
            shutil.rmtree(unfinished)

    def save(
        self,
        config: ModelConfig,
        weights: dict[str, Tensor],
        training: dict[str, Tensor],
        state: TrainingState,
        *,
        best: bool,
    ) -> None:
        """Start to write checkpoint step-N, after the previous one is finished.

        Args:
            config: Of the model.
            weights: By name, on the host. Nobody may change them any more.
            training: Other tensors, likewise.
            state: It is copied.
            best: Whether it has the best validation so far.

        Raises:
            CheckpointError: The previous checkpoint could not be written.
        """
        self.wait()
        values = asdict(state)
        self._writing = self._thread.submit(self._write, config, weights, training, values, best)

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk. Raises CheckpointError if it could not be written."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"a checkpoint cannot be written to {self.run.path} ({system_reason(error)}); then continue from the "
                "last complete checkpoint with --resume"
            ) from error

    def _write(
        self,
        config: ModelConfig,
        weights: dict[str, Tensor],
        training: dict[str, Tensor],
        state: dict[str, Any],
        best: bool,
    ) -> None:
        folder, aside = self.run.checkpoint(state["step"]), self.run.unfinished_checkpoint(state["step"])
        try:
            save_weights(config, weights, aside)
            save_tensors(training, aside / TRAINING_FILE)
            write_state(aside, state)
            for path in (*aside.iterdir(), aside):
                _sync(path)
            _remove(folder)  # a damaged one, or it would have been resumed from
            aside.rename(folder)
            _sync(folder.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        for pointer in (LATEST, BEST) if best else (LATEST,):
            _point(self.run, pointer, folder)
        self._prune()

    def _prune(self) -> None:
        """Delete all but the newest checkpoints and those that the pointers name."""
        pointers = [file for file in map(self.run.pointer_file, (LATEST, BEST)) if file.exists()]
        named = {file.read_text().strip() for file in pointers}
        for folder in self.run.checkpoints()[self.keep :]:
            if folder.name not in named:
                _remove(folder)


def read_training(folder: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    """Read the state and the training tensors of a checkpoint. Raises CheckpointError if they cannot be read."""
    try:
        values = read_state(folder)
        for key in ("files", "sizes_bytes"):
            values.pop(key, None)
        if (top1 := values.pop("best_top1", None)) not in (None, -1):  # of older versions; −1 before any validation
            values["best_score"] = top1
        if unknown := values.keys() - {known.name for known in fields(TrainingState)}:
            raise ValueError(f"unknown key {min(unknown)!r}: another version of cover wrote it")
        # JSON mode is strict about numbers and strings, but accepts a table for a TrainingState.
        state = TypeAdapter(TrainingState).validate_json(json.dumps(values, allow_nan=False), strict=True)
        return state, load_file(folder / TRAINING_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} cannot be resumed ({reason_of(error)}); start again without --resume"
        ) from None


def _remove(folder: Path) -> None:
    """Delete a checkpoint. If it is a link to a folder elsewhere, delete only the link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _point(run: RunFiles, pointer: str, checkpoint: Path) -> None:
    """Make RUN/latest or RUN/best name a checkpoint."""
    file = run.pointer_file(pointer)
    aside = file.with_name(f".{pointer}.part")
    aside.write_text(checkpoint.name + "\n")
    _sync(aside)
    aside.replace(file)
    _sync(run.path)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
