"""What a run starts from: `init` brings its `[model]` to a recipe that has none, and names its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cover.config.layers import read_layers
from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe, read_values
from cover.models.architecture import model_keys
from cover.models.checkpoints.source import Source
from cover.models.sources import open_source
from cover.runs.folder import RunFolder, run_of_checkpoint

_OF_HEADS = ("head", "pooler_depth", "pooler_heads")


def open_recipe(path: Path, overrides: Sequence[str] = (), *, resumed: RunFolder | None = None) -> Recipe:
    """Read a recipe for training; see `read_recipe` and `with_model_of_init`.

    Args:
        path: The TOML file.
        overrides: As for `read_recipe`.
        resumed: A run that continues, whose `[model]` then counts instead of that of `init`.

    Raises:
        RecipeError: The recipe has a fault.
        CheckpointError: `init` cannot be opened, or does not state its architecture.
    """
    values = read_values(path, overrides)
    return parse_recipe(with_model_of_init(values, str(resumed.path) if resumed else None), str(path))


def with_model_of_init(values: dict[str, Any], start: str | None = None) -> dict[str, Any]:
    """Give a recipe that names neither a family nor a variant the `[model]` of its `init`. Its own keys override that.

    Args:
        values: The recipe as plain data.
        start: Weights that count instead of `init`.

    Raises:
        CheckpointError: They cannot be opened, or do not state their architecture.
    """
    own, init = values.get("model", {}), start or values.get("init")
    if not init or not isinstance(own, dict) or {"family", "variant"} & own.keys():
        return values
    return values | {"model": _model_of(open_source(str(init)), own, is_frozen=values.get("policy") == "probe") | own}


def _model_of(source: Source, own: Mapping[str, Any], *, is_frozen: bool) -> dict[str, Any]:
    """Return the keys of `[model]` of a run's recipe, or those that describe weights of another origin."""
    run = run_of_checkpoint(source.path)
    if run is None:
        return model_keys(source, own, is_frozen=is_frozen)
    keys = read_layers(run.recipe_file, lambda layer, _: layer).get("model", {})
    return {key: value for key, value in keys.items() if not (is_frozen and key in _OF_HEADS)}


def init_label(init: str, source: Source) -> str:
    """Return what `init` stands for, such as "runs/a/checkpoints/step-12 (step 12, best)".

    Args:
        init: As the recipe has it.
        source: The weights that were opened.
    """
    run = run_of_checkpoint(source.path)
    if run is None:
        return init
    pointers = " and ".join(run.pointers_to(source.path)) or "neither best nor latest"
    return f"{source.path} ({source.path.name.replace('-', ' ')}, {pointers})"
