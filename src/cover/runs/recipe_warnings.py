"""What is probably not meant in a recipe with these data: a line for each, with the value, the rule and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np

from cover.config.clips import ClipSection
from cover.config.layers import toml_value
from cover.config.recipe import Recipe
from cover.datasets.class_list import names_side
from cover.datasets.names import Kind
from cover.runs.adapters import losses_of
from cover.runs.data import Manifests
from cover.training.optimizer import learning_rate
from cover.training.packed_batch import ONE_CLASS

_MAX_NAMES = 3
_REPLACED = "random_resized_crop replaces short_side"
_NOT_KEPT = "cache_frames is off"
_NO_OPERATIONS = "num_ops is 0"
_FULL_RATE = "the backbone learns by adapters alone, which have the full rate"


def recipe_warnings(
    recipe: Recipe, training: Manifests, steps_per_epoch: float, num_steps: int, *, takes_clips: bool
) -> list[str]:
    """Return warnings about classes, about the schedule, and about keys without effect.

    Args:
        recipe: What to train.
        training: The training samples of each dataset.
        steps_per_epoch: May be fractional.
        num_steps: The length of the run.
        takes_clips: Whether steps take clips through the whole model, see Objective.
    """
    return [
        *_about_classes(recipe, training, takes_clips),
        *_about_schedule(recipe, steps_per_epoch, num_steps),
        *_about_unused(recipe, training, takes_clips),
    ]


def _about_classes(recipe: Recipe, training: Manifests, takes_clips: bool) -> list[str]:
    warnings, losses = [], losses_of(recipe, training)
    for name, manifest in training.items():
        classes = manifest.class_names
        if len(classes) == 1 and losses.get(name, ONE_CLASS).kind == "cross_entropy":
            warnings.append(
                f"datasets.{name} has one class, {classes[0]!r}, so its loss is always 0 and its head learns nothing; "
                "leave it out, or index it with more classes"
            )
        counts = sum(own.class_counts() for other, own in training.items() if recipe.head_of(other) == name)
        absent = (
            [classes[label] for label in np.flatnonzero(np.equal(counts, 0))] if recipe.head_of(name) == name else []
        )
        if absent:
            warnings.append(
                f"datasets.{name}: {len(absent)} of {len(classes)} classes have no training sample ({_named(absent)}), "
                "so they are never predicted; check data.exclude, or index the dataset without them"
            )
        pairs = recipe.datasets[name].mirror_pairs
        paired = classes if pairs == "auto" else {label for pair in pairs for label in pair}
        sided = [label for label in classes if names_side(label) and label not in paired]
        if takes_clips and recipe.clips(name).horizontal_flip and sided:
            warnings.append(
                f"datasets.{name}.horizontal_flip = true mirrors half of the clips, and {len(sided)} classes name left "
                f"or right ({_named(sided)}); set it to false, or set mirror_pairs"
            )
    return warnings


def _about_schedule(recipe: Recipe, steps_per_epoch: float, num_steps: int) -> list[str]:
    section, epochs = recipe.optimizer, recipe.training.epochs
    warnings = []
    if late := [drop for drop in section.drops(epochs) if drop >= epochs]:
        shown = ", ".join(f"{drop:g}" for drop in late)
        warnings.append(
            f"optimizer.drop_epochs has {shown}, and training.epochs = {epochs:g}, so the learning rate never drops "
            "there; leave drop_epochs out, or set it to earlier epochs"
        )
    if section.schedule == "cosine" and section.drop_epochs is not None:
        warnings.append(
            "optimizer.drop_epochs belongs to schedule 'step', and optimizer.schedule = 'cosine' has none; leave "
            "drop_epochs out, or change the schedule"
        )
    if num_steps < round(epochs * steps_per_epoch):
        last = learning_rate(section, num_steps - 1, steps_per_epoch=steps_per_epoch, num_epochs=epochs)
        reached = f"{num_steps / steps_per_epoch:.3g}"
        warnings.append(
            f"training.max_steps = {num_steps} ends the run after {reached} of {epochs:g} epochs and does not shorten "
            f"the schedule, so the learning rate ends at {last:.2g}; set training.epochs = {reached} to shorten both"
        )
    return warnings


Rule = tuple[str, bool, str]
"""A key, whether other keys leave it without an effect, and why."""


def _about_unused(recipe: Recipe, training: Manifests, takes_clips: bool) -> list[str]:
    """Return a warning for each key that is set and has no effect."""
    rules = _rules(recipe, takes_clips)
    for name, manifest in training.items():
        rules += _rules_of_dataset(recipe, name, manifest.kind)
    warnings = []
    for key, is_unused, reason in rules:
        if is_unused and (value := _set_value(recipe, key)) is not None:
            warnings.append(f"{key} = {toml_value(value)} has no effect: {reason}; leave it out")
    return warnings


def _rules(recipe: Recipe, takes_clips: bool) -> list[Rule]:
    optimizer, clips = recipe.optimizer, [recipe.clips(name) for name in recipe.datasets]
    is_frozen, is_alone = recipe.freezes_backbone, len(recipe.sampled) == 1
    only_adapters = optimizer.lora is not None and not optimizer.lora.train
    rules = [
        ("optimizer.momentum", optimizer.name == "adamw", "AdamW has betas instead"),
        ("optimizer.drop_factor", optimizer.schedule == "cosine", "a cosine has no drops"),
        ("optimizer.decay_all", not optimizer.weight_decay, "weight_decay is 0"),
        ("optimizer.layer_decay", is_frozen, "the backbone is frozen"),
        *((f"optimizer.{key}", only_adapters, _FULL_RATE) for key in ("layer_decay", "backbone_rate")),
        ("training.activation_checkpointing", is_frozen and recipe.model.head == "linear", "the backbone is frozen"),
        ("training.micro_batches", not takes_clips, "a probe trains on features that are kept"),
        (
            "training.evaluate_every_epochs",
            not any(section.val for section in recipe.datasets.values()),
            "no dataset has a val manifest",
        ),
        ("training.reduction", is_alone, "there is one dataset"),
        ("data.rates", is_alone, "there is one dataset"),
        ("data.scale_jitter", all(own.random_resized_crop for own in clips), _REPLACED),
        ("data.cached_per_frame", not any(own.cache_frames for own in clips), _NOT_KEPT),
        ("augmentation.randaugment", not recipe.augmentation.randaugment.num_ops, _NO_OPERATIONS),
        ("fresh_heads", not recipe.init, "there is no init"),
    ]
    if recipe.media_kind != "image":  # pre-training on images shares [model] with what starts from it
        unused = recipe.model.unused_keys(has_init=bool(recipe.init))
        rules += [(f"model.{key}", True, reason) for key, reason in unused.items()]
    return rules


def _rules_of_dataset(recipe: Recipe, name: str, kind: Kind) -> list[Rule]:
    clips = recipe.clips(name)
    rules = [
        ("rate", len(recipe.sampled) == 1, "there is one dataset"),
        ("scale_jitter", clips.random_resized_crop is not None, _REPLACED),
        ("cached_per_frame", not clips.cache_frames, _NOT_KEPT),
        ("randaugment", not clips.randaugment.num_ops, _NO_OPERATIONS),
        *((key, kind == "image", "an image has one frame") for key in ("num_frames", "temporal_jitter", "sampling")),
    ]
    return [(f"datasets.{name}.{key}", is_unused, reason) for key, is_unused, reason in rules]


def _set_value(recipe: Recipe, key: str) -> object:
    """Return the value of a key as plain data; None if it is the default, which says nothing."""
    *place, name = key.split(".")
    section: Any = recipe
    for part in place:
        section = section[part] if isinstance(section, dict) else getattr(section, part)
    fields = type(section).model_fields | (ClipSection.model_fields if len(place) == 2 else {})
    if getattr(section, name) in (None, fields[name].default):
        return None
    return section.model_dump(mode="json", exclude_defaults=True)[name]


def _named(classes: list[str]) -> str:
    shown = ", ".join(map(repr, classes[:_MAX_NAMES]))
    return shown if len(classes) <= _MAX_NAMES else f"{shown}, …"
