"""Samples of a run's datasets, to try the page with."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from cover.datasets.manifest import Manifest, ManifestRow
from cover.datasets.names import Kind
from cover.errors import CoverError, DecodeError
from cover.media.decode import decode_clip
from cover.media.failures import opened
from cover.media.source import MediaSource
from cover.runs.model import OpenModel

NUM_SAMPLES = 4
"""Samples of each dataset."""
THUMBNAIL_PX = 160


@dataclass(frozen=True)
class PageSample:
    """A whole file of a dataset, and its middle frame as a JPEG."""

    dataset: str
    class_name: str
    kind: Kind
    source: MediaSource
    thumbnail: bytes

    @property
    def thumbnail_uri(self) -> str:
        """The thumbnail as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.thumbnail).decode()}"

    def read(self) -> bytes:
        """Read the file.

        Raises:
            DecodeError: It is gone.
        """
        with opened(self.source) as media:
            return media.read_at(0, media.num_bytes)


def samples_of(trained: OpenModel, report: Callable[[str], None]) -> list[PageSample]:
    """Choose a few readable samples of each dataset that has a test or val split, the same ones at every start.

    Args:
        trained: The model; only a run has datasets.
        report: Called with a line about a dataset whose manifest is not found.
    """
    samples: list[PageSample] = []
    for dataset, section in trained.datasets.items():
        split = next((split for split in ("test", "val") if getattr(section, split)), None)
        if split is not None:
            try:
                manifest = trained.manifest(dataset, split)
            except CoverError as error:
                report(f"no samples of {dataset} on the page: {error}")
            else:
                samples += islice(_samples(dataset, manifest), NUM_SAMPLES)
    return samples


def _samples(dataset: str, manifest: Manifest) -> Iterator[PageSample]:
    shown: set[int] = set()
    for index in np.random.default_rng(0).permutation(len(manifest)).tolist():
        row = manifest[index]
        if row.label in shown or not _is_whole_file(row):
            continue
        with suppress(DecodeError):
            thumbnail = _thumbnail(row, manifest.kind)
            yield PageSample(
                dataset, ", ".join(manifest.classes_of(row)), manifest.kind, MediaSource.of(row), thumbnail
            )
            shown.add(row.label)


def _is_whole_file(row: ManifestRow) -> bool:
    """Whether a sample is neither a folder of frames nor a part of a longer video."""
    return row.start_seconds is None and row.end_seconds is None and not row.is_folder


def _thumbnail(row: ManifestRow, kind: Kind) -> bytes:
    (frame,) = decode_clip(row, kind, 1, short_side_px=THUMBNAIL_PX)
    image, jpeg = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((2 * THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(jpeg, "JPEG", quality=80)
    return jpeg.getvalue()
