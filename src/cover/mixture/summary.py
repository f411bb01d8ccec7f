"""A summary of the mixture, printed when training starts and shown in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cover.mixture.mixture import Mixture
from cover.mixture.schedule import Reduction, loss_divisor

MAX_WEIGHT_RATIO = 4.0
"""If a clip weighs more than this many times another one, a warning says so."""


@dataclass(frozen=True)
class MixtureRow:
    """One dataset of a mixture.

    Attributes:
        dataset: Its name.
        kind: "video" or "image".
        num_classes: The number of its classes.
        num_frames: Frames of a clip.
        num_clips: Samples in the dataset.
        num_excluded: Samples of its manifest that are excluded.
        share: Its share of the batch.
        clips_per_batch: The expected number of its clips in a batch.
        loss_weight: What its loss is multiplied by.
        sample_weight: What the cross-entropy of one sample is multiplied by in the loss of a batch that contains it.
        head_weights: The same for each head on its samples (`Dataset.clips_of`).
        epochs_per_epoch: How often each of its samples is read in a training epoch, which has as many clips as all
            datasets together; on average, if classes come equally often.
        class_balanced: Whether classes come equally often.
        batch_size: Clips in a step of this dataset, if each step has clips of one dataset; None if steps mix them.
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
    head_weights: dict[str, float]
    epochs_per_epoch: float
    class_balanced: bool
    batch_size: int | None = None

    @property
    def steps_share(self) -> float:
        """The share of its steps, if each step has clips of one dataset; otherwise 1."""
        return self.clips_per_batch / self.batch_size if self.batch_size else 1.0


def mixture_rows(mixture: Mixture, reduction: Reduction = "dataset_mean") -> list[MixtureRow]:
    """Return a row for each dataset with clips of its own.

    Args:
        mixture: The mixture.
        reduction: How the loss combines clips (see `loss_divisor`).
    """
    return [_row(mixture, name, reduction) for name in mixture.schedule.sizes]


def mixture_warnings(rows: Sequence[MixtureRow], num_steps: int) -> list[str]:
    """Return warnings about datasets that a run cannot use or that dominate it.

    Args:
        rows: The rows of the mixture.
        num_steps: The length of the run.

    Returns:
        One line for each warning.
    """
    weightless = [
        f"datasets.{head}.loss_weight = 0: its clips are decoded but its head learns nothing; leave it out, or give it "
        "a weight"
        for row in rows
        for head, weight in row.head_weights.items()
        if weight == 0
    ]
    absent = [
        f"datasets.{row.dataset} has {row.clips_per_batch:.2g} clips a batch, so {num_steps:,} steps may contain none "
        "of them and its head may learn nothing; raise its rate, or train longer"
        for row in rows
        if min(row.clips_per_batch, row.steps_share) * num_steps < 1
    ]
    return weightless + absent + _unequal_weights(rows)


def _unequal_weights(rows: Sequence[MixtureRow]) -> list[str]:
    """Return a warning if the clips of one dataset weigh much more than those of another."""
    weighted = [row for row in rows if row.sample_weight > 0]
    if len(weighted) < 2:
        return []
    lightest, heaviest = (pick(weighted, key=lambda row: row.sample_weight) for pick in (min, max))
    ratio = heaviest.sample_weight / lightest.sample_weight
    if ratio <= MAX_WEIGHT_RATIO:
        return []
    return [
        f"one clip of {heaviest.dataset} weighs {heaviest.sample_weight:.3g} in the loss, {ratio:.3g} times one of "
        f"{lightest.dataset} ({lightest.sample_weight:.3g}); if training becomes unstable or overfits "
        f'{heaviest.dataset}, lower its loss_weight, change the rates, or set training.reduction = "pooled"'
    ]


def mixture_table(rows: Sequence[MixtureRow]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title="Mixture", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("dataset", "kind"):
        table.add_column(heading, no_wrap=True)
    for heading in ("clips", "share", "per\nbatch", "loss\nweight", "sample\nweight", "epochs\n/ epoch"):
        table.add_column(Text(heading), no_wrap=True, justify="right")  # Text keeps the line break
    for row in rows:
        table.add_row(
            row.dataset,
            row.kind,
            f"{row.num_clips:,}",
            f"{100 * row.share:.3g}%",
            f"{row.batch_size or row.clips_per_batch:.4g}",
            f"{row.loss_weight:g}",
            f"{row.sample_weight:.3g}",
            f"{row.epochs_per_epoch:.3g}",
        )
    balanced = [row.dataset for row in rows if row.class_balanced]
    excluded = [f"{row.num_excluded:,} of {row.dataset}" for row in rows if row.num_excluded]
    turns = [f"{row.dataset} in {100 * row.steps_share:.3g}%" for row in rows if row.batch_size]
    notes = (("one dataset a step", turns), ("classes equally often", balanced), ("left out", excluded))
    if any(names for _, names in notes):
        table.caption = "\n".join(f"{what}: {', '.join(names)}" for what, names in notes if names)
        table.caption_justify = "left"
    return table


def _row(mixture: Mixture, name: str, reduction: Reduction) -> MixtureRow:
    dataset, reader, schedule = mixture.datasets[name], mixture.readers[name], mixture.schedule
    expected, sizes = schedule.expected[name], schedule.sizes
    own = schedule.batch_sizes[name] if schedule.batch_sizes else None
    divisor = loss_divisor(own or expected, reduction, pooled=schedule.batch_size, repeats=schedule.repeats)
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
        head_weights={
            head: spec.loss_weight / divisor
            for head, spec in mixture.datasets.items()
            if name in (head, mixture.clips_of.get(head))
        },
        epochs_per_epoch=mixture.shares[name] * sum(sizes.values()) / sizes[name],
        class_balanced=dataset.class_balanced,
        batch_size=own,
    )
