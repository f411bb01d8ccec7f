"""What is known of a run when runs are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cover.config.recipe import Recipe
from cover.evaluation.result import DatasetResult
from cover.evaluation.sample_views import FrameOrder


@dataclass(frozen=True)
class RunRecord:
    """The readable files of one run.

    path: the run, or one of its checkpoints, as the user named it. folder: of the run.
    checkpoint: folder name of the checkpoint that the user named, otherwise of the run's best one.
    recipe: the resolved recipe; recipe_text as written.
    mixture: one mapping a dataset, the rows of the table printed at start.
    training, validation: lines of metrics.jsonl.
    results: every evaluation in RUN/evaluation, or those of the checkpoint that was named.
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
    results: list[DatasetResult]

    @property
    def policy(self) -> str:
        return self.recipe.policy

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets it was trained on."""
        return list(self.recipe.datasets)

    @property
    def views(self) -> str:
        """Clips × crops by the recipe, "1x3"."""
        return f"{self.recipe.evaluation.num_clips}x{self.recipe.evaluation.num_crops}"

    def result(self, dataset: str, split: str, order: FrameOrder = "normal") -> DatasetResult | None:
        """The evaluation to show: in normal order the one of the run's checkpoint with the recipe's views.

        Where there is none, the nearest to it, and of equally near ones the newest. In other frame orders likewise the
        nearest to the one in normal order, if there is one.
        """
        like = self.result(dataset, split) if order != "normal" else None
        wanted = (like.checkpoint, like.views) if like else (self.checkpoint, self.views)

        def nearness(result: DatasetResult) -> tuple[object, ...]:
            same_samples = like is None or result.manifest_digest == like.manifest_digest
            return result.checkpoint == wanted[0], result.views == wanted[1], same_samples, result.finished

        key = (dataset, split, order)
        fitting = [result for result in self.results if (result.dataset, result.split, result.order) == key]
        return max(fitting, key=nearness, default=None)
