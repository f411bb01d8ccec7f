"""Reads a study from its TOML file: layers, relative paths, and arms that inherit from each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cover.config.layers import absolute_path, checked, flattened, map_paths, overlaid, read_layers, with_base
from cover.config.recipe import PATH_KEYS
from cover.errors import RecipeError
from cover.studies.spec import Study, arm_named

_PATH_KEYS = [f"{part}{key}" for part in ("", "recipe.", "arms.*.recipe.") for key in PATH_KEYS if key != "init"]
"""Keys of a study that hold paths: those of its datasets, and those of its recipes."""


def read_study(path: Path) -> Study:
    """Read and check a study.

    Raises:
        RecipeError: The file is not a study; the message names the key, the value and the rule.
    """
    values = _dotted_tune(read_layers(path, _with_absolute_paths))
    if isinstance(arms := values.get("arms"), dict):
        whole = {name: _whole_arm(name, arms, str(path)) for name in arms}
        values["arms"] = {name: _dotted_tune(arm) if isinstance(arm, dict) else arm for name, arm in whole.items()}
    study = checked(Study, values, str(path))
    return study.model_copy(update={"results": path.parent / study.results})


def _with_absolute_paths(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """Resolve relative paths against the folder of their file. An `init` may name an arm instead of a path."""

    def absolute(init: str) -> str:
        return absolute_path(init, file.parent) if arm_named(init) != init else init

    return map_paths(with_base(values, _PATH_KEYS, file.parent), ("init", "arms.*.init"), absolute)


def _dotted_tune(values: dict[str, Any]) -> dict[str, Any]:
    """Put the dots back into the keys of `tune`, which TOML reads as tables if they are not quoted."""
    return values | {"tune": flattened(values["tune"])} if isinstance(values.get("tune"), dict) else values


def _whole_arm(name: str, arms: dict[str, Any], source: str, path: tuple[str, ...] = ()) -> Any:
    """An arm as TOML has it, merged over the arm that it is `like`. `path` has the arms that inherit from it."""
    arm = arms[name]
    if not isinstance(arm, dict) or "like" not in arm:
        return arm
    other = arm["like"]
    if name in path:
        raise RecipeError(f"{source}: arms {' → '.join([*path, name])} are like each other in a circle; remove a like")
    if not isinstance(other, str) or not isinstance(arms.get(other), dict):
        raise RecipeError(f"{source}: arms.{name} is like {other!r}, which is not an arm; known are {', '.join(arms)}")
    whole = _whole_arm(other, arms, source, (*path, name))
    recipes = {"recipe": overlaid(whole["recipe"], arm["recipe"])} if "recipe" in whole and "recipe" in arm else {}
    return whole | arm | recipes
