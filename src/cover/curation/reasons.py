"""Which samples were found unreadable, and why."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cover.curation.resume_log import CheckResult
from cover.datasets.manifest import Manifest


def unreadable_rows(manifest: Manifest) -> dict[int, str]:
    """Row → reason of what a check has found unreadable."""
    rows = np.flatnonzero(manifest.table["readable"].fill_null(True).to_numpy() == 0)
    reasons = manifest.table["reason"].take(rows).to_pylist()
    return dict(zip(rows.tolist(), reasons, strict=True))


def unreadable_among(findings: Mapping[int, CheckResult]) -> dict[int, str]:
    """Row → reason of what a shard has found unreadable."""
    return {row: str(finding.reason) for row, finding in findings.items() if not finding.readable}
