"""TOML files as sections: frozen, checked settings with defaults.

`extends = "base.toml"`, or a list of such parts, fills in what a file does not say: the parts are laid over each other
in their order, the file over all. Their paths are relative to the file; a part extends nothing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cover.errors import RecipeError
from cover.text_files import read_text

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Common rules: no unknown keys, no silent conversion of types, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


AnySection = TypeVar("AnySection", bound=Section)


def read_layers(path: Path) -> dict[str, Any]:
    """The contents of a TOML file laid over those of the parts it extends. Raises RecipeError."""
    own = _read_toml(path)
    values: dict[str, Any] = {}
    for layer in [*_read_parts(path, own.pop("extends", [])), own]:
        values = overlaid(values, layer)
    return values


def checked(kind: type[AnySection], values: dict[str, Any], source: str) -> AnySection:
    """Plain data as a section of that kind. Raises RecipeError naming the key, the value and the rule."""
    try:
        # JSON mode: lists become tuples and strings paths, while numbers and strings are not taken for each other.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise RecipeError(f"{source}: {_explained(error, kind)}") from None


def _explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first fault in a line; a misspelt key goes before all others, since the right one is missing then."""
    faults = error.errors()
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {_known_keys(kind, fault['loc'])}"
    if fault["type"] == "too_short":
        return f"{key} = {fault['input']!r}: it takes {fault['ctx']['min_length']} or more"
    if fault["type"] == "missing" and isinstance(fault["loc"][-1], int):
        return f"{key.rpartition('.')[0]} takes more values than {fault['loc'][-1]}"
    if fault["type"] == "missing":
        return f"{key!r} is missing; it has no default"
    is_no_list = fault["type"] == "tuple_type"
    message = "it is a list; write [ ] around its values" if is_no_list else fault["msg"].removeprefix("Value error, ")
    shown = "" if not key else f"{key} = {fault['input']!r}: "
    return f"{shown}{message[:1].lower()}{message[1:]}"


def _known_keys(section: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys of the section that a location, which ends with an unknown key, is in."""
    for part in location[:-1]:
        if str(part) in section.model_fields:
            section = _section_in(section.model_fields[str(part)].annotation) or section
    return "known here: " + ", ".join(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, be it several of them by name or in a row."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; give the path of a TOML file") from None
    except RecursionError:
        raise RecipeError(f"{path} is not a readable TOML file: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} is not a readable TOML file: {error}") from None


def _read_parts(path: Path, extends: object) -> list[dict[str, Any]]:
    """What the file at `path` extends, in the order of the list."""
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecipeError(f'{path}: extends = {extends!r} is neither a file nor a list of files; write ["a.toml"]')
    parts = [_read_toml(path.parent / name) for name in names]
    for name, part in zip(names, parts, strict=True):
        if "extends" in part:
            raise RecipeError(f"{path}: extends {name!r}, which extends something itself; name that in {path.name} too")
    return parts


def nested(key: str, value: object) -> dict[str, Any]:
    """The value in tables, as TOML reads `key = value`: "a.b", 1 → {"a": {"b": 1}}."""
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def flattened(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """The values in one table: {"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}{separator}{name}": part for name, part in flattened(value, separator).items()}
        else:
            flat[key] = value
    return flat


def overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, table by table."""
    both = {
        key: overlaid(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both
