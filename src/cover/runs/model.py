"""A model and all that it is asked: logits, features, explanations, accuracies. A recipe is not needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.config.data_sections import DataSection, DatasetSection
from cover.config.training_sections import EvaluationSection, TrainingSection
from cover.core.run_files import FEATURES
from cover.datasets.manifest import Manifest
from cover.errors import CheckpointError
from cover.evaluation.evaluate import ALONE, Head, Processes, evaluate_heads
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FrameOrder
from cover.inference.explain import Explanation, FileClip, explain_clip, label_of, read_file_clip
from cover.inference.views import Views
from cover.inference.windows import WINDOW_SECONDS
from cover.media.reader import ClipReader
from cover.media.workers import workers_watched
from cover.models.classifier import VideoClassifier
from cover.models.cuda_graphs import ClipGraphs
from cover.models.kernels.backend import HALF_TYPES
from cover.models.kernels.float8 import is_supported
from cover.runs.adapters import head_loss, view_reader
from cover.training.packed_batch import HeadLoss


@dataclass(frozen=True)
class OpenModel:
    """A model, ready on a device. What a recipe would say has its default.

    Attributes:
        checkpoint: The file or folder that it was loaded from.
        model: In evaluation mode.
        device: A GPU if there is one.
    """

    checkpoint: Path
    model: VideoClassifier
    device: torch.device

    @property
    def folder(self) -> Path:
        """What messages call it."""
        return self.checkpoint

    @property
    def name(self) -> str:
        """A short name, for pages."""
        return self.folder.absolute().name

    @property
    def evaluation(self) -> EvaluationSection:
        """Views of a clip, whose logits are averaged, and the batch size."""
        return EvaluationSection()

    @property
    def num_workers(self) -> int:
        """Decoding processes: no more than this machine has cores."""
        return min(DataSection().num_workers, os.cpu_count() or 1)

    @property
    def precision(self) -> str:
        """The precision that is wanted, as in a recipe's `training.precision`."""
        return TrainingSection().precision

    @property
    def features_folder(self) -> Path:
        """Where features of manifests are kept: in the current folder."""
        return Path(FEATURES)

    @property
    def results_folder(self) -> Path | None:
        """Where evaluations are kept, if anywhere."""
        return None

    def window_seconds(self, heads: Sequence[str] = ()) -> float:
        """The length of a timeline's windows, if the user does not choose it: that of the training clips, if known.

        Args:
            heads: The heads that are asked; all if empty.
        """
        return WINDOW_SECONDS

    @property
    def datasets(self) -> Mapping[str, DatasetSection]:
        """The datasets whose manifests are known, by head."""
        return {}

    def manifest(self, dataset: str, split: str) -> Manifest:
        """Open the manifest of a dataset's split. Raises CheckpointError if it is not known."""
        return self.manifests(split, [dataset])[dataset]

    def manifests(self, split: str | None, datasets: Sequence[str] = ()) -> dict[str, Manifest]:
        """Open the manifests of a split. Raises CheckpointError if none is known."""
        raise CheckpointError(f"{self.folder} is a model without a recipe, which would name manifests; give --manifest")

    def heads_of(self, manifests: Sequence[Manifest], heads: Sequence[str] = ()) -> list[tuple[str, Manifest]]:
        """Find the head of each manifest: the one with its classes.

        Args:
            manifests: Of any dataset.
            heads: The heads to choose from; all if empty.

        Raises:
            CheckpointError: No head has the classes of a manifest, or several do.
        """
        known, pairs = self.class_names(heads), []
        for manifest in manifests:
            fitting = [head for head, names in known.items() if names == manifest.class_names]
            if not fitting:
                raise CheckpointError(
                    f"{manifest.path} has other classes than {', '.join(known)} of {self.folder}; index it with the "
                    "class list of the model (`cover info` shows it)"
                )
            if len(fitting) > 1:
                raise CheckpointError(
                    f"{manifest.path} has the classes of the heads {' and '.join(fitting)}; choose one with --dataset"
                )
            pairs.append((fitting[0], manifest))
        return pairs

    def views(self, head: str, num_clips: int = 1, num_crops: int = 1) -> Views:
        """How a file is shown to a head: as in its training."""
        return Views(self.model.config.num_frames, self.model.config.image_size_px, num_clips, num_crops)

    def on_same_clips(self, manifests: Sequence[tuple[str, Manifest]]) -> list[dict[str, Manifest]]:
        """Put the heads together that answer the same clips (`datasets.NAME.clips_of`), to evaluate them in one pass.

        Args:
            manifests: Heads, and samples with their labels.
        """
        groups: list[dict[str, Manifest]] = []
        for name, manifest in manifests:
            owner = self.datasets[name].clips_of if name in self.datasets else None
            shared = [own for own in groups if name not in own and owner in own]
            if owner and shared and manifest.has_samples_of(shared[0][owner]):
                shared[0][name] = manifest
            else:
                groups.append({name: manifest})
        return groups

    def reader(self, dataset: str, manifest: Manifest) -> ClipReader:
        """Clips of a manifest as the head of a dataset takes them."""
        return self.reader_of(self.views(dataset), manifest)

    def evaluation_reader(self, dataset: str, manifest: Manifest, num_clips: int) -> ClipReader:
        """The same for evaluation with so many clips of a video."""
        return self.reader(dataset, manifest)

    def reader_of(self, views: Views, manifest: Manifest) -> ClipReader:
        """Clips of a manifest in the length and sampling of views."""
        return view_reader(views, manifest)

    def evaluate(self, dataset: str, manifest: Manifest, order: FrameOrder, **options: Any) -> DatasetResult:
        """Evaluate one head. Arguments and errors are those of `evaluate_together`."""
        return self.evaluate_together({dataset: manifest}, order, **options)[0]

    def evaluate_together(
        self,
        manifests: Mapping[str, Manifest],
        order: FrameOrder,
        *,
        num_clips: int | None = None,
        num_crops: int | None = None,
        processes: Processes = ALONE,
        keep_logits: bool = False,
    ) -> list[DatasetResult]:
        """Evaluate heads on the same samples, and write the results into the run folder if there is one.

        Frames are kept in the recipe's `data.cache_folder` if it exists here; a run may have been copied.

        Args:
            manifests: For each head, the samples with its labels.
            order: Of the frames of a clip.
            num_clips: Views in time; the recipe's by default.
            num_crops: Views in space; the recipe's by default.
            processes: That share the work, see `evaluation_processes`. The first one writes.
            keep_logits: Write the logits beside the results, as Parquet files.

        Returns:
            For each head, accuracies from 0 to 1, and the prediction for each sample.

        Raises:
            RecipeError: There are too many views.
            CheckpointError: The logits have no place.
            DecodeError: No sample can be decoded.
        """
        if keep_logits and not self.results_folder:
            raise CheckpointError(f"{self.folder} is not a run, which would keep the logits; leave --logits out")
        views, first = self.evaluation, next(iter(manifests))
        num_clips, num_crops = views.views(num_clips, num_crops)
        pairs = {name: section.reversal_pairs for name, section in self.datasets.items()}
        with workers_watched("then evaluate again"):
            results = evaluate_heads(
                self.predict_datasets,
                self.evaluation_reader(first, manifests[first], num_clips),
                {name: Head(own, pairs.get(name, ()), self._loss(name, own)) for name, own in manifests.items()},
                order=order,
                num_clips=num_clips,
                num_crops=num_crops,
                batch_size=views.batch_size,
                num_workers=self.num_workers,
                checkpoint=self.checkpoint.name,
                processes=processes,
                logits_folder=self.results_folder if keep_logits else None,
            )
        for result in results:
            if processes.rank == 0 and self.results_folder:
                result.save(self.results_folder)
        return results

    def _loss(self, dataset: str, manifest: Manifest) -> HeadLoss:
        return head_loss("bce" if dataset in self.model.config.sigmoid_heads else "cross_entropy", manifest)

    def class_names(self, heads: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
        """Return class names in label order, by head.

        Args:
            heads: The heads to choose; all if empty.

        Raises:
            CheckpointError: A head is unknown, or there is none.
        """
        known = self.model.config.heads
        if not known:
            raise CheckpointError(
                f"{self.folder} has no head, so it knows no classes; train one (init = {str(self.folder)!r}, policy = "
                "'probe'), or use `cover embed`"
            )
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
        heads = self.class_names([head] if head else [])
        if len(heads) > 1:
            raise CheckpointError(f"no head is named, and one is explained; give --head, one of {', '.join(heads)}")
        ((head, class_names),) = heads.items()
        label = None if class_name is None else label_of(class_name, class_names, head)
        if isinstance(file, Path):
            file = read_file_clip(file, self.views(head))
        return explain_clip(
            lambda frames: self.predict_heads(frames)[head],
            lambda frames, label: self.model.attribute(frames.to(self.device), head, label),
            file,
            head=head,
            class_names=class_names,
            label=label,
            is_sigmoid=head in self.model.config.sigmoid_heads,
        )

    def predict_datasets(self, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits [B,classes] of each dataset's uint8 clips [T,B,C,Y,X], by its own head, all on the CPU."""
        answers = {id(frames): self.predict_heads(frames) for frames in clips.values()}  # heads may share them
        return {name: answers[id(frames)][name] for name, frames in clips.items()}

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
        precision = self.precision
        if precision == "fp32" or self.device.type != "cuda":
            return "no"
        return "bf16" if precision == "fp8" and not is_supported(self.device) else precision

    def _autocast(self) -> AbstractContextManager[None]:
        half = HALF_TYPES.get(self.mixed_precision)
        return torch.autocast("cuda", half) if half else nullcontext()
