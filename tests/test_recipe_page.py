"""docs/recipe.md has every key of a recipe, with its default."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cover.config.recipe import DatasetSection, Recipe

PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"


def documented() -> dict[str, str]:
    """ "SECTION.key" → what the page gives as its default."""
    found: dict[str, str] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if heading := re.fullmatch(r"## \[([a-z]+)(\.NAME)?\]", line):
            section = f"{heading[1]}."
        elif line.startswith("| `"):
            keys, defaults = line.split(" | ")[:2]
            names = re.findall(r"`([a-z_]+)`", keys)
            values = defaults.split(", ") if len(names) == defaults.count(", ") + 1 else [defaults] * len(names)
            found |= {f"{section}{name}": value for name, value in zip(names, values, strict=True)}
    return found


def shown(field: Any) -> str:
    if field.is_required():
        return "–"
    default = field.default
    if default is None or default == () or isinstance(default, BaseModel):
        return "none"
    return json.dumps(default)


def test_every_key_is_there_with_its_default() -> None:
    expected: dict[str, str] = {}
    for name, field in Recipe.model_fields.items():
        section = DatasetSection if name == "datasets" else type(field.default)
        if issubclass(section, BaseModel):
            expected |= {f"{name}.{key}": shown(value) for key, value in section.model_fields.items()}
        else:
            expected[name] = shown(field)
    assert documented() == expected
