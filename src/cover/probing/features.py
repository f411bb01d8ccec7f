"""Frozen features, computed once and kept in files that every later probe reads.

    runs/.features/ssv2-train-3f2a91c04b7d/     beside the runs; the digits stand for what the features depend on,
        depends_on.json                         which is told here
        00000.safetensors                       features float32 [4096, D] of the manifest's first rows, and whether
        00001.safetensors                       each could be decoded: readable bool [4096]

A part that exists is complete, so an interrupted computation goes on with the next one. The folder may be deleted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cover.clip import UNREADABLE
from cover.errors import CheckpointError
from cover.evaluation.views import SampleViews, view_batches
from cover.mixture.unreadable import UnreadableTally
from cover.models.timesformer import TimeSformer
from cover.progress import progress_bar

Embed = Callable[[Tensor], Tensor]
"""uint8 frames [T,B,C,Y,X] -> float32 features [B,D], both on the CPU."""

ROWS_A_PART = 4096


@dataclass(frozen=True)
class Features:
    """Features float32 [N,D] of a manifest's rows, and their labels int64 [N], UNREADABLE where decoding failed."""

    features_ND: Tensor
    labels_N: Tensor

    def to(self, device: torch.device) -> Features:
        """The same on another device."""
        return Features(self.features_ND.to(device), self.labels_N.to(device))


@dataclass(frozen=True)
class FeatureStore:
    """Computes and keeps features; a feature is the mean over a sample's views.

    folder: of all features. embed: the frozen backbone; `backbone` is its digest, `width` its D. precision: that it
    computes in. batch_size: samples a forward pass. max_unreadable_share: see UnreadableTally. rank, world_size: which
    of how many processes this is; each computes every world_size-th part.
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

    def fill(self, name: str, samples: SampleViews) -> Path:
        """Compute this process's parts of the features of a dataset, as far as they are missing; their folder.

        Raises DecodeError when too many samples are unreadable.
        """
        folder, manifest = self._folder(name, samples), samples.reader.manifest
        parts = _parts(len(manifest))[self.rank :: self.world_size]
        missing = {number: rows for number, rows in parts if not _file(folder, number).exists()}
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "depends_on.json").write_text(json.dumps(self._depends_on(samples), indent=2) + "\n")
        tally = UnreadableTally(self.max_unreadable_share, {name: len(manifest)})
        with progress_bar("clips", visible=self.rank == 0, transient=True) as progress:
            total = sum(map(len, missing.values()))
            bar = progress.add_task(f"features of {name} {manifest.split}", total=total)
            for number, rows in missing.items():
                tensors = self._compute(samples, rows, name, tally, lambda done: progress.advance(bar, done))
                unfinished = folder / f".{number:05d}.part"
                save_file(tensors, unfinished)
                unfinished.replace(_file(folder, number))
        return folder

    def read(self, name: str, samples: SampleViews) -> Features:
        """The features of a dataset, all parts of which have been computed. Raises CheckpointError for damage."""
        folder, manifest = self._folder(name, samples), samples.reader.manifest
        files = [_file(folder, number) for number, _ in _parts(len(manifest))]
        try:
            parts = [load_file(file) for file in files]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder} cannot be read ({error}); delete it and train again") from None
        readable = torch.cat([part["readable"] for part in parts])
        labels = torch.tensor(manifest.labels, dtype=torch.int64)
        return Features(torch.cat([part["features"] for part in parts]), labels.where(readable, UNREADABLE))

    def _compute(
        self, samples: SampleViews, rows: range, name: str, tally: UnreadableTally, advance: Callable[[int], None]
    ) -> dict[str, Tensor]:
        manifest = samples.reader.manifest
        features, readable = torch.zeros(len(rows), self.width), torch.zeros(len(rows), dtype=torch.bool)
        part = dataclasses.replace(samples, rows=rows)
        for batch in view_batches(part, batch_size=self.batch_size, num_workers=self.num_workers):
            tally.add({f"{name}/{manifest[row].sample_id}": why for row, why in batch.unreadable.items()})
            if batch.indices:
                places = torch.tensor(batch.indices) - rows.start
                features[places] = self.embed(batch.frames).unflatten(0, (len(places), -1)).mean(1)
                readable[places] = True
            advance(len(batch.indices) + len(batch.unreadable))
        return {"features": features, "readable": readable}

    def _folder(self, name: str, samples: SampleViews) -> Path:
        digest = hashlib.sha256(json.dumps(self._depends_on(samples)).encode()).hexdigest()
        return self.folder / f"{name}-{samples.reader.manifest.split}-{digest[:12]}"

    def _depends_on(self, samples: SampleViews) -> dict[str, str | int]:
        return {
            "backbone": self.backbone,
            "manifest": samples.reader.manifest.digest,
            "num_frames": samples.reader.num_frames,
            "image_size": samples.reader.crop_px,
            "num_clips": samples.num_clips,
            "num_crops": samples.num_crops,
            "precision": self.precision,
        }


def backbone_digest(model: TimeSformer) -> str:
    """SHA-256 of all that a model's features depend on: its architecture, normalisation, and weights but the heads'."""
    config = asdict(dataclasses.replace(model.config, heads={}, drop_path_rate=0.0))
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("heads."):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(num_rows: int) -> list[tuple[int, range]]:
    """Number and rows of each part."""
    return list(
        enumerate(range(first, min(first + ROWS_A_PART, num_rows)) for first in range(0, num_rows, ROWS_A_PART))
    )


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"
