"""The report's figures of single classes and probabilities, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cover.evaluation.calibration import Calibration
from cover.evaluation.classes import RunPair
from cover.evaluation.confusion import confused_labels
from cover.evaluation.formats import percent
from cover.evaluation.plots import CHANCE_COLOR, STYLE, data_uri
from cover.evaluation.result import DatasetResult

MAX_LABELLED_CLASSES = 40
"""More classes than these are not named one by one; of a confusion matrix the most confused are shown."""
MAX_CONFUSED_CLASSES = 30
MAX_NUMBERED_CLASSES = 16
PANELS_A_ROW = 4
OTHERS = "(all others)"
MAX_NAME_LENGTH = 36
"""Letters of a class name beside a figure."""


def changes_figure(pair: RunPair, colors: Mapping[str, str]) -> str:
    """Top-1 of the second run minus that of the first, a bar a class, in the colour of the run that is better."""
    values = [100 * (change.second_top1 - change.first_top1) for change in pair.changes]
    labelled = len(values) <= MAX_LABELLED_CLASSES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(min(2.4 + 0.26 * len(values), 7.6), 3.4 if labelled else 2.2), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="x", visible=False)
        better = [colors[pair.second_run if value > 0 else pair.first_run] for value in values]
        axes.bar(range(len(values)), values, color=better, width=0.75 if labelled else 1.0)
        axes.axhline(0, color=CHANCE_COLOR, lw=0.8)
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_ylabel("Δ top-1 (points)")
        names = [_short(change.class_name) for change in pair.changes]
        axes.set_xticks(range(len(values)) if labelled else [], names if labelled else [], rotation=90)
        if not labelled:
            axes.set_xlabel(f"{len(values)} classes, the most helped first")
        return data_uri(figure)


def reliability_figure(calibrations: Mapping[str, Calibration], colors: Mapping[str, str]) -> str:
    """Reliability diagrams, a panel a run: top-1 of each bin of probability, and how many samples are in it."""
    num_columns = min(len(calibrations), PANELS_A_ROW)
    num_rows = -(-len(calibrations) // num_columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.5 * num_columns, 3.1 * num_rows), layout="constrained")
        panels = figure.subfigures(num_rows, num_columns, squeeze=False).ravel()
        for panel, (run, calibration) in zip(panels, calibrations.items(), strict=False):
            top1_axes, share_axes = panel.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            _reliability(top1_axes, calibration, colors[run])
            edges, width = _bin_places(calibration)
            counts = np.array([each.num_samples for each in calibration.bins])
            share_axes.bar(edges, 100 * counts / counts.sum(), width, color=CHANCE_COLOR, align="edge")
            top1_axes.set(title=f"{run}\nECE {percent(calibration.expected_error)} %", ylabel="top-1 (%)")
            share_axes.set(xlabel="probability (%)", ylabel="samples (%)")
        return data_uri(figure)


def _reliability(axes: Axes, calibration: Calibration, color: str) -> None:
    edges, width = _bin_places(calibration)
    for edge, each in zip(edges, calibration.bins, strict=True):
        if each.top1 is not None and each.probability is not None:
            axes.bar(edge, 100 * each.top1, width, align="edge", color=color, alpha=0.55, edgecolor="white", lw=0.5)
            axes.plot(edge + width / 2, 100 * each.probability, "_", color="#1f2937", ms=7, mew=1.4)
    axes.plot([0, 100], [0, 100], color=CHANCE_COLOR, lw=1, ls=(0, (3, 3)))
    axes.set(xlim=(0, 100), ylim=(0, 100))


def _bin_places(calibration: Calibration) -> tuple[Any, float]:
    """Lower edges and width, in percent."""
    num_bins = len(calibration.bins)
    return 100 * np.arange(num_bins) / num_bins, 100 / num_bins


def confusion_figure(result: DatasetResult) -> str | None:
    """Rows: true class, each summing to 100 %. Columns: predicted class. Of many classes, the most confused ones; None
    where none is confused."""
    names, shares = _confusion_shares(result)
    if not names:
        return None
    num_rows, num_columns = shares.shape
    size = 1.6 + (0.3 if num_rows <= MAX_NUMBERED_CLASSES else 0.19) * num_rows
    with mpl.rc_context(STYLE | {"axes.grid": False, "font.size": 8 if num_rows <= 24 else 6.5}):
        figure = Figure(figsize=(size + 0.9, size), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_xticks(range(num_columns), names + [OTHERS] * (num_columns - num_rows), rotation=90)
        axes.set_yticks(range(num_rows), names)
        if num_rows <= MAX_NUMBERED_CLASSES:
            _write_numbers(axes, shares)
        figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
        return data_uri(figure)


def _confusion_shares(result: DatasetResult) -> tuple[list[str], Any]:
    """Names of the rows, and their percentages [rows, columns]; of many classes with a column more, for all others."""
    counts = np.array(result.confusion, dtype=float)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if len(counts) <= MAX_LABELLED_CLASSES:
        return [_short(name) for name in result.class_names], shares
    chosen = confused_labels(result, MAX_CONFUSED_CLASSES)
    among = shares[np.ix_(chosen, chosen)]
    others = (shares[chosen].sum(1) - among.sum(1))[:, None]
    return [_short(result.class_names[label]) for label in chosen], np.concatenate([among, others], axis=1)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _write_numbers(axes: Axes, shares: Any) -> None:
    for (row, column), value in np.ndenumerate(shares):
        if value >= 0.5:
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "#374151")
