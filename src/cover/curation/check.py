"""Find out which samples of a manifest can be decoded, and record in the manifest why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cover.curation.dataset_pass import DatasetPass
from cover.curation.resume_log import CheckResult, ResumeLogs
from cover.datasets.manifest import FINDINGS, Manifest, write_findings
from cover.errors import DecodeError
from cover.media.decode import decode_clip, probe_row


def check(manifest: Manifest, *, num_frames: int) -> DatasetPass:
    """Return the pass that decodes the same frames as training and writes the results into the manifest.

    Samples that were checked before are skipped.

    Args:
        manifest: The manifest to check.
        num_frames: Frames of a video to decode, T.
    """
    logs = ResumeLogs(manifest.path.with_suffix(".check"), {"digest": manifest.digest})
    return DatasetPass(
        manifest,
        f"checking {manifest.name} {manifest.split}",
        process=partial(_inspect, manifest, num_frames),
        readable=manifest.table["readable"].to_pylist(),
        logs=logs,
        finish=partial(_write_back, manifest, logs),
    )


def _inspect(manifest: Manifest, num_frames: int, row_number: int) -> CheckResult:
    row = replace(manifest[row_number], readable=None, duration_seconds=None)  # which an earlier check may have found
    try:
        decode_clip(row, manifest.kind, num_frames)
        return CheckResult.of(probe_row(row, manifest.kind))
    except DecodeError as error:
        return CheckResult(False, error.reason)


def _write_back(manifest: Manifest, logs: ResumeLogs, found: Mapping[int, CheckResult]) -> Manifest:
    """Write the results into the manifest.

    What a file does not state, such as the frame rate of a frame folder, stays as it was.
    """
    columns: dict[str, list[Any]] = {name: manifest.table[name].to_pylist() for name in FINDINGS}
    for row, result in found.items():
        for name in FINDINGS:
            value = getattr(result, name)
            if value is not None or name == "reason":
                columns[name][row] = value
    checked = write_findings(manifest, columns)
    logs.delete()
    return checked


def unreadable_rows(manifest: Manifest) -> dict[int, str]:
    """Return row → reason for all samples that a check has found unreadable."""
    rows = np.flatnonzero(manifest.table["readable"].fill_null(True).to_numpy() == 0)
    reasons = manifest.table["reason"].take(rows).to_pylist()
    return dict(zip(rows.tolist(), reasons, strict=True))


def unreadable_among(results: Mapping[int, CheckResult]) -> dict[int, str]:
    """Return row → reason for all unreadable samples among the results of a shard."""
    return {row: str(result.reason) for row, result in results.items() if not result.readable}
