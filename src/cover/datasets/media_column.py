"""Which column of a Parquet file holds its images or videos: the same one when rows are indexed and when they are read.

image {bytes, path}, annotation {bytes, path}, label     image.bytes, by its usual name
photo_raw {bytes, path}, label                           photo_raw.bytes, the only one
"""

from __future__ import annotations

import pyarrow.parquet as pq

from cover.datasets.naming import Kind
from cover.datasets.notices import examples

_USUAL: dict[str, Kind] = {
    **dict.fromkeys(("video", "videos", "mp4", "webm", "avi"), "video"),
    **dict.fromkeys(("image", "images", "img", "jpg", "jpeg", "png", "webp", "picture", "photo"), "image"),
}
"""Names of columns → what they hold. Of several the first one counts: a video may have its cover beside it."""


def media_column(schema: pq.ParquetSchema) -> str:
    """The leaf column with the content of the media: X.bytes of a struct, or X itself if it is called as usual.

    Raises ValueError, with the reason, if there is none, or if several could be meant and none has a usual name.
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
            f"column {possible[0].path} holds no bytes of files, perhaps their paths; index these files with "
            "`cover index csv`, or fetch shards that hold them"
        )
    columns = examples(leaf.path for leaf in leaves)
    raise ValueError(f"there is no column image, video or bytes (it has {columns}); fetch another form")


def kind_of_column(path: str) -> Kind | None:
    """What the name of a media column says that it holds; None if it says nothing."""
    return _USUAL.get(_name(path))


def _name(path: str) -> str:
    return path.partition(".")[0].lower()


def _may_hold_media(path: str) -> bool:
    column, *inside = path.split(".")
    return inside == ["bytes"] or (not inside and (column == "bytes" or column.lower() in _USUAL))
