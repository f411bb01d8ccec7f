"""What a comparison reads about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cover.config.recipe import Recipe
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FrameOrder


@dataclass(frozen=True)
class RunRecord:
    """The content of one run's files.

    Attributes:
        path: The run, or one of its checkpoints, as the user named it.
        folder: The run folder.
        checkpoint: Folder name of the checkpoint that the user named, or else of the run's best one.
        recipe: The resolved recipe.
        recipe_text: The recipe as it is written in the file.
        mixture: One mapping a dataset: the rows of the table that is printed at the start of training.
        training, validation, gradients: Lines of metrics.jsonl.
        own_digests: Of the manifests of the run, as they were in training.
        results: Every evaluation of the run, or only those of the checkpoint that the user named.
    """

    name: str
    path: Path
    folder: Path
    checkpoint: str
    recipe: Recipe
    recipe_text: str
    mixture: list[dict[str, Any]]
    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    gradients: list[dict[str, Any]]
    own_digests: frozenset[str]
    results: list[DatasetResult]

    @property
    def policy(self) -> str:
        """The training policy."""
        return self.recipe.policy

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets that it was trained on."""
        return list(self.recipe.datasets)

    @property
    def views(self) -> str:
        """Clips × crops of the recipe, such as "1x3"."""
        return f"{self.recipe.evaluation.num_clips}x{self.recipe.evaluation.num_crops}"

    def result(self, dataset: str, split: str, order: FrameOrder = "normal") -> DatasetResult | None:
        """Choose the evaluation to show.

        In normal order this is the one of the run's checkpoint with the recipe's input size and views, or else the
        nearest to that; of equally near ones the one on the run's own manifest (`cover evaluate --manifest` takes
        others), and then the newest. In other frame orders it is the one nearest to that in normal
        order.

        Returns:
            None if there is no evaluation of this dataset, split and order.
        """
        like = self.result(dataset, split) if order != "normal" else None
        checkpoint, views = (like.checkpoint, like.views) if like else (self.checkpoint, self.views)
        num_frames = (like.num_frames,) if like else (1, self.recipe.num_frames(dataset))  # an image has one
        sizes = (like.image_size_px,) if like else (None, self.recipe.model.image_size)

        def nearness(result: DatasetResult) -> tuple[object, ...]:
            same_input = result.num_frames in num_frames and result.image_size_px in sizes
            digests = self.own_digests if like is None else {like.manifest_digest}
            same_samples = result.manifest_digest in digests
            same = result.checkpoint == checkpoint, same_input, result.views == views, same_samples
            return *same, result.finished

        key = (dataset, split, order)
        fitting = [result for result in self.results if (result.dataset, result.split, result.order) == key]
        return max(fitting, key=nearness, default=None)
