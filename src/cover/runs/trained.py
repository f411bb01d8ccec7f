"""A trained run: its model, its recipe and its data. And `open_model`, which opens a run or any other model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cover.config.data_sections import DatasetSection
from cover.config.recipe import Recipe
from cover.config.training_sections import EvaluationSection, TrainingSection
from cover.datasets.manifest import Manifest, Moves
from cover.errors import CheckpointError
from cover.evaluation.evaluate import ALONE, Processes, evaluation_key
from cover.evaluation.sample_views import FrameOrder
from cover.inference.views import Views
from cover.media.reader import ClipReader
from cover.models.linear import freeze_weights, use_float8
from cover.models.opening import load_model
from cover.models.sources import locate, open_source, split_key
from cover.runs.adapters import evaluation_reader
from cover.runs.data import window_of
from cover.runs.folder import SPLITS, RunFolder, run_of_checkpoint
from cover.runs.model import OpenModel

logger = logging.getLogger(__name__)


@contextmanager
def evaluation_processes(source: str | Path) -> Iterator[Processes]:
    """The processes that torchrun started together with this one, or this one alone, while the block runs.

    Args:
        source: The model to evaluate; its precision is compared with that of launchers.

    Raises:
        CoverError: Variables of the launcher are incomplete, or the processes do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield ALONE
        return
    from accelerate.utils import gather_object  # takes time to load, which one process does without

    from cover.training.launch import start_processes

    run = run_of_checkpoint(locate(split_key(source)[0]))
    state = start_processes(run.read_recipe().training.precision if run else TrainingSection().precision)
    try:
        yield Processes(state.process_index, state.num_processes, gather_object)
        state.wait_for_everyone()
    finally:
        state.destroy_process_group()


@dataclass(frozen=True)
class TrainedRun(OpenModel):
    """A run with the model of one of its checkpoints, ready on a device.

    Attributes:
        files: The run folder.
        recipe: Of the run.
    """

    files: RunFolder
    recipe: Recipe

    @classmethod
    def open(cls, path: str | Path, **options: Any) -> TrainedRun:
        """Open a run; see `open_model`.

        Raises:
            CheckpointError: It is not a run, or damaged.
            CoverError: The model takes no clips of that length or size.
        """
        opened = open_model(path, **options)
        if not isinstance(opened, cls):
            raise CheckpointError(
                f"{path} is a model without a recipe, not a run; give a folder that `cover train` has written"
            )
        return opened

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.files.path

    @property
    def evaluation(self) -> EvaluationSection:
        """See OpenModel."""
        return self.recipe.evaluation

    @property
    def num_workers(self) -> int:
        """See OpenModel."""
        return self.recipe.num_workers

    @property
    def precision(self) -> str:
        """See OpenModel."""
        return self.recipe.training.precision

    @property
    def features_folder(self) -> Path:
        """Where features of manifests are kept: beside the run, where linear probes find them."""
        return self.files.features_folder

    @property
    def results_folder(self) -> Path:
        """See OpenModel."""
        return self.files.results_folder

    def window_seconds(self, heads: Sequence[str] = ()) -> float:
        """See OpenModel. Only datasets that were trained on windows of a length in seconds have such clips."""
        named = [name for name in heads or self.recipe.datasets if name in self.recipe.datasets]
        rules = [self.recipe.clips(name).sampling for name in named]
        lengths = [rule["window_seconds"] for rule in rules if rule != "uniform" and "window_seconds" in rule]
        return float(max(lengths, default=super().window_seconds(heads)))

    @property
    def datasets(self) -> Mapping[str, DatasetSection]:
        """See OpenModel."""
        return self.recipe.datasets

    def splits(self, dataset: str) -> list[str]:
        """The splits of a dataset that the recipe names. Raises CheckpointError for an unknown dataset."""
        if dataset not in self.recipe.datasets:
            heads = ", ".join(self.recipe.datasets)
            raise CheckpointError(f"{self.folder} has no dataset {dataset!r}; its datasets are {heads}")
        return [split for split in SPLITS if getattr(self.recipe.datasets[dataset], split)]

    def manifest(self, dataset: str, split: str) -> Manifest:
        """Open the manifest of a dataset's split.

        Raises:
            CheckpointError: The recipe names none, it is missing, or its samples are not those of training.
        """
        if split not in self.splits(dataset):
            raise CheckpointError(f"{self.folder} has no {split} manifest {self._choose_another([dataset])}")
        if (owner := self.recipe.head_of(dataset)) != dataset:
            raise CheckpointError(f"{dataset} has the head of {owner} (head_of), and none to evaluate; choose {owner}")
        manifest = self.files.open_manifest(self.recipe, dataset, split)
        if manifest.class_names != self.model.config.heads[dataset]:
            raise CheckpointError(
                f"{manifest.path} has other classes than the head {dataset} of {self.checkpoint}; index it as in "
                "training"
            )
        return manifest

    def manifests(self, split: str | None, datasets: Sequence[str] = ()) -> dict[str, Manifest]:
        """Open the manifests of a split. Datasets without one are skipped and named in the log.

        Args:
            split: "train", "val" or "test". None: test, or val of datasets that have no test; the log names these.
            datasets: All of the recipe if empty.

        Raises:
            CheckpointError: A dataset is unknown, or none of them has the split.
        """
        wanted = [split] if split else ["test", "val"]
        splits = {name: self.splits(name) for name in datasets or self.recipe.with_heads}

        def has(name: str, each: str) -> bool:  # a recipe may name a test manifest that is written later
            return each in splits[name] and (each == split or not self.files.never_had(self.recipe, name, each))

        chosen = {name: next((each for each in wanted if has(name, each)), None) for name in splits}
        if not any(chosen.values()):
            raise CheckpointError(f"{self.folder} has no {' or '.join(wanted)} manifest {self._choose_another(splits)}")
        for name, found in chosen.items():
            if found is None:
                have, missing = ", ".join(splits[name]), " or ".join(wanted)
                logger.warning("%s is left out: it has no %s manifest, only %s", name, missing, have)
            elif found != wanted[0]:
                logger.warning("%s has no %s manifest; its %s split is evaluated", name, wanted[0], found)
        return {name: self.manifest(name, found) for name, found in chosen.items() if found}

    def _choose_another(self, datasets: Iterable[str]) -> str:
        have = "; ".join(f"{name} has {', '.join(self.splits(name))}" for name in datasets)
        return f"({have}); choose another --split, or name one in its {self.files.recipe_file.name}"

    def has_result(self, dataset: str, manifest: Manifest, order: FrameOrder) -> bool:
        """Whether there is a result of this checkpoint on these samples, in that order, with the recipe's views."""
        views = self.recipe.evaluation
        key = evaluation_key(
            self.reader(dataset, manifest),
            name=dataset,
            num_clips=views.num_clips,
            num_crops=views.num_crops,
            order=order,
            checkpoint=self.checkpoint.name,
        )
        return (self.files.results_folder / key.file_name).exists()

    def views(self, head: str, num_clips: int = 1, num_crops: int = 1) -> Views:
        """See OpenModel. Clips have the length and sampling of the dataset of that name."""
        views = super().views(head, num_clips, num_crops)
        if head not in self.recipe.datasets:
            return views
        return replace(views, num_frames=self.recipe.num_frames(head), window=window_of(self.recipe.clips(head)))

    def evaluation_reader(self, dataset: str, manifest: Manifest, num_clips: int) -> ClipReader:
        """See OpenModel. Frames are kept as the recipe says, if its cache folder exists here."""
        folder = self.recipe.data.cache_folder
        if folder is not None and os.access(folder, os.W_OK):
            return evaluation_reader(self.recipe, manifest, dataset, num_clips=num_clips)
        return self.reader(dataset, manifest)


def open_model(
    source: str | Path,
    *,
    moves: Moves | None = None,
    allow_changed_data: bool = False,
    num_frames: int | None = None,
    image_size: int | None = None,
) -> OpenModel:
    """Open a model to use it, on a GPU if there is one, else on the CPU.

    >>> model = open_model("runs/cotrain")  # doctest: +SKIP
    >>> predictions = cover.predict(model, ["clip.mp4"])  # doctest: +SKIP

    Args:
        source: As for `load_model`: a run or one of its checkpoints, any other file or folder with a model, or a
            repository of the Hugging Face hub.
        moves: Old folder → new folder, for data of a run that have moved since training.
        allow_changed_data: Accept manifests with other samples than those that a run was trained on.
        num_frames: Frames of a clip, if other than in training.
        image_size: Side of a frame in pixels, if other than in training.

    Returns:
        The model, which `predict`, `timeline` and `watch` take. A checkpoint inside its run is a `TrainedRun`, with
        the recipe's views and manifests.

    Raises:
        CheckpointError: There is no model, or it is damaged.
        CoverError: The model takes no clips of that length or size.
    """
    opened = open_source(source)
    model = load_model(opened, num_frames=num_frames, image_size=image_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logger.info("%s is opened on %s", opened.path, device)
    run, checkpoint = run_of_checkpoint(opened.path), opened.path
    found = OpenModel(checkpoint, model.to(device), device)
    if run is not None:
        run = replace(run, moves=moves or {}, allow_changed_data=allow_changed_data)
        recipe = _for_clips(run.read_recipe(), num_frames, image_size)
        found = TrainedRun(checkpoint, found.model, device, run, recipe)
    if found.mixed_precision == "fp8":
        use_float8(model)
    freeze_weights(model)
    return found


def _for_clips(recipe: Recipe, num_frames: int | None, image_size: int | None) -> Recipe:
    """The recipe for clips of another length or size."""
    sizes = {"num_frames": num_frames, "image_size": image_size}
    sizes = {name: size for name, size in sizes.items() if size}
    changes: dict[str, Any] = {"model": recipe.model.model_copy(update=sizes)}
    if num_frames:
        own = {"num_frames": num_frames}
        changes["datasets"] = {name: section.model_copy(update=own) for name, section in recipe.datasets.items()}
    return recipe.model_copy(update=changes)
