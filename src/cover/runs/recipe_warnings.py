"""What is probably not meant in a recipe with these data: a line for each, with the value, the rule and the remedy."""

from __future__ import annotations

import numpy as np

from cover.config.recipe import Recipe
from cover.datasets.class_list import names_side
from cover.runs.adapters import losses_of
from cover.runs.data import Manifests
from cover.training.optimizer import learning_rate
from cover.training.packed_batch import ONE_CLASS

_MAX_NAMES = 3


def recipe_warnings(recipe: Recipe, training: Manifests, steps_per_epoch: float, num_steps: int) -> list[str]:
    """Return warnings about classes and about the schedule.

    Args:
        recipe: What to train.
        training: The training samples of each dataset.
        steps_per_epoch: May be fractional.
        num_steps: The length of the run.
    """
    return [*_about_classes(recipe, training), *_about_schedule(recipe, steps_per_epoch, num_steps)]


def _about_classes(recipe: Recipe, training: Manifests) -> list[str]:
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
        if recipe.clips(name).horizontal_flip and sided:
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


def _named(classes: list[str]) -> str:
    shown = ", ".join(map(repr, classes[:_MAX_NAMES]))
    return shown if len(classes) <= _MAX_NAMES else f"{shown}, …"
