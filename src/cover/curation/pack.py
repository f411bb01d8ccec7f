"""Copy a dataset for training: small files in which every frame is cheap to reach, with their own manifest.

    manifests/k400-train.arrow           OUT/k400-train.arrow
    k400/train/yoga/a.webm       ──▶     OUT/k400-train/yoga/a.webm.mp4
    k400/train/yoga/b.mp4                OUT/k400-train/yoga/b.mp4

The new manifest has the same samples in the same order, with the same ids and labels, so recipes need no other change.
Samples that cannot be packed stay in it as unreadable.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
from PIL import Image

from cover.core.atomic_files import whole_file
from cover.curation.dataset_pass import DatasetPass
from cover.curation.packed_video import shorten, write_short_clip
from cover.curation.resume_log import CheckResult, ResumeLogs
from cover.datasets.manifest import FINDINGS, Manifest, ManifestRow, write_manifest
from cover.datasets.names import Kind, composed
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip, probe_row
from cover.media.pixels import scaled_size
from cover.media.source import MediaSource

_JPEG_QUALITY = 95

_SUFFIXES = {"video": (".mp4",), "image": (".jpg", ".jpeg")}

_MAX_PART_BYTES = 255  # of the name of a file or folder, in nearly all file systems

_MAX_BYTES = 1024  # of a whole name; with the folders above, systems allow 4096

_BY_DIGEST = re.compile(r"[^/]*~[0-9a-f]{32}\.\w+", re.IGNORECASE)

_READABLE = 40  # characters of the id in a name by digest


@dataclass(frozen=True)
class PackFormat:
    """The format of the copies.

    Attributes:
        short_side_px: The largest short side; larger frames are scaled down.
        num_frames: The most frames that a video keeps.
    """

    short_side_px: int = 320
    num_frames: int = 64


def pack(manifest: Manifest, out: Path, format: PackFormat) -> DatasetPass:
    """Return the pass that writes OUT/NAME.arrow and the copies beside it.

    Samples that a check has found unreadable are skipped.

    Args:
        manifest: The dataset to copy.
        out: The folder for the copies and their manifest.
        format: The format of the copies.

    Raises:
        CoverError: OUT is the manifest's own folder, or copies would lie among the original files.
    """
    packed = out.absolute() / manifest.path.name
    if packed.parent.resolve() == manifest.path.parent.resolve():
        raise CoverError(
            f"{out} contains {manifest.path.name} itself, which the copy would replace; choose another --out"
        )
    _check_apart(manifest, packed.with_suffix(""))
    names = PackedNames(manifest.table["sample_id"].to_pylist(), manifest.kind)
    logs = ResumeLogs(packed.with_suffix(".pack"), {"digest": manifest.digest, **vars(format)})
    return DatasetPass(
        manifest,
        f"packing {manifest.name} {manifest.split}",
        process=partial(_pack_row, manifest, packed, names, format),
        readable=[None] * len(manifest),
        logs=logs,
        finish=partial(_write_manifest, manifest, packed, names),
    )


def _check_apart(manifest: Manifest, copies: Path) -> None:
    folders = {os.path.dirname(path) for path in manifest.table["path"].to_pylist()}
    if within := [folder for folder in sorted(folders) if _is_within(manifest.root / folder, copies)]:
        raise CoverError(
            f"{manifest.root / within[0]} contains files of {manifest.path}, and copies would be written to {copies}; "
            "choose another --out"
        )


def _is_within(folder: Path, other: Path) -> bool:
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(other))


def num_bytes(manifest: Manifest, found: Mapping[int, CheckResult]) -> tuple[int, int]:
    """Return the total size of the originals and of the copies. A file with several samples counts once.

    Args:
        manifest: The original dataset.
        found: Row → result.
    """
    offsets = manifest.table["offset"].to_pylist()
    files = zip(manifest.table["path"].to_pylist(), offsets, strict=True)
    before, after = {}, 0
    for row, file in enumerate(files):
        if row in found and (sizes := found[row].num_bytes):
            before[file] = sizes[0]
            after += sizes[1]
    return sum(before.values()), after


def _pack_row(manifest: Manifest, packed: Path, names: PackedNames, format: PackFormat, row_number: int) -> CheckResult:
    row = manifest[row_number]
    if row.readable is False:
        return CheckResult(False, row.reason)
    copy = _copy_of(row, names, packed)
    try:
        with whole_file(copy.file, "then run the same command again to continue") as unfinished:
            if manifest.kind == "image":
                _write_image(unfinished, row, format.short_side_px)
            else:
                write_short_clip(unfinished, shorten(row, format.num_frames, format.short_side_px))
            info = probe_row(replace(copy, path=str(unfinished)), manifest.kind)
    except DecodeError as error:
        return CheckResult(False, error.reason)
    except av.FFmpegError as error:
        return CheckResult(False, f"it cannot be encoded ({error.strerror})")
    return replace(CheckResult.of(info), num_bytes=(_num_bytes(row), _num_bytes(copy)))


def _copy_of(row: ManifestRow, names: PackedNames, packed: Path) -> ManifestRow:
    """Return the row of a sample's copy, which is a file of its own."""
    path = f"{packed.stem}/{names.name_of(row.sample_id)}"
    copy = replace(row, path=path, offset=None, length=None, start_seconds=None, end_seconds=None, root=packed.parent)
    is_cut = row.start_seconds is not None or row.end_seconds is not None
    return replace(copy, **_origin(row)) if is_cut else copy


def _origin(row: ManifestRow) -> dict[str, Any]:
    """Return the source columns for a segment, because its copy no longer has its start and end."""
    start, end = row.start_seconds or 0.0, row.end_seconds
    if row.source_id is None:
        return {"source_id": row.path, "source_start_seconds": start, "source_end_seconds": end}
    first, last = row.source_start_seconds, row.source_end_seconds
    if first is None:
        return {}
    return {"source_start_seconds": first + start, "source_end_seconds": last if end is None else first + end}


def _write_image(path: Path, row: ManifestRow, short_side_px: int) -> None:
    image = Image.fromarray(decode_clip(row, "image", 1, short_side_px=short_side_px)[0])
    image.resize(scaled_size(*image.size, short_side_px), Image.Resampling.BICUBIC).save(
        path, "jpeg", quality=_JPEG_QUALITY
    )


def _num_bytes(row: ManifestRow) -> int:
    if row.is_folder:
        return sum(entry.stat().st_size for entry in os.scandir(row.file))
    with MediaSource.of(row).open() as media:
        return media.num_bytes


def _write_manifest(manifest: Manifest, packed: Path, names: PackedNames, found: Mapping[int, CheckResult]) -> Manifest:
    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(manifest):
            findings = {name: getattr(found[number], name) for name in FINDINGS}
            yield vars(_copy_of(row, names, packed)) | findings

    return write_manifest(
        packed,
        rows(),
        name=manifest.name,
        kind=manifest.kind,
        split=manifest.split,
        class_names=manifest.class_names,
        root=packed.parent,
    )


class PackedNames:
    """The names of the copies: each is a file below one folder, and packing again gives the same names.

    run/a.webm                 run/a.webm.mp4
    /data/../run/b.mp4         data/%2E%2E/run/b.mp4
    run/b.mp4, run/B.mp4       b~0c7f….mp4, B~93e1….mp4     the same file on systems that ignore case
    run/c.mp4, run/c.mp4/d     run/c.mp4, d~5a20….mp4       a file cannot have files below it

    A name is the sample's id, or contains a digest of the id if two ids would share a name.

    Args:
        sample_ids: The ids of all samples.
        kind: "video" or "image".
    """

    def __init__(self, sample_ids: Iterable[str], kind: Kind) -> None:
        self._suffixes = _SUFFIXES[kind]
        names = {sample_id: self._plain(sample_id) for sample_id in sample_ids}
        taken: dict[str, int] = {}
        for name in names.values():
            key = _key(name)
            taken[key] = taken.get(key, 0) + 1
        self._by_digest = frozenset(
            sample_id
            for sample_id, name in names.items()
            if not _is_possible(name) or taken[_key(name)] > 1 or any(above in taken for above in _above(_key(name)))
        )

    def name_of(self, sample_id: str) -> str:
        """Return the path of a sample's copy, relative to the folder of the copies."""
        if sample_id not in self._by_digest:
            return self._plain(sample_id)
        readable = sample_id.rstrip("/").rpartition("/")[2].removesuffix(self._suffixes[0])[:_READABLE]
        return f"{readable}~{hashlib.sha256(sample_id.encode()).hexdigest()[:32]}{self._suffixes[0]}"

    def _plain(self, sample_id: str) -> str:
        parts = sample_id.replace("..", "%2E%2E").split("/")
        name = "/".join(part for part in parts if part not in {"", "."})
        return name if name.lower().endswith(self._suffixes) else name + self._suffixes[0]


def _is_possible(name: str) -> bool:
    """Whether file systems allow a name, and it does not look like a name with a digest."""
    encoded = name.encode()
    parts = encoded.split(b"/")
    is_short = len(encoded) <= _MAX_BYTES and max(map(len, parts)) <= _MAX_PART_BYTES
    return is_short and parts != [b".mp4"] and _BY_DIGEST.fullmatch(name) is None


def _key(name: str) -> str:
    """Return a key that is equal for names that some systems treat as one file, ignoring case and Unicode form."""
    return composed(name.casefold())


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name
