"""CoVeR: co-train one video transformer on many video and image datasets."""

from __future__ import annotations

__version__ = "0.1.0"
