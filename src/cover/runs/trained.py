"""What is done with a trained run: open it, evaluate it, show samples of its work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.atomic_files import write_whole
from cover.core.run_files import find_checkpoint
from cover.datasets.manifest import Manifest, Moves
from cover.errors import CheckpointError
from cover.evaluation.comparison import compare
from cover.evaluation.evaluate import Predict, evaluate_dataset, evaluation_key
from cover.evaluation.result import DatasetResult
from cover.evaluation.run_pair import RunPair
from cover.evaluation.sample_views import FrameOrder
from cover.inference.explain import Explanation, FileClip, explain_clip, label_of, read_file_clip
from cover.media.reader import ClipReader
from cover.media.workers import workers_watched
from cover.models.classifier import VideoClassifier, load_model
from cover.models.linear import freeze_weights
from cover.reports.cards import Strip, frames_of, sample_strips
from cover.reports.comparison_json import comparison_json
from cover.reports.tables import print_comparison
from cover.runs.adapters import evaluation_reader, on_cpu, predictor, reader_for
from cover.runs.folder import SPLITS, RunFolder
from cover.runs.record import read_run_records

logger = logging.getLogger(__name__)

NUM_STRIPS = 3
"""Sample clips of each dataset in a comparison."""


@dataclass(frozen=True)
class TrainedRun:
    """A run with the model of its best checkpoint, ready on a device."""

    files: RunFolder
    checkpoint: Path
    recipe: Recipe
    model: VideoClassifier
    device: torch.device

    @classmethod
    def open(cls, path: Path, *, moves: Moves | None = None, allow_changed_data: bool = False) -> TrainedRun:
        """Open a run on a GPU where there is one, on the CPU elsewhere.

        Args:
            path: A run, or one of its checkpoints.
            moves: Old folder → new folder, for data that have moved since training.
            allow_changed_data: Accept manifests with other samples than those that the run was trained with.

        Raises:
            CheckpointError: There is no run, or it is damaged.
        """
        checkpoint = find_checkpoint(path)
        files = replace(RunFolder.of_checkpoint(checkpoint), moves=moves or {}, allow_changed_data=allow_changed_data)
        if not files.is_run:
            raise CheckpointError(
                f"{path} is not a run: {files.recipe_file} is missing; give a folder that `cover train` has written"
            )
        recipe = files.read_recipe()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(checkpoint).to(device)
        freeze_weights(model)
        return cls(files, checkpoint, recipe, model, device)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.files.path

    def splits(self, dataset: str) -> list[str]:
        """The splits of a dataset that the recipe names. Raises CheckpointError for an unknown dataset."""
        if dataset not in self.recipe.datasets:
            heads = ", ".join(self.recipe.datasets)
            raise CheckpointError(f"{self.folder} has no dataset {dataset!r}; its datasets are {heads}")
        return [split for split in SPLITS if getattr(self.recipe.datasets[dataset], split)]

    def manifest(self, dataset: str, split: str) -> Manifest:
        """Open the manifest of a dataset's split.

        Raises:
            CheckpointError: The recipe names none, it is missing, or it is not the one of the time of training.
        """
        if split not in self.splits(dataset):
            raise CheckpointError(f"{self.folder} has no {split} manifest {self._choose_another([dataset])}")
        manifest = self.files.open_manifest(self.recipe, dataset, split)
        if manifest.class_names != self.model.config.heads[dataset]:
            raise CheckpointError(
                f"{manifest.path} has other classes than the head {dataset} of {self.checkpoint}; index it as in "
                "training"
            )
        return manifest

    def manifests(self, split: str, datasets: Sequence[str] = ()) -> dict[str, Manifest]:
        """The manifests of a split, of `datasets` or of all. Datasets without one are left out and named in the log.

        Raises CheckpointError for an unknown dataset, and where none of them has the split.
        """
        splits = {name: self.splits(name) for name in datasets or self.recipe.datasets}
        present = [name for name in splits if split in splits[name]]
        if not present:
            raise CheckpointError(f"{self.folder} has no {split} manifest {self._choose_another(splits)}")
        for name in splits:
            if name not in present:
                logger.warning("%s is left out: it has no %s manifest, only %s", name, split, ", ".join(splits[name]))
        return {name: self.manifest(name, split) for name in present}

    def _choose_another(self, datasets: Iterable[str]) -> str:
        have = "; ".join(f"{name} has {', '.join(self.splits(name))}" for name in datasets)
        return f"({have}); choose another --split, or name one in its {self.files.recipe_file.name}"

    def evaluate(
        self,
        dataset: str,
        manifest: Manifest,
        order: FrameOrder,
        *,
        num_clips: int | None = None,
        num_crops: int | None = None,
    ) -> DatasetResult:
        """Score the dataset's head on a manifest and write the result into the run folder.

        Keeps frames in the recipe's `data.cache_folder`, if that is there; it need not be where a run was copied to.
        Raises RecipeError for too many views.
        """
        views, folder = self.recipe.evaluation, self.recipe.data.cache_folder
        num_clips, num_crops = views.views(num_clips, num_crops)
        if folder is not None and os.access(folder, os.W_OK):
            reader = evaluation_reader(self.recipe, manifest, dataset, num_clips=num_clips)
        else:
            reader = self.reader(dataset, manifest)
        with workers_watched("then evaluate again"):
            result = evaluate_dataset(
                self.predict_datasets,
                reader,
                name=dataset,
                order=order,
                num_clips=num_clips,
                num_crops=num_crops,
                batch_size=views.batch_size,
                num_workers=self.recipe.num_workers,
                reversal_pairs=self.recipe.datasets[dataset].reversal_pairs,
                checkpoint=self.checkpoint.name,
            )
        result.save(self.files.results_folder)
        return result

    def has_result(self, dataset: str, manifest: Manifest, order: FrameOrder) -> bool:
        """Whether this checkpoint was evaluated on these very samples in that order, with the recipe's views."""
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

    def class_names(self, heads: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
        """Of each of `heads`, or of every head, in label order. Raises CheckpointError for an unknown head."""
        known = self.model.config.heads
        for head in heads:
            if head not in known:
                raise CheckpointError(f"{self.folder} has no head {head!r}; its heads are {', '.join(known)}")
        return {head: known[head] for head in heads or known}

    def explain(self, file: Path | FileClip, head: str | None = None, class_name: str | None = None) -> Explanation:
        """What spoke for a class of a head in a video or image, a file or decoded already; the most probable class by
        default.

        head: may be left out where there is but one. Computes in float32.
        Raises CoverError for a head or class that is not there, and DecodeError.
        """
        heads, config = self.class_names([head] if head else []), self.model.config
        if len(heads) > 1:
            raise CheckpointError(f"no head is named, and one is explained; give --head, one of {', '.join(heads)}")
        ((head, class_names),) = heads.items()
        label = None if class_name is None else label_of(class_name, class_names, head)
        if isinstance(file, Path):
            file = read_file_clip(file, num_frames=config.num_frames, crop_px=config.image_size_px)
        return explain_clip(
            lambda frames: self.predict_heads(frames)[head],
            lambda frames, label: self.model.attribute(frames.to(self.device), head, label),
            file,
            head=head,
            class_names=class_names,
            label=label,
        )

    def strips(self, split: str, num_samples: int) -> list[Strip]:
        """A few clips of each dataset that has the split, with what the model says about them."""
        return [
            strip
            for name, section in self.recipe.datasets.items()
            if getattr(section, split)
            for strip in sample_strips(
                self.predict_datasets, self.reader(name, self.manifest(name, split)), name, num_samples, seed=0
            )
        ]

    def example_frames(self, pair: RunPair) -> dict[str, NDArray[np.uint8]]:
        """uint8 [T,Y,X,3] of the samples to look at that this run and another one disagree on, by sample id."""
        wanted = {sample.sample_id for sample in (*pair.helped_examples, *pair.hurt_examples)}
        return frames_of(self.reader(pair.dataset, self.manifest(pair.dataset, pair.split)), wanted)

    def reader(self, dataset: str, manifest: Manifest) -> ClipReader:
        """Clips of a manifest in the format of this run's model."""
        return reader_for(self.recipe, manifest, dataset)

    @property
    def predict_datasets(self) -> Predict:
        """{dataset: frames [T,B,C,Y,X]} → {dataset: logits}: each dataset's clips through its own head."""
        return predictor(self.model, self.device, self._autocast)

    def predict_heads(self, frames: Tensor) -> dict[str, Tensor]:
        """Logits of every head on the same uint8 clips [T,B,C,Y,X]."""
        with torch.inference_mode(), self._autocast():
            return on_cpu(self.model.predict(frames.to(self.device)))

    def embed(self, frames: Tensor) -> Tensor:
        """Features float32 [B,D] of uint8 clips [T,B,C,Y,X], both on the CPU: what the heads read."""
        with torch.inference_mode(), self._autocast():
            return self.model.features(frames.to(self.device)).float().cpu()

    @property
    def mixed_precision(self) -> str:
        """What the model computes in, in accelerate's words: "bf16", "fp16", or "no" for float32."""
        precision = self.recipe.training.precision
        return precision if precision != "fp32" and self.device.type == "cuda" else "no"

    def _autocast(self) -> AbstractContextManager[None]:
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision)
        return torch.autocast("cuda", half) if half else nullcontext()


def compare_runs(
    runs: Sequence[Path],
    out: Path,
    console: Console,
    *,
    stages: Mapping[str, float] | None = None,
    json_out: Path | None = None,
    moves: Moves | None = None,
    allow_changed_data: bool = False,
) -> None:
    """Write the page that compares runs, with clips of their splits, and print its tables.

    Args:
        runs: Runs, or single checkpoints of theirs.
        out: The page.
        console: Where the tables are printed.
        stages: Wall time in seconds of what led here, by name.
        json_out: Where to write the same as JSON.
        moves, allow_changed_data: As in `TrainedRun.open`.
    """
    from cover.reports.html_report import write_report  # loads matplotlib, which nothing else here needs

    comparison = compare(read_run_records(runs))
    if not comparison.policy_rows:
        which = "none of these runs has" if len(comparison.records) > 1 else f"{runs[0]} has no"
        raise CheckpointError(f"{which} results in normal frame order; `cover evaluate` writes them")
    strips: dict[str, list[Strip]] = {}
    frames: dict[str, dict[str, NDArray[np.uint8]]] = {row.dataset: {} for row in comparison.policy_rows}
    for record in comparison.records:
        run = TrainedRun.open(record.path, moves=moves, allow_changed_data=allow_changed_data)
        strips[record.name] = run.strips("test", NUM_STRIPS)
        for pair in comparison.pairs_with(record.name):
            frames[pair.dataset] |= run.example_frames(pair)
    write_report(comparison, out, strips=strips, frames=frames, stages=stages)
    if json_out:
        write_whole(json_out, comparison_json(comparison))
    print_comparison(comparison, console)
