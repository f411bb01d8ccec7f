"""The mixture as a table, printed when training starts and shown in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cover.mixture.mixture import Mixture


@dataclass(frozen=True)
class MixtureRow:
    """One dataset of a mixture.

    num_clips: samples in the dataset. num_excluded: samples of its manifest that are left out. share: of the batch.
    clips_per_batch: expected.
    sample_weight: what one sample's cross-entropy is multiplied by in the loss of a batch, on average.
    epochs_per_epoch: clips of it in a training epoch (as many clips as all datasets have together) per clip it has.
    """

    dataset: str
    kind: str
    num_classes: int
    num_frames: int
    num_clips: int
    num_excluded: int
    share: float
    clips_per_batch: float
    loss_weight: float
    sample_weight: float
    epochs_per_epoch: float


def mixture_rows(mixture: Mixture, reduction: Literal["dataset_mean", "pooled"] = "dataset_mean") -> list[MixtureRow]:
    """A row a dataset. reduction: of the loss; "dataset_mean" divides by a dataset's count, "pooled" by the batch."""
    return [_row(mixture, name, reduction) for name in mixture.datasets]


def mixture_warnings(rows: Sequence[MixtureRow], num_steps: int) -> list[str]:
    """What makes a dataset useless to a run of so many steps, one line each."""
    weightless = [
        f"datasets.{row.dataset}.loss_weight = 0: its clips are decoded and its head learns nothing; leave it out, or "
        "give it a weight"
        for row in rows
        if row.loss_weight == 0
    ]
    absent = [
        f"datasets.{row.dataset} has {row.clips_per_batch:.2g} clips a batch, so {num_steps:,} steps may hold none "
        "of it and its head may learn nothing; raise its rate, or train longer"
        for row in rows
        if row.clips_per_batch * num_steps < 1
    ]
    return weightless + absent


def mixture_table(rows: Sequence[MixtureRow]) -> Table:
    """The rows for the terminal."""
    table = Table(title="Mixture", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("dataset", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in ("clips", "share", "per\nbatch", "loss\nweight", "sample\nweight", "epochs\n/ epoch"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(
            row.dataset,
            row.kind,
            f"{row.num_clips:,}",
            f"{100 * row.share:.3g}%",
            f"{row.clips_per_batch:.4g}",
            f"{row.loss_weight:g}",
            f"{row.sample_weight:.3g}",
            f"{row.epochs_per_epoch:.3g}",
        )
    if left_out := [f"{row.num_excluded:,} of {row.dataset}" for row in rows if row.num_excluded]:
        table.caption, table.caption_justify = f"left out: {', '.join(left_out)}", "left"
    return table


def _row(mixture: Mixture, name: str, reduction: str) -> MixtureRow:
    dataset, reader = mixture.datasets[name], mixture.readers[name]
    expected, sizes = mixture.schedule.expected[name], mixture.schedule.sizes
    divisor = expected if reduction == "dataset_mean" else mixture.schedule.batch_size
    return MixtureRow(
        dataset=name,
        kind=reader.manifest.kind,
        num_classes=len(reader.manifest.class_names),
        num_frames=reader.num_frames,
        num_clips=sizes[name],
        num_excluded=reader.manifest.num_excluded,
        share=mixture.shares[name],
        clips_per_batch=expected,
        loss_weight=dataset.loss_weight,
        sample_weight=dataset.loss_weight / divisor,
        epochs_per_epoch=mixture.shares[name] * sum(sizes.values()) / sizes[name],
    )
