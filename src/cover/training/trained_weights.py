"""Which weights learn, by patterns of their names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from cover.errors import RecipeError
from cover.models.classifier import BACKBONE, VideoClassifier, saved_name

NUM_SUGGESTED = 3


def freeze(model: VideoClassifier, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names match one of the patterns. The others stay as they are.

    Args:
        model: May be on the meta device.
        patterns: `optimizer.freeze`, for names as files have them.

    Raises:
        RecipeError: A pattern matches nothing, or no parameter is left to train.
    """
    parameters = {saved_name(name): parameter for name, parameter in model.named_parameters()}
    for name in matching(patterns, parameters, "optimizer.freeze"):
        parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise RecipeError(f"optimizer.freeze = {list(patterns)} leaves no weight to train; name fewer of them")


def matching(patterns: Iterable[str], names: Iterable[str], key: str) -> list[str]:
    """Return the names that match one of the patterns, in their own order.

    Args:
        patterns: With * for any characters, dots included, ? for one, and [01] for one of several.
        names: Of parameters or layers.
        key: Where the patterns stand in the recipe, for the message.

    Raises:
        RecipeError: A pattern matches nothing. The message has the nearest names.
    """
    known, patterns = list(names), list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise RecipeError(
                f"{key}: {pattern!r} matches nothing; the nearest are {', '.join(nearest(pattern, known))}"
            )
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]


def nearest(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that look most like a pattern: ends of names if it begins with *, beginnings if it ends so."""
    known = list(names)
    parts = [name.split(".") for name in known]
    if pattern.startswith("*"):
        known = [f"*{part[-1]}" for part in parts]
    elif pattern.endswith("*"):
        known = [".".join([*part[:length], "*"]) for part in parts for length in range(1, len(part))]
    return difflib.get_close_matches(pattern, dict.fromkeys(known), n=NUM_SUGGESTED, cutoff=0)


def backward_share(model: VideoClassifier) -> float:
    """Return the share of the backbone that the backward pass goes through: from its first layer that learns."""
    learning = [
        model.layer_of(name)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith(BACKBONE)
    ]
    if not learning:
        return 0.0
    last = model.num_layers  # layer 0 embeds the input; the last one is a norm: both take next to no time
    return min(1.0, (last - min(learning)) / max(1, last - 1))
