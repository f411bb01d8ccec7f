"""The report's figures of accuracies and of training, as SVG in data URIs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cover.core.drawing import CHANCE_COLOR, COLORS, STYLE, drawing, shortened
from cover.evaluation.comparison import Comparison
from cover.evaluation.run_record import RunRecord

MAX_CURVE_POINTS = 100


def run_colors(records: Sequence[RunRecord]) -> dict[str, str]:
    """Choose a colour for each run, used throughout the page."""
    return {record.name: COLORS[index % len(COLORS)] for index, record in enumerate(records)}


def accuracy_figure(comparison: Comparison, colors: Mapping[str, str]) -> str:
    """Draw the top-1 of every run on every dataset, with 95 % intervals and chance."""
    rows = [(row.dataset, run, result) for row in comparison.policy_rows for run, result in row.by_run.items()]
    with drawing(STYLE):
        height_inches = 0.9 + 0.26 * len(rows) + 0.12 * len(comparison.policy_rows)
        figure = Figure(figsize=(7.6, height_inches), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y", visible=False)
        heights = _grouped_heights([dataset for dataset, _, _ in rows])
        for height, (_, run, result) in zip(heights, rows, strict=True):
            estimate = result.top1_estimate
            axes.plot([100 * estimate.lower, 100 * estimate.upper], [height] * 2, color=colors[run], lw=1.6, alpha=0.6)
            axes.plot(100 * estimate.value, height, "o", color=colors[run], ms=5.5)
            axes.plot(100 * result.chance, height, "|", color=CHANCE_COLOR, ms=11, mew=1.6)
        axes.set_yticks(heights, [f"{shortened(dataset)} · {shortened(run)}" for dataset, run, _ in rows])
        axes.set_xlim(0, 100)
        axes.set_xlabel("top-1 accuracy (%), with its 95 % interval; vertical stroke: chance")
        return data_uri(figure)


def curves_figure(records: Sequence[RunRecord], dataset: str, colors: Mapping[str, str]) -> str:
    """Draw the training loss and validation top-1 of one dataset over epochs, for every run trained on it."""
    with drawing(STYLE):
        figure = Figure(figsize=(6.4, 2.5), layout="constrained")
        loss_axes, top1_axes = figure.subplots(1, 2)
        for record in records:
            if dataset in record.datasets:
                color = colors[record.name]
                epochs, losses = training_curve(record, dataset)
                loss_axes.plot(epochs, losses, color=color, lw=1.4, label=shortened(record.name))
                top1_axes.plot(
                    *validation_curve(record, dataset), "o-", color=color, lw=1.4, ms=3, label=shortened(record.name)
                )
        _chance_line(top1_axes, records, dataset)
        loss_axes.set(title="training loss (nats)", xlabel="epoch", xlim=(0, None))
        top1_axes.set(title="validation top-1 (%)", xlabel="epoch", xlim=(0, None), ylim=(0, None))
        loss_axes.legend(frameon=False, fontsize=8, loc="upper right")  # "best" warns where it takes a second
        return data_uri(figure)


def training_curve(record: RunRecord, dataset: str) -> tuple[list[float], list[float]]:
    """The epochs and losses of one dataset, averaged over neighbouring lines to at most MAX_CURVE_POINTS points."""
    lines = [line for line in record.training if "loss" in line["datasets"].get(dataset, {})]
    bins = np.array_split(np.arange(len(lines)), min(MAX_CURVE_POINTS, max(len(lines), 1)))
    epochs = [float(np.mean([lines[i]["epoch"] for i in chosen])) for chosen in bins if len(chosen)]
    losses = [float(np.mean([lines[i]["datasets"][dataset]["loss"] for i in chosen])) for chosen in bins if len(chosen)]
    return epochs, losses


def validation_curve(record: RunRecord, dataset: str) -> tuple[list[float], list[float]]:
    """The epochs and top-1, in percent, of one dataset."""
    lines = [line for line in record.validation if dataset in line["val"]]
    return [line["epoch"] for line in lines], [100 * line["val"][dataset]["top1"] for line in lines]


@dataclass(frozen=True)
class GradientSummary:
    """The measured gradients of one dataset in a run, averaged over the measurements of the run's second half.

    Attributes:
        norm: Of the gradient of the shared weights, before datasets are combined.
        share: Of the update; the shares of a run's datasets add up to 1.
        cosines: With the other datasets, by name.
    """

    dataset: str
    norm: float
    share: float
    cosines: dict[str, float]


def gradient_summaries(record: RunRecord) -> list[GradientSummary]:
    """Sum up the gradients of each dataset; empty if they were not measured."""
    lines = [line["gradients"] for line in record.gradients]
    lines = lines[len(lines) // 2 :]

    def mean(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else math.nan

    def cosine(line: Mapping[str, Any], first: str, second: str) -> float | None:
        found: float | None = line["cosine"].get(first, {}).get(second, line["cosine"].get(second, {}).get(first))
        return found

    names = list(dict.fromkeys(name for line in lines for name in line["norm"]))
    return [
        GradientSummary(
            name,
            mean(line["norm"].get(name) for line in lines),
            mean(line["share"].get(name, 0.0) for line in lines),
            {other: mean(cosine(line, name, other) for line in lines) for other in names if other != name},
        )
        for name in names
    ]


def shares_figure(record: RunRecord) -> str:
    """Draw each dataset's share of the update over the epochs of a run."""
    names = [summary.dataset for summary in gradient_summaries(record)]
    with drawing(STYLE):
        figure = Figure(figsize=(6.4, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            lines = [line for line in record.gradients if name in line["gradients"]["share"]]
            shares = [100 * line["gradients"]["share"][name] for line in lines]
            color = COLORS[number % len(COLORS)]
            axes.plot([line["epoch"] for line in lines], shares, color=color, lw=1.4, label=shortened(name))
        axes.set(title="share of the update (%)", xlabel="epoch", xlim=(0, None))
        axes.legend(frameon=False, fontsize=8, loc="upper right")
        return data_uri(figure)


def _chance_line(axes: Axes, records: Sequence[RunRecord], dataset: str) -> None:
    chances = [result.chance for record in records for result in record.results if result.dataset == dataset]
    if chances:
        axes.axhline(100 * chances[0], color=CHANCE_COLOR, lw=1, ls=(0, (3, 3)))
        axes.annotate(
            "chance",
            (1, 100 * chances[0]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=CHANCE_COLOR,
        )


def _grouped_heights(groups: Sequence[str]) -> list[float]:
    """Heights from the top down, with a wider step between groups."""
    steps = [0.0] + [-1.0 - 0.5 * (own != before) for before, own in pairwise(groups)]
    return [float(height) for height in np.cumsum(steps)]


def data_uri(figure: Figure) -> str:
    """Encode a figure as an address for <img>."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
