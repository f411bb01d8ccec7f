"""What a recipe amounts to, known before anything is trained: data, model, cost, length, and what is still missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch

from cover.config.recipe import Recipe
from cover.datasets.exclusion import read_exclusions, without_excluded
from cover.datasets.manifest import Manifest, Moves, moved_path
from cover.errors import ManifestError, RecipeError
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.mixture.mixture import Dataset, Mixture
from cover.mixture.summary import MixtureRow, mixture_rows, mixture_warnings
from cover.models.config import ModelConfig
from cover.models.create import num_parameters
from cover.models.family import backbone_family, family_of
from cover.models.info import multiply_adds
from cover.models.loading import check_fits
from cover.models.sources import HUB, open_source, split_key

Manifests = Mapping[str, Manifest]


@dataclass(frozen=True)
class Plan:
    """A checked recipe in numbers.

    rows: the mixture, a row a dataset. config: of the model. num_trained: parameters that the policy changes.
    clip_multiply_adds: of one clip of each dataset through the backbone and that dataset's head, forward only; 1e9 of
    them are a GFLOP as papers count. steps_per_epoch: may be fractional. warnings: what training or evaluation will
    ask for and is not there, one line each.
    """

    recipe: Recipe
    rows: list[MixtureRow]
    config: ModelConfig
    num_parameters: int
    num_trained: int
    clip_multiply_adds: dict[str, int]
    steps_per_epoch: float
    num_steps: int
    warnings: tuple[str, ...]


def plan(recipe: Recipe, moves: Moves | None = None) -> Plan:
    """Check a recipe against its manifests and the weights it starts from, and say what it amounts to.

    Nothing is written, no clip is decoded, and no weight is read or allocated. Raises the CoverError that training
    would end with. Weights and test manifests that do not exist (yet) are warnings. moves: as in `open_manifests`.
    """
    manifests = training_manifests(recipe, moves)
    check_policy(recipe, manifests)
    open_manifests(recipe, "val", like=manifests, moves=moves)
    config = model_config(recipe, manifests)
    data = recipe.data
    mixture = Mixture(
        mixture_datasets(recipe, manifests),
        batch_size=data.batch_size,
        image_size=recipe.model.image_size,
        short_side_px=data.short_side,
        repeats=recipe.augmentation.repeats,
    )
    total = num_parameters(config)
    steps_per_epoch, num_steps = training_length(recipe, manifests)
    rows = mixture_rows(mixture, reduction=recipe.training.reduction)
    return Plan(
        recipe=recipe,
        rows=rows,
        config=config,
        num_parameters=total,
        num_trained=num_head_parameters(config) if recipe.policy == "probe" else total,
        clip_multiply_adds=clip_multiply_adds(
            config, {name: reader.num_frames for name, reader in mixture.readers.items()}
        ),
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        warnings=(
            *mixture_warnings(rows, num_steps),
            *_missing_weights(recipe, config),
            *_missing_tests(recipe, manifests, moves),
        ),
    )


def training_manifests(recipe: Recipe, moves: Moves | None = None) -> dict[str, Manifest]:
    """The training manifests without the samples that `data.exclude` lists. Arguments as in `open_manifests`."""
    excluded, whole = read_exclusions(recipe.data.exclude), open_manifests(recipe, "train", moves=moves)
    return {name: without_excluded(manifest, excluded) for name, manifest in whole.items()}


def open_manifests(
    recipe: Recipe, split: str, *, like: Manifests | None = None, moves: Moves | None = None
) -> dict[str, Manifest]:
    """The manifests of one split, of the datasets that have it. Test manifests may not exist yet.

    Args:
        recipe: Names the manifests.
        split: "train", "val" or "test".
        like: Manifests whose class names they must share.
        moves: Old folder → new folder, for manifests and media that lie elsewhere now.

    Raises:
        ManifestError: One is missing or damaged, or has other classes.
    """
    opened = {}
    for name, section in recipe.datasets.items():
        path: Path | None = getattr(section, split)
        path = path and moved_path(path.absolute(), moves or {})
        if path is None or (split == "test" and not path.exists()):
            continue
        if not path.exists():
            raise ManifestError(
                f"datasets.{name}.{split}: {path} does not exist; write it with `cover index`, or fix the path (a "
                "relative path starts from the folder of the recipe that has it)"
            )
        opened[name] = Manifest.open(path).relocated(moves or {})
        if like and opened[name].class_names != like[name].class_names:
            raise ManifestError(
                f"datasets.{name}.{split} = '{path}' has other classes than its training manifest; "
                "index both splits together"
            )
    return opened


def check_policy(recipe: Recipe, manifests: Manifests) -> None:
    """Raise RecipeError when the datasets are not of the kind that the policy trains on (paper §3.1, §3.3)."""
    wanted = {"pretrain": "image", "standard": "video"}.get(recipe.policy)
    for name, manifest in manifests.items():
        if wanted and manifest.kind != wanted:
            raise RecipeError(
                f"policy {recipe.policy!r} trains on {wanted}s, datasets.{name} holds {manifest.kind}s; "
                'use policy = "cotrain"'
            )
        classes = {label for pair in recipe.datasets[name].reversal_pairs for label in pair}
        if unknown := sorted(classes - set(manifest.class_names)):
            nearest = get_close_matches(unknown[0], manifest.class_names, n=3, cutoff=0)
            raise RecipeError(
                f"datasets.{name}.reversal_pairs names {unknown[0]!r}, which is no class of {manifest.name}; "
                f"the nearest are {', '.join(map(repr, nearest))}"
            )


def model_config(recipe: Recipe, manifests: Manifests) -> ModelConfig:
    """The recipe's model, a head a manifest. Policy "pretrain" has no temporal layers (paper, Eq. 1)."""
    heads = {name: manifest.class_names for name, manifest in manifests.items()}
    images_only = recipe.policy == "pretrain"
    return backbone_family(recipe.model.family).configure(recipe.model, heads, images_only=images_only)


def mixture_datasets(recipe: Recipe, manifests: Manifests) -> list[Dataset]:
    """How each dataset takes part in the recipe's mixture."""
    data, augmentation = recipe.data, recipe.augmentation
    return [
        Dataset(
            manifest,
            name=name,
            num_frames=recipe.model.num_frames,
            loss_weight=recipe.datasets[name].loss_weight,
            horizontal_flip=recipe.datasets[name].horizontal_flip,
            rate=recipe.datasets[name].rate,
            temporal_jitter=data.temporal_jitter,
            cache_frames=data.cache_frames,
            cache_folder=data.cache_folder,
            randaugment=RandAugment(**augmentation.randaugment.model_dump()),
            mixing=Mixing(augmentation.mixup, augmentation.cutmix),
        )
        for name, manifest in manifests.items()
    ]


def training_length(recipe: Recipe, manifests: Manifests) -> tuple[float, int]:
    """Steps of a training epoch (as many clips as all training sets have together) and of the whole run."""
    steps_per_epoch = sum(map(len, manifests.values())) / recipe.data.batch_size
    num_steps = max(1, round(recipe.training.epochs * steps_per_epoch))
    return steps_per_epoch, min(num_steps, recipe.training.max_steps or num_steps)


def clip_multiply_adds(config: ModelConfig, num_frames: Mapping[str, int]) -> dict[str, int]:
    """Of one clip of each dataset, so many frames long, through the backbone and that dataset's head, forward only."""
    return {name: multiply_adds(_one_head(config, name, frames)) for name, frames in num_frames.items()}


def num_head_parameters(config: ModelConfig) -> int:
    """Parameters of all heads: a weight a feature and class, a bias a class."""
    with torch.device("meta"):
        width = family_of(config).backbone(config).width
    return sum((width + 1) * len(names) for names in config.heads.values())


def _one_head(config: ModelConfig, name: str, num_frames: int) -> ModelConfig:
    return dataclasses.replace(config, num_frames=num_frames, heads={name: config.heads[name]})


def _missing_weights(recipe: Recipe, config: ModelConfig) -> list[str]:
    if not recipe.init:
        return []
    where, _ = split_key(recipe.init)
    if where.startswith(HUB):
        return [f"init = '{recipe.init}' is downloaded when training starts; it was not looked at"]
    if not Path(where).exists():
        return [f"init = '{recipe.init}' does not exist; training starts from it: put it there, or set init"]
    check_fits(open_source(recipe.init), config)
    return []


def _missing_tests(recipe: Recipe, manifests: Manifests, moves: Moves | None) -> list[str]:
    present = open_manifests(recipe, "test", like=manifests, moves=moves)
    paths = {name: section.test for name, section in recipe.datasets.items()}
    missing = [f"datasets.{name}.test = '{path}'" for name, path in paths.items() if path and name not in present]
    return [f"{what} does not exist; `cover evaluate` reads it" for what in missing]
