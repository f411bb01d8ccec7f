"""The former home of `Manifest`."""

from __future__ import annotations

from cover.datasets.manifest import Manifest as Manifest
