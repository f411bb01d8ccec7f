from __future__ import annotations

from dataclasses import replace

import pytest

from cover.datasets.manifest import Manifest, write_manifest
from cover.media.cache import CLIPS_PER_PROCESS


@pytest.fixture
def many_images(image_manifest: Manifest) -> Manifest:
    """Five images repeated, enough for two processes; the second of every five files is missing."""
    rows = [image_manifest[index % 5] for index in range(2 * CLIPS_PER_PROCESS)]
    image_manifest[1].file.unlink()
    return write_manifest(
        image_manifest.path.with_name("many.arrow"),
        [replace(row, sample_id=str(index)) for index, row in enumerate(rows)],
        name="many",
        kind="image",
        split="train",
        class_names=image_manifest.class_names,
        root=image_manifest.root,
    )
