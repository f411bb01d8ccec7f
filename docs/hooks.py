"""mkdocs hook: replaces each mark `<!-- generated: NAME -->` in a page with reference material made from the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

COLUMNS = ("Key", "Default", "Values", "Meaning")
PAPER = Path(__file__).parents[1] / "src" / "cover" / "recipes" / "paper"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with the text of each page. Raises KeyError for a mark with an unknown name."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda mark: GENERATORS[mark[1]](), markdown)


def recipe_keys() -> str:
    """A table for each section of a recipe. `[model]` has one of the keys that families share, then one per family."""
    from cover.config.families import BUILT_IN, DEFAULT, ModelSection, find_family
    from cover.config.recipe_files import recipe_class

    sections = _sections(recipe_class(find_family(DEFAULT).section))
    shared = ModelSection.model_json_schema()
    shared["properties"]["family"]["enum"] = list(BUILT_IN)
    shared["description"] += " All families share these keys. The tables below have the keys and defaults of each."
    families = {name: find_family(name).section.model_json_schema()["properties"] for name in BUILT_IN}
    common = {key: value for key, value in shared["properties"].items() if key != "variant"}
    sections["`[model]`"] = shared | {"properties": common}
    tables = _headed_tables(sections)
    for name, keys in families.items():
        own = {key: value for key, value in keys.items() if key != "family" and value != common.get(key)}
        tables["`[model]`"] += (
            f'\n### `[model]` with `family = "{name}"`\n\n{_table(COLUMNS, _rows({"properties": own}))}'
        )
    return "\n\n".join(tables.values())


def study_keys() -> str:
    """A table for each section of a study."""
    from cover.studies.spec import Study

    return "\n\n".join(_headed_tables(_sections(Study)).values())


def paper_recipes() -> str:
    """The recipes of the paper's tables, as their headers describe them."""
    rows = []
    for path in sorted(PAPER.glob("*.toml")):
        comments = path.read_text().partition("\n\n")[0].splitlines()
        header = " ".join(line.lstrip("# ") for line in comments)
        task, expected = header.partition(" Command:")[0], header.partition("Expected: ")[2]
        rows.append((f"`{path.stem}`", task, expected.partition(" Published, not reproduced")[0]))
    return _table(("Recipe", "Trains", "Published result (not reproduced)"), rows)


def commands() -> str:
    """Every command with its arguments and options, as typer documents them."""
    typer = [sys.executable, "-m", "typer", "cover.cli", "utils", "docs", "--name", "cover"]
    text = subprocess.run(typer, capture_output=True, text=True, check=True).stdout
    text = text.replace("**Usage**:\n\n", "")
    text = re.sub("\\* `(?:-., )?--(?:help|verbose|quiet)`: .*\n", "", text)  # all commands have them
    return "## " + text.partition("\n## ")[2].replace("**Options**:\n\n\n", "")


GENERATORS: dict[str, Callable[[], str]] = {
    "recipe_keys": recipe_keys,
    "study_keys": study_keys,
    "paper_recipes": paper_recipes,
    "commands": commands,
}


def _sections(model: type[BaseModel]) -> dict[str, Any]:
    """{heading: JSON schema} of the top level of a TOML file and of each of its sections."""
    schema = model.model_json_schema()
    sections = {"Top level": schema}
    for key, value in schema["properties"].items():
        places = (
            (value, f"[{key}]"),
            (value.get("additionalProperties"), f"[{key}.NAME]"),
            (value.get("items"), f"[[{key}]]"),
        )
        for place, heading in places:
            if isinstance(place, dict) and "$ref" in place:
                sections[f"`{heading}`"] = schema["$defs"][place["$ref"].rpartition("/")[2]]
    return sections


def _headed_tables(sections: dict[str, Any]) -> dict[str, str]:
    """{heading: its table with heading and description}."""
    return {
        heading: f"## {heading}\n\n{section['description']}\n\n{_table(COLUMNS, _rows(section))}"
        for heading, section in sections.items()
    }


def _rows(section: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """A row for each key: the columns of COLUMNS."""
    required = section.get("required", ())
    return [
        (f"`{key}`", "required" if key in required else _default(value), _values(value), value["description"])
        for key, value in section["properties"].items()
        if "description" in value  # the others are sections
    ]


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "none" if default in (None, []) or isinstance(default, dict) else f"`{json.dumps(default)}`"


_TYPES: dict[str, str] = {"boolean": "true, false", "array": "list", "object": "table"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _values(value: dict[str, Any]) -> str:
    """The values that a key takes, from its JSON schema."""
    if "anyOf" in value:
        return " or ".join(_values(choice) for choice in value["anyOf"] if choice.get("type") != "null")
    if "const" in value or "enum" in value:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in value.get("enum", [value.get("const")]))
    name: str = value.get("format") or value.get("type", "object")
    if "exclusiveMinimum" in value:
        value = {key: bound for key, bound in value.items() if key != "minimum"}
    bounds = ", ".join(f"{sign}&nbsp;{value[bound]}" for bound, sign in _BOUNDS.items() if bound in value)
    return f"{_TYPES.get(name, name)}&nbsp;{bounds}" if bounds else _TYPES.get(name, name)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
