"""What a Parquet shard says about its rows: their labels, the class names, and which column holds the media.

image {bytes, path}, annotation {bytes, path}, label     the media are image.bytes, by its usual name
photo_raw {bytes, path}, label                           the media are photo_raw.bytes, the only such column
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cover.datasets.class_list import number_of
from cover.datasets.names import Kind, composed
from cover.datasets.notices import examples, shown
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "class_id", "class_name", "category", "target", "cls")
_LFS = b"version https://git-lfs"

_USUAL: dict[str, Kind] = {
    **dict.fromkeys(("video", "videos", "mp4", "webm", "avi"), "video"),
    **dict.fromkeys(("image", "images", "img", "jpg", "jpeg", "png", "webp", "picture", "photo"), "image"),
}
"""Names of columns → what they hold. The first one that exists counts, because a video may have its cover beside it."""


def _open(shard: Path) -> pq.ParquetFile:
    """Open a shard. Raises ManifestError if it is not a Parquet file."""
    try:
        if not shard.is_file():
            raise OSError("it is a link that leads nowhere, or not a file")
        with shard.open("rb") as file:
            if file.read(len(_LFS)) == _LFS:
                raise OSError("it is a pointer of Git LFS; `git lfs pull` downloads the file itself")
        return pq.ParquetFile(shard)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{shard} is not a readable Parquet file ({_reason(error)}); download it again") from error


def label_column(shard: Path) -> pa.Field:
    """Return the column of the labels.

    Raises:
        ManifestError: There is none.
    """
    schema = _open(shard).schema_arrow
    columns = schema.names
    found = [column for wanted in _LABEL_COLUMNS for column in columns if column.lower() == wanted]
    if len(found) > 1:
        logger.warning("%s: columns %s could all be labels; %s counts", shard.parent, examples(found), found[0])
    if not found:
        raise ManifestError(
            f"{shard} has no readable column `label` (it has {examples(columns)}); rename the column of the labels"
        )
    return schema.field(found[0])


def read_labels(shard: Path, field: pa.Field, kind: Kind) -> list[str | None]:
    """Return the label of each row, or None if it has none.

    Args:
        shard: The file.
        field: The column of the labels.
        kind: What the dataset consists of.

    Raises:
        ManifestError: The shard does not have this column of numbers or names, has several labels in a row, or has no
            media of this kind.
    """
    file, column = _open(shard), field.name
    schema = file.schema_arrow
    if column not in schema.names or _is_text(schema.field(column).type) != _is_text(field.type):
        raise ManifestError(
            f"{shard} has no readable column `{column}` of {'names' if _is_text(field.type) else 'numbers'}, unlike "
            "other shards; index one configuration of a dataset"
        )
    _check_media(shard, file, kind)
    try:
        values = file.read(columns=[column]).column(0).to_pylist()
        try:
            texts = {value: _text(value) for value in set(values)}
        except TypeError:  # lists are not hashable
            return [_text(_single(value, shard, column)) for value in values]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(
            f"{shard} has no readable column `{column}` ({_reason(error)}); download it again"
        ) from error
    return [texts[value] for value in values]


def _is_text(type: pa.DataType) -> bool:
    """Whether labels are names. Bytes are, too; programs that do not declare UTF-8 write them."""
    while isinstance(type, pa.DictionaryType | pa.ListType | pa.LargeListType):
        type = type.value_type
    is_any_of = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_type(type) for is_type in is_any_of)


def _single(value: Any, shard: Path, column: str) -> Any:
    """Return the only label of a row with a list of labels."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if value:
        raise ManifestError(
            f"{shard}: `{column}` is {shown(str(value))}; a sample has one label, which is a number or a name"
        )
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or value != value else composed(str(value).strip())
    return text if text and (number_of(text) or 0) >= 0 else None


def _check_media(shard: Path, file: pq.ParquetFile, kind: Kind) -> None:
    """Refuse a shard without media, with media of the other kind, or with paths only."""
    metadata = file.metadata
    try:
        leaf = media_column(metadata.schema)
    except ValueError as error:
        raise ManifestError(f"{shard}: {error}") from error
    column = kind_of_column(leaf) or kind
    if column != kind:
        raise ManifestError(f"{shard} holds {column}s; index it with `cover index folder --kind {column}`")
    leaves = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    groups = [metadata.row_group(group).column(leaves.index(leaf)) for group in range(metadata.num_row_groups)]
    nulls = [group.statistics.null_count for group in groups if group.statistics and group.statistics.has_null_count]
    if sum(nulls) == metadata.num_rows > 0:
        raise ManifestError(f"{shard}: {leaf} is empty in all rows, so there is no content; download it again")
    if any(nulls):
        logger.warning("%s: %s is empty in %d of %d rows", shard, leaf, sum(nulls), metadata.num_rows)


def names_in_metadata(shard: Path, column: str) -> list[str] | None:
    """Return the class names that a hub has written into the schema, or None."""
    text = (_open(shard).schema_arrow.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        feature = json.loads(text)["info"]["features"][column]
        names = feature.get("names") or feature.get("feature", {}).get("names")
        if not isinstance(names, list | None):
            raise TypeError("names is not a list")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        logger.warning("%s: the metadata of `%s` cannot be read, so classes are named by their labels", shard, column)
        return None
    return [composed(str(name)) for name in names] if names else None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def media_column(schema: pq.ParquetSchema) -> str:
    """Return the leaf column with the content of the media: X.bytes of a struct, or X itself if it has a usual name.

    Indexing and decoding both use this function.

    Raises:
        ValueError: There is none, or several could be meant and none has a usual name.
    """
    leaves = [schema.column(index) for index in range(len(schema.names))]
    possible = [leaf for leaf in leaves if _may_hold_media(leaf.path)]
    binary: list[str] = [
        leaf.path for leaf in possible if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
    ]
    usual = [path for name in _USUAL for path in binary if _name(path) == name]
    if usual or len(binary) == 1:
        return (usual or binary)[0]
    if binary:
        raise ValueError(f"several columns could be meant ({', '.join(binary)}); call the right one image or video")
    if possible:
        raise ValueError(
            f"column {possible[0].path} contains no files, perhaps their paths; index these files with "
            "`cover index csv`, or download shards that contain them"
        )
    columns = examples(leaf.path for leaf in leaves)
    raise ValueError(f"there is no column image, video or bytes (it has {columns}); download another form")


def kind_of_column(path: str) -> Kind | None:
    """Return what a media column holds according to its name, or None if the name says nothing."""
    return _USUAL.get(_name(path))


def _name(path: str) -> str:
    return path.partition(".")[0].lower()


def _may_hold_media(path: str) -> bool:
    column, *inside = path.split(".")
    return inside == ["bytes"] or (not inside and (column == "bytes" or column.lower() in _USUAL))
