"""A recipe: one TOML file that describes one experiment, checked before any file or device is touched.

    policy = "cotrain"
    init = "runs/pretrain"

    [model]
    variant = "timesformer_large"

    [datasets.k400]
    train = "manifests/k400-train.arrow"
    val = "manifests/k400-val.arrow"

Defaults are the paper's (§4.1); docs/paper.md lists what the paper leaves open. Relative paths start from the folder of
the file that contains them. Paths on the command line, and in the recipes that come with this package, start from the
current folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import Field

from cover.config.clips import ClipLoss, ClipSection
from cover.config.data_sections import DataSection, DatasetSection
from cover.config.families import ModelSection
from cover.config.layers import Section, map_paths
from cover.config.training_sections import AugmentationSection, EvaluationSection, OptimizerSection, TrainingSection
from cover.core.atomic_files import write_whole

PATH_KEYS = ("init", "data.cache_folder", "data.exclude", "datasets.*.train", "datasets.*.val", "datasets.*.test")
"""Keys of a recipe that hold paths."""


class Recipe(Section):
    """One experiment."""

    policy: Literal["pretrain", "standard", "cotrain", "probe"]
    """What to train: one dataset ("standard"), several ("cotrain"), images without temporal layers ("pretrain"), or
    heads alone on frozen features of `init` ("probe")."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    init: str | None = None
    """Weights to start from: a run, a file or folder of foreign weights, or "hf://owner/name". In a file with several
    models, "file.pth#key" chooses one. If `[model]` has neither `family` nor `variant`, it is that of the weights; keys
    that it has override theirs."""
    fresh_heads: bool = False
    """Start every head anew, even if `init` has one for the same dataset. A probe always does."""
    model: ModelSection
    datasets: Annotated[dict[str, DatasetSection], Field(min_length=1)]
    data: DataSection = DataSection()
    augmentation: AugmentationSection = AugmentationSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()
    evaluation: EvaluationSection = EvaluationSection()

    @property
    def with_heads(self) -> tuple[str, ...]:
        """The datasets with heads of their own. Others share them (`head_of`)."""
        return tuple(name for name, section in self.datasets.items() if section.head_of is None)

    def head_of(self, dataset: str) -> str:
        """The dataset whose head answers the clips of a dataset: itself, except for `datasets.NAME.head_of`."""
        section = self.datasets.get(dataset)
        return (section and section.head_of) or dataset

    @property
    def sampled(self) -> tuple[str, ...]:
        """The datasets with clips of their own. Others add heads to them (`clips_of`)."""
        return tuple(name for name, section in self.datasets.items() if section.clips_of is None)

    def clips_of(self, dataset: str) -> str:
        """The dataset whose clips a dataset has: itself, except for `datasets.NAME.clips_of`."""
        section = self.datasets.get(dataset)
        return (section and section.clips_of) or dataset

    def heads_of(self, dataset: str) -> tuple[str, ...]:
        """The datasets that have the clips of a dataset: itself first."""
        return (dataset, *(name for name, section in self.datasets.items() if section.clips_of == dataset))

    def clips(self, dataset: str) -> ClipSection:
        """How the training clips of a dataset are made: by its own keys, and by the recipe's where it has none."""
        shared = dict(self.data) | dict(self.augmentation) | dict(self.training)
        section, answered = self.datasets[self.clips_of(dataset)], self.datasets[dataset]
        own = {
            key: getattr(answered if key in ClipLoss.model_fields else section, key, None)
            for key in ClipSection.model_fields
        }
        return ClipSection.model_construct(
            **{key: shared[key] if value is None else value for key, value in own.items()}
        )

    def without_repeats(self) -> Recipe:
        """Return the recipe without keys of datasets that repeat what holds for all, to compare recipes."""
        shared = dict(self.data) | dict(self.augmentation) | dict(self.training)
        datasets = {}
        for name, section in self.datasets.items():
            repeated = [key for key in ClipSection.model_fields if getattr(section, key, None) == shared[key]]
            datasets[name] = section.model_copy(update=dict.fromkeys(repeated))
        return self.model_copy(update={"datasets": datasets})

    def num_frames(self, dataset: str) -> int:
        """Frames of a clip of a dataset of videos. A dataset that the recipe does not name has the model's number."""
        section = self.datasets.get(self.clips_of(dataset))
        return (section and section.num_frames) or self.model.num_frames

    @property
    def num_gradients(self) -> int:
        """Gradients that training keeps: one, and under the keys above one for each dataset."""
        by_dataset = self.optimizer.combines_datasets or self.training.measure_gradients_every is not None
        return 1 + by_dataset * len(self.datasets)

    @property
    def media_kind(self) -> Literal["image", "video"] | None:
        """The one kind of media that the policy trains on; None for any."""
        kinds: dict[str, Literal["image", "video"]] = {"pretrain": "image", "standard": "video"}
        return kinds.get(self.policy)

    @property
    def is_standard(self) -> bool:
        """Whether it trains on one dataset alone: the baseline of co-training."""
        return self.policy == "standard"

    @property
    def freezes_backbone(self) -> bool:
        """Whether the backbone keeps its weights."""
        return self.policy == "probe" or self.optimizer.backbone_rate == 0

    @property
    def is_probe(self) -> bool:
        """Whether it trains heads alone, and starts them anew."""
        return self.policy == "probe"

    @property
    def keeps_features(self) -> bool:
        """Whether the backbone's features are computed once, instead of passing clips through it in every step."""
        return self.policy == "probe" and self.data.cache_features

    @property
    def num_workers(self) -> int:
        """Decoding processes: as many as the recipe says, but no more than this machine has cores."""
        return min(self.data.num_workers, os.cpu_count() or 1)

    def write(self, path: Path) -> None:
        """Write the resolved recipe as TOML. Its paths are relative to the file, so that both can be moved together."""
        folder = path.parent.resolve()
        values = map_paths(
            self.model_dump(mode="json", exclude_none=True), PATH_KEYS, lambda name: os.path.relpath(name, folder)
        )
        write_whole(path, tomli_w.dumps(values))
