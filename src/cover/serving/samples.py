"""Samples to try the page with: of a run's datasets, or of a folder."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from cover.datasets.manifest import Manifest, ManifestRow
from cover.datasets.names import Kind
from cover.errors import CoverError, DecodeError, printable
from cover.inference.inputs import Inputs
from cover.inference.views import media_kind
from cover.media.decode import decode_clip, probe_row
from cover.media.failures import opened
from cover.media.source import MediaSource
from cover.runs.model import OpenModel
from cover.serving.limits import UploadLimits

NUM_SAMPLES = 4
"""Samples of each dataset."""
NUM_FILES = 12
"""Samples of a folder."""
THUMBNAIL_PX = 160


@dataclass(frozen=True)
class PageSample:
    """A whole file, and its middle frame as a JPEG.

    Attributes:
        name: Of the file, with the folders below that of the samples.
        dataset: The run's dataset that it belongs to; None for a file of a folder.
        class_name: Its classes there.
        kind: Whether it is a video or an image.
        source: Where it is.
        thumbnail: A JPEG.
    """

    name: str
    dataset: str | None
    class_name: str | None
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


def samples_in(folder: Path, limits: UploadLimits) -> list[PageSample]:
    """Choose a few readable files below a folder that are within the limits, the same ones at every start.

    Raises:
        CoverError: The folder is missing, or no file is fit.
    """
    files = list(Inputs([str(folder)]))
    samples: list[PageSample] = []
    for index in np.random.default_rng(0).permutation(len(files)).tolist():
        if len(samples) < NUM_FILES:
            with suppress(DecodeError, OSError):
                samples += _file_sample(files[index], folder, limits)
    if not samples:
        raise CoverError(f"{folder} has no file that can be decoded within the limits of uploads; give another folder")
    return sorted(samples, key=lambda sample: sample.name)


def _samples(dataset: str, manifest: Manifest) -> Iterator[PageSample]:
    shown: set[int] = set()
    for index in np.random.default_rng(0).permutation(len(manifest)).tolist():
        row = manifest[index]
        if row.label in shown or not _is_whole_file(row):
            continue
        with suppress(DecodeError):
            class_name = ", ".join(manifest.classes_of(row))
            thumbnail = _thumbnail(row, manifest.kind)
            yield PageSample(row.sample_id, dataset, class_name, manifest.kind, MediaSource.of(row), thumbnail)
            shown.add(row.label)


def _file_sample(file: Path, folder: Path, limits: UploadLimits) -> Iterator[PageSample]:
    if file.stat().st_size > limits.max_bytes:
        return
    kind, row = media_kind(file), ManifestRow(sample_id=file.name, path=str(file), label=0)
    info = probe_row(row, kind)
    if info.width_px * info.height_px <= limits.max_pixels and (info.duration_seconds or 0) <= limits.max_seconds:
        name = printable(file.relative_to(folder) if file != folder else file.name)
        yield PageSample(name, None, None, kind, MediaSource(file), _thumbnail(row, kind))


def _is_whole_file(row: ManifestRow) -> bool:
    """Whether a sample is neither a folder of frames nor a part of a longer video."""
    return row.start_seconds is None and row.end_seconds is None and not row.is_folder


def _thumbnail(row: ManifestRow, kind: Kind) -> bytes:
    (frame,) = decode_clip(row, kind, 1, short_side_px=THUMBNAIL_PX)
    image, jpeg = Image.fromarray(frame), io.BytesIO()
    image.thumbnail((2 * THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(jpeg, "JPEG", quality=80)
    return jpeg.getvalue()
