"""Features of a frozen backbone, computed once and kept in files for every later probe and search.

    runs/.features/ssv2-train-3f2a91c04b7d/     beside the runs; the digits are a hash of what the features depend on
        depends_on.json                         what that is
        00000000-00004096.safetensors           features float32 [4096, D] of these rows of the manifest, and whether
        00004096-00005000.safetensors           each could be decoded: readable bool [4096]

An existing part is complete; the part of an interrupted computation is shorter, and the next call computes the missing
rows. You can delete the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cover.core.atomic_files import whole_file, write_whole
from cover.core.batch import UNREADABLE, Features
from cover.core.progress import progress_bar
from cover.errors import CheckpointError
from cover.evaluation.sample_views import SampleViews, view_batches
from cover.mixture.decode_failures import DecodeFailure, DecodeFailures
from cover.models.weights import save_tensors

Embed = Callable[[Tensor], Tensor]
"""uint8 frames [T,B,C,Y,X] → float32 features [B,D], both on the CPU."""

ROWS_A_PART = 4096
"""Rows in a file. A killed process loses at most this many clips; one that is asked to stop loses none."""


@dataclass(frozen=True)
class FeatureStore:
    """Computes and keeps features. A feature is the mean over a sample's views.

    Attributes:
        folder: The folder of all features.
        embed: The frozen backbone.
        backbone: Its digest.
        width: Its width, D.
        precision: The precision that it computes in.
        batch_size: Samples a forward pass.
        num_workers: Processes that decode.
        max_unreadable_share: See `DecodeFailures`.
        rank, world_size: Each of `world_size` processes computes every world_size-th part, from its rank on.
    """

    folder: Path
    embed: Embed
    backbone: str
    width: int
    precision: str
    batch_size: int
    num_workers: int = 0
    max_unreadable_share: float = 0.01
    rank: int = 0
    world_size: int = 1

    def fill(self, name: str, samples: SampleViews, stopping: Callable[[], bool] = lambda: False) -> None:
        """Compute this process's missing parts of the features of a dataset.

        Args:
            name: The dataset.
            samples: Its samples.
            stopping: Called after each batch. Once it returns True, the features so far are kept and the call returns.

        Raises:
            DecodeError: Too many samples are unreadable.
        """
        folder, manifest = self._folder(name, samples), samples.reader.manifest
        parts = [_missing(folder, rows) for rows in _parts(len(manifest))[self.rank :: self.world_size]]
        if any(parts):
            write_whole(folder / "depends_on.json", json.dumps(self._depends_on(samples), indent=2) + "\n")
        failures = DecodeFailures(self.max_unreadable_share, {name: len(manifest)})
        with progress_bar("clips", visible=self.rank == 0, transient=True) as progress:
            bar = progress.add_task(f"features of {name} {manifest.split}", total=sum(map(len, parts)))
            for rows in filter(None, parts):
                if stopping():
                    return
                tensors = self._compute(
                    samples, rows, name, failures, lambda done: progress.advance(bar, done), stopping
                )
                done = range(rows.start, rows.start + len(tensors["readable"]))
                with whole_file(_file(folder, done)) as unfinished:
                    save_tensors(tensors, unfinished)

    def read(self, name: str, samples: SampleViews) -> Features:
        """Read the features of a dataset whose parts have all been computed.

        Raises:
            CheckpointError: A part is damaged.
        """
        folder, manifest = self._folder(name, samples), samples.reader.manifest
        files = [file for rows in _parts(len(manifest)) for file in _files(folder, rows)]
        try:
            parts = [load_file(file) for file in files]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder} cannot be read ({error}); delete it and train again") from None
        readable = torch.cat([part["readable"] for part in parts])
        labels = torch.tensor(manifest.labels, dtype=torch.int64)
        return Features(torch.cat([part["features"] for part in parts]), labels.where(readable, UNREADABLE))

    def _compute(
        self,
        samples: SampleViews,
        rows: range,
        name: str,
        failures: DecodeFailures,
        advance: Callable[[int], None],
        stopping: Callable[[], bool],
    ) -> dict[str, Tensor]:
        """Compute the features of these rows, or of the first of them if `stopping` says so."""
        manifest = samples.reader.manifest
        features, readable = torch.zeros(len(rows), self.width), torch.zeros(len(rows), dtype=torch.bool)
        part, num_done = dataclasses.replace(samples, rows=rows), 0
        for batch in view_batches(part, batch_size=self.batch_size, num_workers=self.num_workers):
            failures.add(
                [
                    DecodeFailure(name, manifest[row].sample_id, str(error), error.reason)
                    for row, error in batch.unreadable.items()
                ]
            )
            if batch.indices:
                places = torch.tensor(batch.indices) - rows.start
                features[places] = self.embed(batch.frames).unflatten(0, (len(places), -1)).mean(1)
                readable[places] = True
            num_done += len(batch.indices) + len(batch.unreadable)
            advance(len(batch.indices) + len(batch.unreadable))
            if stopping():
                break
        return {"features": features[:num_done], "readable": readable[:num_done]}

    def _folder(self, name: str, samples: SampleViews) -> Path:
        digest = hashlib.sha256(json.dumps(self._depends_on(samples)).encode()).hexdigest()
        return self.folder / f"{name}-{samples.reader.manifest.split}-{digest[:12]}"

    def _depends_on(self, samples: SampleViews) -> dict[str, str | int]:
        window = samples.reader.window
        depends: dict[str, str | int] = {
            "backbone": self.backbone,
            "manifest": samples.reader.manifest.digest,
            "num_frames": samples.reader.num_frames,
            "image_size": samples.reader.crop_px,
            "num_clips": samples.num_clips,
            "num_crops": samples.num_crops,
            "precision": self.precision,
        }
        return depends if window is None else depends | {"window": repr(window)}


def _parts(num_rows: int) -> list[range]:
    """The rows of each part; processes take parts in turn."""
    return [range(first, min(first + ROWS_A_PART, num_rows)) for first in range(0, num_rows, ROWS_A_PART)]


def _files(folder: Path, rows: range) -> list[Path]:
    """The files that hold rows of a part: none, one, or several if the computation was interrupted."""
    names = sorted(file.stem for file in folder.glob("*.safetensors"))
    ends = {int(name.split("-")[0]): int(name.split("-")[1]) for name in names}
    files, first = [], rows.start
    while first < rows.stop and first in ends:
        files.append(_file(folder, range(first, ends[first])))
        first = ends[first]
    return files


def _missing(folder: Path, rows: range) -> range:
    """The rows of a part that no file has."""
    files = _files(folder, rows)
    return range(int(files[-1].stem.split("-")[1]), rows.stop) if files else rows


def _file(folder: Path, rows: range) -> Path:
    return folder / f"{rows.start:08d}-{rows.stop:08d}.safetensors"
