"""A trained run: open it, evaluate it, explain what it answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.run_files import find_checkpoint
from cover.datasets.manifest import Manifest, Moves
from cover.errors import CheckpointError
from cover.evaluation.evaluate import ALONE, Processes, evaluate_dataset, evaluation_key
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FrameOrder
from cover.inference.explain import Explanation, FileClip, explain_clip, label_of, read_file_clip
from cover.media.reader import ClipReader
from cover.media.workers import workers_watched
from cover.models.classifier import VideoClassifier, load_model
from cover.models.create import build
from cover.models.cuda_graphs import ClipGraphs
from cover.models.kernels.backend import HALF_TYPES
from cover.models.kernels.float8 import is_supported
from cover.models.linear import freeze_weights, use_float8
from cover.models.loading import load_weights
from cover.models.sources import open_source
from cover.runs.adapters import evaluation_reader, reader_for
from cover.runs.folder import SPLITS, RunFolder
from cover.training.packed_batch import HeadLoss, LossKind

logger = logging.getLogger(__name__)


@contextmanager
def evaluation_processes(path: Path) -> Iterator[Processes]:
    """The processes that torchrun started together with this one, or this one alone, while the block runs.

    Args:
        path: The run to evaluate; its precision is compared with that of launchers.

    Raises:
        CoverError: Variables of the launcher are incomplete, or the processes do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        yield ALONE
        return
    from accelerate.utils import gather_object  # takes time to load, which one process does without

    from cover.training.launch import start_processes

    recipe = RunFolder.of_checkpoint(find_checkpoint(path)).read_recipe()
    state = start_processes(recipe.training.precision)
    try:
        yield Processes(state.process_index, state.num_processes, gather_object)
        state.wait_for_everyone()
    finally:
        state.destroy_process_group()


def for_other_clips(
    recipe: Recipe, model: VideoClassifier, checkpoint: Path, num_frames: int | None, image_size: int | None
) -> tuple[Recipe, VideoClassifier]:
    """The recipe and the model for clips of another length or size; embeddings are resized as for fine-tuning."""
    config = model.config
    sizes = {"num_frames": num_frames or config.num_frames, "image_size": image_size or config.image_size_px}
    config = replace(config, num_frames=sizes["num_frames"], image_size_px=sizes["image_size"])
    resized = build(config)
    load_weights(resized, open_source(checkpoint))
    changes: dict[str, Any] = {"model": recipe.model.model_copy(update=sizes)}
    if num_frames:
        own = {"num_frames": num_frames}
        changes["datasets"] = {name: section.model_copy(update=own) for name, section in recipe.datasets.items()}
    return recipe.model_copy(update=changes), resized.eval()


@dataclass(frozen=True)
class TrainedRun:
    """A run with the model of one of its checkpoints, ready on a device.

    Attributes:
        files: The run folder.
        checkpoint: Folder of the checkpoint.
        recipe: Of the run.
        model: In evaluation mode.
        device: A GPU if there is one.
    """

    files: RunFolder
    checkpoint: Path
    recipe: Recipe
    model: VideoClassifier
    device: torch.device

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        moves: Moves | None = None,
        allow_changed_data: bool = False,
        num_frames: int | None = None,
        image_size: int | None = None,
    ) -> TrainedRun:
        """Open a run on a GPU if there is one, else on the CPU.

        Args:
            path: A run, which is represented by its best checkpoint, or one of its checkpoints.
            moves: Old folder → new folder, for data that have moved since training.
            allow_changed_data: Accept manifests with other samples than those that the run was trained on.
            num_frames: Frames of a clip, if other than in training.
            image_size: Side of a frame in pixels, if other than in training.

        Raises:
            CheckpointError: There is no run, or it is damaged.
            CoverError: The model takes no clips of that length or size.
        """
        checkpoint = find_checkpoint(path)
        files = replace(RunFolder.of_checkpoint(checkpoint), moves=moves or {}, allow_changed_data=allow_changed_data)
        if not files.is_run:
            raise CheckpointError(
                f"{path} is not a run: {files.recipe_file} is missing; give a folder that `cover train` has written"
            )
        recipe, model = files.read_recipe(), load_model(checkpoint)
        if num_frames or image_size:
            recipe, model = for_other_clips(recipe, model, checkpoint, num_frames, image_size)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        logger.info("%s is opened on %s", checkpoint, device)
        run = cls(files, checkpoint, recipe, model.to(device), device)
        if run.mixed_precision == "fp8":
            use_float8(model)
        freeze_weights(model)
        return run

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
            CheckpointError: The recipe names none, it is missing, or its samples are not those of training.
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
        """Open the manifests of a split. Datasets without one are skipped and named in the log.

        Args:
            split: "train", "val" or "test".
            datasets: All of the recipe if empty.

        Raises:
            CheckpointError: A dataset is unknown, or none of them has the split.
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
        processes: Processes = ALONE,
        keep_logits: bool = False,
    ) -> DatasetResult:
        """Evaluate a dataset's head on a manifest, and write the result into the run folder.

        Frames are kept in the recipe's `data.cache_folder` if it exists here; a run may have been copied.

        Args:
            dataset: Whose head is evaluated.
            manifest: The samples.
            order: Of the frames of a clip.
            num_clips: Views in time; the recipe's by default.
            num_crops: Views in space; the recipe's by default.
            processes: That share the work, see `evaluation_processes`. The first one writes.
            keep_logits: Write the logits beside the result, as a Parquet file.

        Returns:
            Accuracies from 0 to 1, and the prediction for each sample.

        Raises:
            RecipeError: There are too many views.
            DecodeError: No sample can be decoded.
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
                loss=self._loss(dataset, manifest),
                processes=processes,
                logits_folder=self.files.results_folder if keep_logits else None,
            )
        if processes.rank == 0:
            result.save(self.files.results_folder)
        return result

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

    def _loss(self, dataset: str, manifest: Manifest) -> HeadLoss:
        kind: LossKind = "bce" if dataset in self.model.config.sigmoid_heads else "cross_entropy"
        return HeadLoss(kind, len(manifest.class_names) if manifest.is_multi_label else 0)

    def class_names(self, heads: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
        """Class names of `heads`, or of all heads, in label order. Raises CheckpointError for an unknown head."""
        known = self.model.config.heads
        for head in heads:
            if head not in known:
                raise CheckpointError(f"{self.folder} has no head {head!r}; its heads are {', '.join(known)}")
        return {head: known[head] for head in heads or known}

    def explain(self, file: Path | FileClip, head: str | None = None, class_name: str | None = None) -> Explanation:
        """Explain which parts of a video or image speak for a class. Computes in float32.

        Args:
            file: A file, or a decoded clip.
            head: A dataset; it can be omitted if the model has only one.
            class_name: The most probable class by default.

        Raises:
            CoverError: The head or the class is unknown.
            DecodeError: The file cannot be decoded.
        """
        self.model.attributor()  # or refuse before anything is asked
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
            is_sigmoid=head in config.sigmoid_heads,
        )

    def reader(self, dataset: str, manifest: Manifest) -> ClipReader:
        """Clips of a manifest in the format of this run's model."""
        return reader_for(self.recipe, manifest, dataset)

    def predict_datasets(self, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits [B,classes] of each dataset's uint8 clips [T,B,C,Y,X], by its own head, all on the CPU."""
        return {name: self.predict_heads(frames)[name] for name, frames in clips.items()}

    def predict_heads(self, frames: Tensor) -> dict[str, Tensor]:
        """Logits [B,classes] of every head for the same uint8 clips [T,B,C,Y,X], all on the CPU."""
        heads = self.model.config.heads
        logits = self._logits(frames.to(self.device)).cpu().split([len(names) for names in heads.values()], dim=1)
        return dict(zip(heads, logits, strict=True))

    def embed(self, frames: Tensor) -> Tensor:
        """Features float32 [B,D] of uint8 clips [T,B,C,Y,X], both on the CPU: what the heads read."""
        return self._features(frames.to(self.device)).cpu()

    @cached_property
    def _logits(self) -> Callable[[Tensor], Tensor]:
        """Frames → the logits of all heads, float32 [B, all classes]."""
        return self._fast(lambda frames: torch.cat(list(self.model.predict(frames).values()), dim=1))

    @cached_property
    def _features(self) -> Callable[[Tensor], Tensor]:
        """Frames → features, float32 [B, D]."""
        return self._fast(self.model.features)

    def _fast(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Add precision and, on a GPU, CUDA graphs to a function of the model."""

        def compute(frames: Tensor) -> Tensor:
            with torch.inference_mode(), self._autocast():
                return function(frames).float()

        return ClipGraphs(compute) if self.device.type == "cuda" else compute

    @property
    def mixed_precision(self) -> str:
        """The precision the model computes in: "bf16", "fp16", "fp8", or "no" for float32.

        A GPU without float8 computes in bf16 instead.
        """
        precision = self.recipe.training.precision
        if precision == "fp32" or self.device.type != "cuda":
            return "no"
        return "bf16" if precision == "fp8" and not is_supported(self.device) else precision

    def _autocast(self) -> AbstractContextManager[None]:
        half = HALF_TYPES.get(self.mixed_precision)
        return torch.autocast("cuda", half) if half else nullcontext()
