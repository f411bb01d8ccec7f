"""Which samples of a manifest can be decoded, and why not the others; noted in the manifest itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from cover.catalog.manifest import FINDINGS, Manifest, ManifestRow, write_findings
from cover.catalog.suffixes import Kind
from cover.errors import DecodeError
from cover.media.decode import decode_clip, probe_row
from cover.preparation.journal import Finding, Journals, Shard
from cover.preparation.survey import Survey


def check(manifest: Manifest, survey: Survey, *, num_frames: int, again: bool = False) -> Manifest:
    """Decode what training would read of every sample, and write what came of it into the manifest.

    Samples that were checked before are left out; with `again`, only those that were readable. It goes on where an
    interrupted call, or shards, have come to.
    """
    journals = _journals(manifest)
    _check_rows(manifest, Shard(), journals.findings(), survey, num_frames=num_frames, again=again)
    return _write_back(manifest, journals, journals.findings())


def check_shard(
    manifest: Manifest, shard: Shard, survey: Survey, *, num_frames: int, again: bool = False
) -> dict[int, Finding]:
    """The same for a part of the rows: the manifest stays as it is until `merge_check` is called."""
    journals = _journals(manifest)
    _check_rows(manifest, shard, journals.of(shard).findings, survey, num_frames=num_frames, again=again)
    return journals.of(shard).findings


def merge_check(manifest: Manifest) -> Manifest:
    """Write what all shards have found into the manifest. Raises CoverError when one is missing or not done."""
    journals = _journals(manifest)
    return _write_back(manifest, journals, journals.merged_findings())


def inspect(row: ManifestRow, kind: Kind, num_frames: int) -> Finding:
    """Decode a sample as training does, whatever was found out about it before."""
    row = replace(row, readable=None)
    try:
        decode_clip(row, kind, num_frames)
        info = probe_row(row, kind)
    except DecodeError as error:
        return Finding(False, error.reason)
    return Finding(
        True, None, info.num_frames, info.fps, info.duration_seconds, info.width_px, info.height_px, info.rotation
    )


def _journals(manifest: Manifest) -> Journals:
    return Journals(manifest.path.with_suffix(".check"), {"digest": manifest.digest})


def _check_rows(
    manifest: Manifest, shard: Shard, found: Mapping[int, Finding], survey: Survey, *, num_frames: int, again: bool
) -> None:
    readable = manifest.table["readable"].to_pylist()
    for row, finding in found.items():
        readable[row] = finding.readable
    rows = [row for row in shard.rows(len(manifest)) if readable[row] is None or (again and not readable[row])]
    look = partial(_inspect_row, manifest, num_frames)
    survey.run(look, rows, _journals(manifest).of(shard), f"checking {manifest.name} {manifest.split}")


def _inspect_row(manifest: Manifest, num_frames: int, row: int) -> Finding:
    return inspect(manifest[row], manifest.kind, num_frames)


def _write_back(manifest: Manifest, journals: Journals, found: Mapping[int, Finding]) -> Manifest:
    """Into the manifest; what a file does not tell, such as the frame rate of images, stays as it was."""
    columns: dict[str, list[Any]] = {name: manifest.table[name].to_pylist() for name in FINDINGS}
    for row, finding in found.items():
        for name, value in vars(finding).items():
            if value is not None or name == "reason":
                columns[name][row] = value
    checked = write_findings(manifest, columns)
    journals.delete()
    return checked
