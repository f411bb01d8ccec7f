"""The data of a recipe: its manifests, and the mixture that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from cover.config.clips import ClipSection
from cover.config.recipe import Recipe
from cover.datasets.class_list import mirror_pairs
from cover.datasets.exclusion import read_exclusions, without_excluded
from cover.datasets.manifest import Manifest, Moves, moved_path
from cover.errors import CoverError, ManifestError, RecipeError
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.media.sampling import Window
from cover.mixture.mixture import Dataset, Mixture, check_same_samples
from cover.training.checkpoint import TrainingState
from cover.training.packed_batch import LossKind

Manifests = Mapping[str, Manifest]


@dataclass(frozen=True)
class RecipeData:
    """The manifests of a recipe by dataset.

    Attributes:
        training: Training samples, without those that data.exclude lists and max_clips leaves out.
        splits: "train", "val" and "test" as they are on disk.
    """

    training: dict[str, Manifest]
    splits: dict[str, dict[str, Manifest]]


def open_data(recipe: Recipe, moves: Moves | None = None) -> RecipeData:
    """Open and check the manifests of a recipe. Test manifests may be missing.

    Args:
        recipe: Names the manifests.
        moves: Old folder → new folder, for manifests and media that lie elsewhere now.

    Raises:
        ManifestError: A manifest is missing or damaged, or has other classes than the dataset's training manifest.
        RecipeError: The policy does not train on such data.
    """
    whole = open_manifests(recipe, "train", moves=moves)
    training = _without_excluded(recipe, whole)
    check_data(recipe, training)
    _check_shared_heads(recipe, training)
    others = {split: open_manifests(recipe, split, like=training, moves=moves) for split in ("val", "test")}
    for manifests in others.values():
        for name in (name for name in manifests if recipe.clips_of(name) in manifests):
            owner = recipe.clips_of(name)
            check_same_samples(name, manifests[name], owner, manifests[owner])
    return RecipeData(training, {"train": whole} | others)


def training_manifests(recipe: Recipe, moves: Moves | None = None) -> dict[str, Manifest]:
    """The training manifests without what `data.exclude` lists and `max_clips` leaves out.

    Arguments as in `open_manifests`.
    """
    return _without_excluded(recipe, open_manifests(recipe, "train", moves=moves))


def _without_excluded(recipe: Recipe, manifests: Manifests) -> dict[str, Manifest]:
    excluded = read_exclusions(recipe.data.exclude)
    training = {
        name: _limited(without_excluded(manifests[name], excluded), recipe.datasets[name].max_clips)
        for name in recipe.sampled
    }
    return {name: _like(training[recipe.clips_of(name)], manifest) for name, manifest in manifests.items()}


def _like(kept: Manifest, manifest: Manifest) -> Manifest:
    """Return `kept`, or for the manifest of another head on its clips, a view without the samples that it lacks."""
    if kept.path == manifest.path:
        return kept
    left_out = {*manifest.table["sample_id"].to_pylist()} - {*kept.table["sample_id"].to_pylist()}
    return manifest.without(left_out) if kept.num_excluded else manifest


def _limited(manifest: Manifest, max_clips: int | None) -> Manifest:
    """Return a view with as many samples at most, drawn at random but always alike."""
    if max_clips is None:
        return manifest
    left_out = np.random.default_rng(0).permutation(len(manifest))[max_clips:]
    return manifest.without(manifest.sample_ids(left_out.tolist()))


def open_manifests(
    recipe: Recipe, split: str, *, like: Manifests | None = None, moves: Moves | None = None
) -> dict[str, Manifest]:
    """Open the manifests of one split, of the datasets that have it. Test manifests may be missing.

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
        if like and opened[name].is_multi_label != like[name].is_multi_label:
            raise ManifestError(
                f"datasets.{name}.{split} = '{path}' and its training manifest are not both multi-label; index both "
                "splits alike"
            )
        if like and opened[name].class_names != like[name].class_names:
            raise ManifestError(
                f"datasets.{name}.{split} = '{path}' has other classes than its training manifest; "
                "index both splits together"
            )
    return opened


def check_data(recipe: Recipe, manifests: Manifests) -> None:
    """Raise RecipeError if a dataset is not of the kind that the policy trains on (paper §3.1, §3.3), or lacks a class
    of its reversal_pairs, mirror_pairs or class_weights."""
    for name, manifest in manifests.items():
        if recipe.media_kind not in (None, manifest.kind):
            raise RecipeError(
                f"policy {recipe.policy!r} trains on {recipe.media_kind}s, datasets.{name} holds {manifest.kind}s; "
                'use policy = "cotrain"'
            )
        section = recipe.datasets[name]
        if manifest.is_multi_label and section.class_weights is not None:
            raise RecipeError(
                f"datasets.{name}.class_weights takes samples of one class, and those of {name} have several; leave it "
                "out"
            )
        try:
            mirrored = mirror_pairs(manifest.class_names) if section.mirror_pairs == "auto" else section.mirror_pairs
        except CoverError as error:
            raise RecipeError(f"datasets.{name}.mirror_pairs: {error}") from None
        pairs = {"reversal_pairs": section.reversal_pairs, "mirror_pairs": mirrored}
        named = {key: {label for pair in own for label in pair} for key, own in pairs.items()}
        if isinstance(section.class_weights, dict):
            named["class_weights"] = set(section.class_weights)
        for key, classes in named.items():
            if unknown := sorted(classes - set(manifest.class_names)):
                nearest = get_close_matches(unknown[0], manifest.class_names, n=3, cutoff=0)
                raise RecipeError(
                    f"datasets.{name}.{key} names {unknown[0]!r}, which is not a class of {manifest.name}; "
                    f"the nearest are {', '.join(map(repr, nearest))}"
                )


def _check_shared_heads(recipe: Recipe, manifests: Manifests) -> None:
    """Raise CoverError if a dataset has other classes or another loss than the one whose head it shares."""
    for name, manifest in manifests.items():
        owner = recipe.head_of(name)
        other = manifests[owner]
        if (manifest.class_names, manifest.is_multi_label) != (other.class_names, other.is_multi_label):
            raise ManifestError(
                f"datasets.{name} has head_of {owner!r}, and {manifest.path} has other classes than {other.path}; "
                "index it with the same class list"
            )
        kinds = [loss_kind(recipe, dataset, manifests[dataset]) for dataset in (name, owner)]
        if kinds[0] != kinds[1]:
            raise RecipeError(
                f"datasets.{name}.loss is {kinds[0]!r}, and that of {owner}, whose head it shares, is {kinds[1]!r}; "
                "one head takes one kind of loss: make them equal"
            )


def loss_kind(recipe: Recipe, dataset: str, manifest: Manifest) -> LossKind:
    """The loss of a dataset, "auto" resolved."""
    chosen = recipe.datasets[dataset].loss
    if chosen == "auto":
        return "bce" if manifest.is_multi_label else "cross_entropy"
    return chosen


def create_mixture(
    recipe: Recipe,
    manifests: Manifests,
    num_steps: int,
    state: TrainingState | None = None,
    *,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> Mixture:
    """The mixture of a recipe, from a run's position to its last step.

    Args:
        recipe: What to mix, and how.
        manifests: Training samples by dataset.
        num_steps: Length of the run.
        state: The position; None is the beginning.
        rank: Of this process.
        world_size: Number of processes; each decodes its share of a batch.
        pin_memory: Whether batches lie in page-locked memory.

    Raises:
        RecipeError: The datasets cannot be mixed, or a batch has too few clips for its parts.
    """
    data, state = recipe.data, state or TrainingState()
    return Mixture(
        _datasets(recipe, manifests),
        batch_size=data.batch_size,
        batches=data.batches,
        image_size=recipe.model.image_size,
        temperature=data.temperature,
        seed=recipe.seed + state.mixture_start,
        start_step=state.step - state.mixture_start,
        num_steps=num_steps - state.step,
        offset=state.mixture_offset,
        num_workers=recipe.num_workers,
        rank=rank,
        world_size=world_size,
        num_micro_batches=1 if recipe.training.micro_batches == "auto" else recipe.training.micro_batches,
        repeats=recipe.augmentation.repeats,
        max_unreadable_share=data.max_unreadable_share,
        pin_memory=pin_memory,
    )


def window_of(clips: ClipSection) -> Window | None:
    """The part of a video that a clip of a dataset shows; None is all of it."""
    if isinstance(clips.sampling, str):
        return None
    stride = clips.sampling.get("stride_frames")
    return Window(clips.sampling.get("window_seconds"), None if stride is None else int(stride))


def _datasets(recipe: Recipe, manifests: Manifests) -> list[Dataset]:
    """How each dataset takes part in the mixture."""
    datasets = []
    for name, manifest in manifests.items():
        section, clips = recipe.datasets[name], recipe.clips(name)
        dataset = Dataset(
            manifest,
            name=name,
            clips_of=section.clips_of,
            num_frames=recipe.num_frames(name),
            short_side_px=clips.short_side,
            loss_weight=clips.loss_weight,
            scale_jitter=clips.scale_jitter,
            horizontal_flip=clips.horizontal_flip,
            mirror_pairs=section.mirror_pairs,
            rate=section.rate,
            batch_size=section.batch_size,
            class_balanced=section.class_balanced,
            temporal_jitter=clips.temporal_jitter,
            window=window_of(clips),
            cache_frames=clips.cache_frames,
            cached_per_frame=clips.cached_per_frame,
            cache_folder=recipe.data.cache_folder if clips.cache_frames else None,
            random_resized_crop=clips.random_resized_crop,
            color_jitter=clips.color_jitter,
            random_erasing=clips.random_erasing,
            randaugment=RandAugment(**clips.randaugment.model_dump()),
            mixing=Mixing(clips.mixup, clips.cutmix),
        )
        datasets.append(dataset)
    return datasets
