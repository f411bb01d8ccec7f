"""Recipes from TOML files, `--set` and plain data: read in layers, then checked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model, model_validator

from cover.config.data_sections import dataset_class
from cover.config.families import DEFAULT, ModelSection, find_family
from cover.config.layers import checked, nested, overlaid, read_layers, with_base
from cover.config.recipe import PATH_KEYS, Recipe
from cover.config.recipe_rules import RULES
from cover.config.training_sections import ADAMW_RATE
from cover.errors import RecipeError

PACKAGED = Path(__file__).resolve().parents[1] / "recipes"


class CheckedRecipe(Recipe):
    """One experiment, whose keys fit each other."""

    @model_validator(mode="after")
    def _check(self) -> CheckedRecipe:
        for rule in RULES:
            rule(self)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process gets plain data: the class is made at run time, for the family of the model.
        return parse_recipe, (self.model_dump(mode="json", exclude_none=True), "a recipe")


def read_recipe(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> Recipe:
    """Read and check a recipe, and make its paths absolute.

    Args:
        path: The TOML file.
        overrides: "a.b=value", with a TOML value or a bare word for a string. Their paths start from the current
            folder.
        base: Folder that the paths in the file start from; the file's own folder by default.

    Raises:
        RecipeError: With the key, the value and the rule.
    """
    return parse_recipe(read_values(path, overrides, base=base), str(path))


def read_values(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> dict[str, Any]:
    """Read a recipe as plain data with absolute paths, unchecked. Arguments as for `read_recipe`.

    Raises:
        RecipeError: A file is missing or is not TOML.
    """
    values = read_layers(path, lambda layer, file: with_base(layer, PATH_KEYS, base or _base(file)))
    for override in overrides:
        values = overlaid(values, with_base(_parse_override(override), PATH_KEYS, Path()))
    return values


def parse_recipe(values: dict[str, Any], source: str) -> Recipe:
    """Check a recipe given as plain data. source: its name in messages. Raises RecipeError."""
    model = values.get("model")
    name = model.get("family", DEFAULT) if isinstance(model, dict) else DEFAULT
    try:
        family = find_family(str(name))
    except RecipeError as error:
        raise RecipeError(f"{source}: model.family: {error}") from None
    return checked(recipe_class(family.section), _with_rate(values), source)


def _with_rate(values: dict[str, Any]) -> dict[str, Any]:
    """Set the default rate of AdamW. (A validator "before" would see JSON's lists, which are no tuples.)"""
    optimizer = values.get("optimizer")
    if isinstance(optimizer, dict) and optimizer.get("name") == "adamw":
        return overlaid({"optimizer": {"learning_rate": ADAMW_RATE}}, values)
    return values


@cache
def recipe_class(section: type[ModelSection]) -> type[Recipe]:
    """The type of recipes whose `[model]` is that section."""
    default = section.model_validate({})
    dataset: Any = dataset_class()
    sections: dict[str, Any] = {
        "model": (section, default),
        "datasets": (Annotated[dict[str, dataset], Field(min_length=1)], ...),
    }
    return create_model("Recipe", __base__=CheckedRecipe, __module__=__name__, __doc__=Recipe.__doc__, **sections)


def _base(file: Path) -> Path:
    """The folder that the paths in a recipe start from: the current one for recipes of this package."""
    return Path() if file.resolve().is_relative_to(PACKAGED) else file.parent


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override!r} is not of the form key=value; write --set training.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return nested(key.strip(), value)
