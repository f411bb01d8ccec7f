"""The keys of `[model]` for a model that exists: what weights bring to a recipe that says nothing about its model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from cover.config.layers import checked
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.source import Source
from cover.models.classifier import POOLER, head_of
from cover.models.config import ModelConfig
from cover.models.family import backbone_keys, configure, family_of, field_of


def model_keys(source: Source, own: Mapping[str, Any], *, is_frozen: bool = False) -> dict[str, Any]:
    """Return the keys of `[model]` that a source brings: its family, the nearest named size, and what differs from it.

    Args:
        source: The weights.
        own: Keys that the recipe sets. They count where the source states nothing.
        is_frozen: Whether the backbone is used as it is. Otherwise an image model brings the video model that starts
            from it, and an attentive head comes with the weights.

    Raises:
        CheckpointError: The source has no backbone, or does not state a size of its weights.
    """
    config, not_stated = source.config, source.not_stated
    if not any(not head_of(name) and not name.startswith(POOLER) for name in source.shapes):
        raise CheckpointError(f"{source.path} is {config.describe(not_stated)}")
    keys = keys_of(config, not_stated, own, as_video=not is_frozen)
    if keys is None:
        raise _open_size(source, [name for name in config.weight_sizes if name in not_stated])
    if config.pooler is not None and not is_frozen:
        keys |= {"head": "attentive", "pooler_depth": config.pooler.depth}
        keys |= {} if "pooler_heads" in not_stated else {"pooler_heads": config.pooler.num_heads}
    return keys


def complete_config(source: Source) -> ModelConfig:
    """Return the configuration of a source. Sizes that it does not state are those of the named size that it has.

    Raises:
        CheckpointError: It is no named size, or that does not state them either.
    """
    config = source.config
    unknown = [name for name in config.weight_sizes if name in source.not_stated]
    if not unknown:
        return config
    named = _configured(config, model_keys(source, {}, is_frozen=True))
    if still := [name for name in unknown if getattr(named, name) is None]:
        raise _open_size(source, still)
    return replace(config, **{name: getattr(named, name) for name in unknown})


def keys_of(
    config: ModelConfig,
    not_stated: Collection[str] = (),
    own: Mapping[str, Any] | None = None,
    *,
    as_video: bool = False,
) -> dict[str, Any] | None:
    """Return the keys of `[model]` that describe the backbone of a configuration, with as few as possible.

    Args:
        config: The configuration.
        not_stated: Its fields that mean nothing.
        own: Keys that count instead of such fields.
        as_video: Whether an image model is described as the video model that starts from it.

    Returns:
        The keys; None if a size of the weights is missing, which only a named size could tell.
    """
    config = config.settled()
    given = {key: value for key, value in (own or {}).items() if field_of(key) in not_stated}
    unknown = {name for name in config.weight_sizes if name in not_stated} - {field_of(key) for key in given}
    found = []
    for variant in family_of(config).variants:
        start: dict[str, Any] = {"family": config.family, "variant": variant}
        usual, image = (_configured(config, start, images_only=images).settled() for images in (False, True))
        keys = dict(given)
        for key in backbone_keys(family_of(config).section):
            name = field_of(key)
            value = getattr(config, name)
            if name in not_stated or value is None or (name, value) == ("num_frames", 1):
                continue
            if as_video:
                value = _of_video(value, getattr(usual, name), getattr(image, name))
            if value != getattr(usual, name):
                keys[key] = value
        if unknown and any(field_of(key) in config.weight_sizes for key in keys):
            continue  # a size of its own, which tells nothing about the unknown one
        if _has_sizes(config, start | keys, {*not_stated}):
            found.append(start | keys)
    return min(found, key=len, default=None)


def toml_block(keys: Mapping[str, Any]) -> str:
    """Return keys of `[model]` as a block to paste into a recipe, a key a line."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(["[model]  # or leave these keys out: the weights bring them", *lines])


def _of_video(value: Any, usual: Any, image: Any) -> Any:
    """Replace what only makes a model one of images, such as a window of one frame."""
    if isinstance(value, tuple) and len(value) == len(usual):
        return tuple(map(_of_video, value, usual, image))
    return usual if usual != image and value == image else value


def _has_sizes(config: ModelConfig, keys: Mapping[str, Any], not_stated: Collection[str]) -> bool:
    """Return whether keys of `[model]` lead to the sizes of a configuration."""
    try:
        found = _configured(config, keys).settled()
    except CoverError:
        return False
    return all(getattr(found, name) == getattr(config, name) for name in config.weight_sizes if name not in not_stated)


def _configured(config: ModelConfig, keys: Mapping[str, Any], *, images_only: bool = False) -> ModelConfig:
    """Return the configuration of the same family that keys of `[model]` describe."""
    section = checked(family_of(config).section, dict(keys), "[model]")
    return configure(section, {}, images_only=images_only)


def _open_size(source: Source, names: list[str]) -> CheckpointError:
    if not names:
        return CheckpointError(
            f"{source.path} ({source.format}) has sizes that [model] cannot express; use other weights"
        )
    keys = [f"model.{name.removesuffix('_px')}" for name in names]
    return CheckpointError(
        f"{source.path} ({source.format}) does not state its {' and '.join(names)}, and it is no named size that does; "
        f"set {' and '.join(keys)} in a recipe that starts from it, or give it to cover.create_model, then load_weights"
    )
