"""The files of a run: the one place that knows their names, and which checkpoint stands for a run.

    RUN/recipe.toml                  the resolved recipe: every default is written out, paths are relative to RUN
    RUN/manifests.json               path, digest and size of each manifest when training started
    RUN/train.lock                   while training: which process holds the folder
    RUN/mixture.json                 the table that is printed at start, a row a dataset
    RUN/metrics.jsonl                a line every log_every steps, and one a validation
    RUN/tensorboard/                 the same numbers as TensorBoard events
    RUN/latest, RUN/best             names of the newest checkpoint, and of the one with the best validation
    RUN/checkpoints/step-1200/
        config.json                  architecture, heads with class names, input format
        model.safetensors            the weights that users of the model get
        training.safetensors         what else training needs to continue
        state.json                   step, scores, digests of the other files
    RUN/evaluation/*.json            a file an evaluation
    RUN/../.features/                features of frozen backbones, shared by the runs that lie side by side

It is in `core` because every stage touches a run: models start from one, training writes it, reports read it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cover.core.text_files import read_text
from cover.errors import CheckpointError

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
"""A model: of a checkpoint, or of an export, which has no other files of a run."""
TRAINING_FILE, STATE_FILE = "training.safetensors", "state.json"
LATEST, BEST = "latest", "best"
"""Files that name the newest checkpoint, and the one with the highest mean validation top-1."""
CHECKPOINTS, STEP = "checkpoints", "step-"
FEATURES = ".features"
"""Hidden, so that `runs/*` names only runs."""

_CHECKPOINT_NAME = re.compile(rf"{STEP}(0|[1-9][0-9]{{0,17}})")
_MAX_POINTER_BYTES = 1024


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a run lie.

    Args:
        path: The run folder.
    """

    path: Path

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> Self:
        """The run of a checkpoint, going by the checkpoint's path; `has_checkpoint` says whether it is one."""
        return cls(checkpoint.parent.parent)

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def manifests_file(self) -> Path:
        return self.path / "manifests.json"

    @property
    def lock_file(self) -> Path:
        return self.path / "train.lock"

    @property
    def mixture_file(self) -> Path:
        return self.path / "mixture.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def events_folder(self) -> Path:
        return self.path / "tensorboard"

    @property
    def results_folder(self) -> Path:
        return self.path / "evaluation"

    @property
    def features_folder(self) -> Path:
        """Beside the runs."""
        return self.path.parent / FEATURES

    @property
    def is_run(self) -> bool:
        """Whether training has begun in the folder."""
        return self.recipe_file.exists()

    def pointer_file(self, pointer: str) -> Path:
        """The file that names the LATEST or the BEST checkpoint."""
        return self.path / pointer

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint, whether it exists or not."""
        return self.path / CHECKPOINTS / f"{STEP}{step}"

    def checkpoints(self) -> list[Path]:
        """The checkpoint folders, newest first, damaged ones included. Copies under other names do not count."""
        found = [
            folder
            for folder in self.path.glob(f"{CHECKPOINTS}/{STEP}*")
            if _CHECKPOINT_NAME.fullmatch(folder.name) and folder.is_dir()
        ]
        return sorted(found, key=lambda folder: -int(folder.name.removeprefix(STEP)))

    def pointers_to(self, checkpoint: Path) -> list[str]:
        """Which of BEST and LATEST name a checkpoint."""
        files = {pointer: self.pointer_file(pointer) for pointer in (BEST, LATEST)}
        return [name for name, file in files.items() if file.is_file() and file.read_text().strip() == checkpoint.name]

    def unfinished_checkpoint(self, step: int) -> Path:
        """Where a checkpoint is written before it gets its name."""
        return self.path / CHECKPOINTS / f".{STEP}{step}.part"

    def unfinished_checkpoints(self) -> list[Path]:
        """What a killed process left behind."""
        return list(self.path.glob(f"{CHECKPOINTS}/.*.part"))

    def has_checkpoint(self, folder: Path) -> bool:
        """Whether a folder lies where this run has its checkpoints."""
        return folder.parent == self.path / CHECKPOINTS


def find_checkpoint(path: Path, pointer: str = BEST) -> Path:
    """Find the checkpoint that a path stands for.

    Args:
        path: A run, or a checkpoint or exported model, which stands for itself.
        pointer: Which checkpoint of a run to take, BEST or LATEST. LATEST stands in for a missing BEST.

    Raises:
        CheckpointError: There is none, or the pointer does not name a checkpoint of the run.
    """
    if os.path.lexists(path / CONFIG_FILE):
        return path
    for candidate in (pointer, LATEST):
        if os.path.lexists(path / candidate):
            return path / CHECKPOINTS / _read_pointer(path, candidate)
    raise CheckpointError(f"{path} holds no checkpoint; give the folder of a run that `cover train` has written")


def _read_pointer(run: Path, pointer: str) -> str:
    """The name of a folder in RUN/checkpoints, and nowhere else."""
    try:
        name = read_text(run / pointer, max_bytes=_MAX_POINTER_BYTES).strip()
        if name == ".." or Path(name).name != name or not (run / CHECKPOINTS / name / CONFIG_FILE).is_file():
            raise ValueError(f"{name[:50]!r} is no checkpoint in {run / CHECKPOINTS}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{run / pointer} does not name a checkpoint ({reason}); write the name of one into it, such as step-100"
        ) from None
    return name
