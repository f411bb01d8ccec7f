"""What a manifest may contain. The same rules apply when it is written and when it is opened."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from cover.datasets.names import Kind
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("num_frames", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("rotation", pa.int32()),
        pa.field("source_id", pa.string()),
        pa.field("source_start_seconds", pa.float64()),
        pa.field("source_end_seconds", pa.float64()),
        pa.field("readable", pa.bool_()),
        pa.field("reason", pa.string()),
        pa.field("labels", pa.list_(pa.int32())),
        pa.field("label_weights", pa.list_(pa.float32())),
    ]
)

_BOUNDS: dict[str, tuple[float, float, str]] = {  # 1e9 seconds are 32 years
    "offset": (0, 2**62, "0 or more"),
    "length": (0, 2**62, "0 or more"),
    "start_seconds": (0, 1e9, "0 to 1e9"),
    "end_seconds": (0, 1e9, "0 to 1e9"),
    "num_frames": (0, 2**40, "0 to 2^40"),
    "fps": (1e-9, 1e9, "above 0 and up to 1e9"),
    "duration_seconds": (0, 1e9, "0 to 1e9"),
    "width": (1, 2**20, "1 to 2^20"),
    "height": (1, 2**20, "1 to 2^20"),
    "source_start_seconds": (-1e9, 1e9, "-1e9 to 1e9"),
    "source_end_seconds": (-1e9, 1e9, "-1e9 to 1e9"),
}


_NOT_IN_NAMES = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def _is_name(value: object) -> bool:
    """Whether terminals and lists can show it: no control characters and no lone surrogates."""
    return isinstance(value, str) and not _NOT_IN_NAMES.search(value)


def _is_folder(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


_METADATA_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: _is_name(value) and value != "", "a name without control characters"),
    "kind": (lambda value: value in get_args(Kind), "video or image"),
    "split": (lambda value: _is_name(value) and value and "/" not in value, "a name without / and control characters"),
    "class_names": (lambda value: isinstance(value, list) and len(value) > 0, "a list of one or more names"),
    "root": (_is_folder, "the path of a folder"),
    "relative_root": (lambda value: value is None or _is_folder(value), "the path of a folder"),
}


@dataclass(frozen=True)
class Metadata:
    """Facts about a whole split; the JSON in a manifest's schema.

    Attributes:
        name: The name of the dataset.
        kind: "video" or "image".
        split: The name of the split.
        class_names: In label order.
        root: The folder that paths are relative to: relative to the manifest's folder if it lies inside that, else
            absolute.
        relative_root: The same folder, always relative to the manifest's folder. None in files of older versions.
    """

    name: str
    kind: Kind
    split: str
    class_names: tuple[str, ...]
    root: str
    relative_root: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str) -> Metadata:
        """Check the values.

        Args:
            values: The JSON object.
            source: The manifest, for messages.

        Raises:
            ManifestError: A value is missing or invalid.
        """
        for key, (holds, rule) in _METADATA_RULES.items():
            if not holds(values.get(key)):
                value = f"= {ascii(values[key])[:80]}" if key in values else "is missing"
                raise ManifestError(f"{source}: {key} {value}; it must be {rule}: correct it and index again")
        class_names = values["class_names"]
        for name in class_names:
            if not _is_name(name):
                raise ManifestError(
                    f"{source}: class {ascii(name)[:80]} is not a name without control characters; rename it"
                )
        check_unique(f"class names of {source}", pa.chunked_array([class_names], pa.string()))
        return cls(**{key: values.get(key) for key in _METADATA_RULES} | {"class_names": tuple(class_names)})

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Metadata:
        """Read JSON that `to_json`, or another program, has written.

        Args:
            content: The JSON text.
            source: The manifest, for messages.

        Raises:
            ManifestError: It is not valid metadata.
        """
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ManifestError(f"{source} has no readable metadata; write it with `cover index`")
        return cls.of(values, source)

    def to_json(self) -> bytes:
        """Return the JSON text."""
        return json.dumps(asdict(self)).encode()


def check_rows(table: pa.Table, num_classes: int, source: str) -> None:
    """Check the rows of a manifest.

    Args:
        table: The rows.
        num_classes: The number of classes.
        source: The manifest, for messages.

    Raises:
        ManifestError: There are no rows, or a value is missing or out of bounds.
    """
    if not len(table):
        raise ManifestError(f"{source} has no samples; a manifest needs at least one")
    for column in ("sample_id", "path", "label"):
        if table[column].null_count:
            raise ManifestError(f"a sample of {source} has no {column}; every sample needs one")
    for column in ("sample_id", "path"):
        rule = "refused; a name must not contain NUL: rename the file and index again"
        _refuse(pc.match_substring(table[column], "\0"), table, column, rule, source)
    rule = f"outside its {num_classes} classes; labels are 0 to {num_classes - 1}: correct the label or the class list"
    _refuse(_outside(table["label"], 0, num_classes - 1), table, "label", rule, source)
    _check_lists(table, num_classes, source)
    for column, (low, high, bounds) in _BOUNDS.items():
        rule = f"out of bounds ({bounds}); correct it and index again"
        _refuse(_outside(table[column], low, high), table, column, rule, source)
    has_no_offset = pc.and_(table["length"].is_valid(), table["offset"].is_null())
    _refuse(has_no_offset, table, "length", "without an offset; give both or none and index again", source)
    ends_early = pc.less(table["end_seconds"], table["start_seconds"])
    _refuse(ends_early, table, "end_seconds", "before its start_seconds; correct it and index again", source)


def _check_lists(table: pa.Table, num_classes: int, source: str) -> None:
    """Check the lists of labels of a multi-label manifest, and their weights."""
    labels, weights = table["labels"], table["label_weights"]
    if labels.null_count not in (0, len(table)):
        raise ManifestError(f"some samples of {source} have a list of labels and others have none; give one to each")
    _refuse(pc.equal(pc.list_value_length(labels), 0), table, "labels", "empty; give the sample a class", source)
    lengths = pc.not_equal(pc.list_value_length(labels), pc.list_value_length(weights))
    if weights.null_count not in (0, len(table)) or (weights.null_count == 0 and labels.null_count):
        raise ManifestError(f"some samples of {source} have label_weights without labels; give both to each, or labels")
    _refuse(lengths, table, "label_weights", "not as long as its labels; give each label a weight", source)
    for column, low, high in (("labels", 0, num_classes - 1), ("label_weights", 0, 1)):
        values = pc.list_flatten(table[column])
        if len(values) and (pc.any(_outside(values, low, high)).as_py() or values.null_count):
            raise ManifestError(f"{column} of {source} have a value that is not from {low} to {high}; correct it")


def without_impossible(table: pa.Table, columns: Sequence[str], source: str) -> pa.Table:
    """Replace values that are out of bounds by nulls, with a warning for each column.

    Media files claim all kinds of things about themselves, and one such claim must not ruin hours of work.

    Args:
        table: The rows.
        columns: The columns to look at.
        source: The manifest, for messages.
    """
    for column, (low, high, bounds) in _BOUNDS.items():
        if column not in columns:
            continue
        is_wrong = pc.fill_null(_outside(table[column], low, high), False)
        if (row := pc.index(is_wrong, True).as_py()) >= 0:
            message = "%s: %s of %s values of %s, such as %s, are out of bounds (%s) and count as unknown"
            count, example = pc.sum(is_wrong).as_py(), table[column][row].as_py()
            logger.warning(message, source, f"{count:,}", f"{len(table):,}", column, example, bounds)
            field = SCHEMA.field(column)
            values = pc.if_else(is_wrong, pa.scalar(None, field.type), table[column])
            table = table.set_column(SCHEMA.get_field_index(column), field, values)
    return table


def check_unique(what: str, values: pa.ChunkedArray) -> None:
    """Check that no value occurs twice.

    Args:
        what: What the values are, for the message.
        values: The values.

    Raises:
        ManifestError: A value occurs twice.
    """
    if pc.count_distinct(values).as_py() == len(values):
        return
    counts = values.value_counts()
    twice = next(count["values"].as_py() for count in counts if count["counts"].as_py() > 1)
    raise ManifestError(f"{_brief(twice)} occurs more than once among the {what}; each must be unique")


def _outside(values: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    """Return which values are below `low`, above `high` or NaN; null for nulls."""
    return pc.invert(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))


def _refuse(is_wrong: pa.ChunkedArray, table: pa.Table, column: str, rule: str, source: str) -> None:
    row = pc.index(is_wrong, True).as_py()
    if row >= 0:
        value, sample_id = (_brief(table[name][row].as_py()) for name in (column, "sample_id"))
        raise ManifestError(f"{column} {value} of {source}'s sample {sample_id} is {rule}")


def _brief(value: object) -> str:
    """Return the value as one printable line of limited length."""
    text = str(value)
    return text if len(text) <= 80 and text.isprintable() else ascii(text)[:80]
