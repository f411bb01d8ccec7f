"""TOML files as sections: frozen, checked settings with defaults.

`extends = "base.toml"`, or a list of such parts, sets what a file does not say. Later parts override earlier ones, and
the file overrides them all. Paths are relative to the file that has them. A part cannot extend anything itself.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cover.core.text_files import read_text
from cover.errors import RecipeError

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Common rules: no unknown keys, no silent conversion of types, no change after reading.

    The docstring below a key is its description in the reference pages of the docs.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


AnySection = TypeVar("AnySection", bound=Section)


Rebase = Callable[[dict[str, Any], Path], dict[str, Any]]
"""(values of a file, the file) → the values with absolute paths."""


def read_layers(path: Path, rebase: Rebase) -> dict[str, Any]:
    """Read a TOML file and the parts that it extends, which it overrides.

    Args:
        path: The file.
        rebase: Makes the paths of each file absolute.

    Raises:
        RecipeError: A file is missing or is not TOML, or a part extends something itself.
    """
    own = _read_toml(path)
    parts = [(path.parent / name, _read_part(path, name)) for name in _part_names(path, own.pop("extends", []))]
    values: dict[str, Any] = {}
    for file, layer in [*parts, (path, own)]:
        values = overlaid(values, rebase(layer, file))
    return values


def with_base(values: dict[str, Any], path_keys: Sequence[str], base: Path) -> dict[str, Any]:
    """The values with absolute paths under `path_keys`: relative ones start from the folder `base`."""
    return map_paths(values, path_keys, lambda path: absolute_path(path, base))


def absolute_path(path: str, base: Path) -> str:
    """A path that starts from the folder `base`, or from the home folder if it begins with ~."""
    return os.path.normpath(base.resolve() / os.path.expanduser(path))


def map_paths(values: dict[str, Any], path_keys: Sequence[str], change: Callable[[str], str]) -> dict[str, Any]:
    """The values with `map_path` applied to each path under `path_keys`."""
    changed: Any = values
    for key in path_keys:
        changed = _map_at(changed, key.split("."), change)
    return dict(changed)


def map_path(value: str, change: Callable[[str], str]) -> str:
    """Apply `change` to a path. "" and addresses with :// stay as they are."""
    return change(value) if value and "://" not in value else value


def _map_at(values: Any, parts: Sequence[str], change: Callable[[str], str]) -> Any:
    if isinstance(values, list):
        return [_map_at(value, parts, change) for value in values]
    if not parts:
        return map_path(str(values), change) if isinstance(values, str | Path) else values
    if not isinstance(values, dict):
        return values
    names = values if parts[0] == "*" else {parts[0]} & values.keys()
    return values | {name: _map_at(values[name], parts[1:], change) for name in names}


def checked(kind: type[AnySection], values: dict[str, Any], source: str) -> AnySection:
    """Validate plain data as a section. Raises RecipeError with the key, the value and the rule."""
    try:
        # JSON mode accepts lists as tuples and strings as paths, but no strings as numbers.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise RecipeError(f"{source}: {_explained(error, kind)}") from None


def reason_of(error: Exception) -> str:
    """What is wrong with a file, without pydantic's other lines."""
    return str(error.errors()[0]["msg"] if isinstance(error, ValidationError) else error)


def _explained(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first fault, in one line. A misspelt key comes first, because then the correct key is missing, too."""
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
    if fault["type"] == "model_type":
        section = _section_at(kind, fault["loc"])
        name, field = next(iter(section.model_fields.items()))
        example = "…" if field.is_required() else json.dumps(field.default)
        keys = ", ".join(section.model_fields)
        return f"{key} = {fault['input']!r}: it is a table, such as {{ {name} = {example} }}; known here: {keys}"
    is_no_list = fault["type"] == "tuple_type"
    message = "it is a list; write [ ] around its values" if is_no_list else fault["msg"].removeprefix("Value error, ")
    shown = "" if not key else f"{key} = {fault['input']!r}: "
    return f"{shown}{message[:1].lower()}{message[1:]}"


def _known_keys(section: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys of the section that contains an unknown key. location: ends with that key."""
    section = _section_at(section, location[:-1])
    near = _nearest(section, str(location[-1]))
    suggested = f"did you mean {near!r}? " if near else ""
    return f"{suggested}known here: {', '.join(section.model_fields)}"


def _nearest(section: type[BaseModel], key: str) -> str | None:
    """The key of a section, or of one of its sections, that looks most like an unknown one: "epochs" →
    "training.epochs"."""
    keys = {name: name for name in section.model_fields}
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):  # not a table of named ones, such as datasets
            keys = {each: f"{name}.{each}" for each in inner.model_fields} | keys
    near = difflib.get_close_matches(key, keys, n=1)
    return keys[near[0]] if near else None


def _section_at(section: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for part in location:
        if str(part) in section.model_fields:
            section = _section_in(section.model_fields[str(part)].annotation) or section
    return section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone or as the items of a table or list."""
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
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{path} is not a readable TOML file: {reason}") from None


def _part_names(path: Path, extends: object) -> list[str]:
    """The files that a file extends, in order."""
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecipeError(f'{path}: extends = {extends!r} is neither a file nor a list of files; write ["a.toml"]')
    return names


def _read_part(path: Path, name: str) -> dict[str, Any]:
    part = _read_toml(path.parent / name)
    if "extends" in part:
        raise RecipeError(f"{path}: extends {name!r}, which extends something itself; name that in {path.name} too")
    return part


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
    """Merge two tables. Values of `over` win; tables in them are merged in turn."""
    both = {
        key: overlaid(base[key], value)
        for key, value in over.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | over | both


def toml_value(value: object) -> str:
    """Return a value as a recipe writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
