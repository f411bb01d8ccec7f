"""The report's figures of single classes and of probabilities, as SVG in data URIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from cover.core.drawing import CHANCE_COLOR, STYLE, drawing, shortened
from cover.evaluation.calibration import Calibration
from cover.evaluation.confusion import confused_labels, confusion_shares, count_pairs
from cover.evaluation.result import DatasetResult
from cover.evaluation.run_pair import RunPair
from cover.reports.plots import data_uri
from cover.reports.terminal_tables import percent

MAX_LABELLED_CLASSES = 40
"""With more classes, a figure does not name each of them, and a confusion matrix shows the most confused ones."""
MAX_CONFUSED_CLASSES = 30
MAX_BARS = 500
"""Bars of single classes. More would be too fine to see, so with more classes every n-th has a bar."""
MAX_NUMBERED_CLASSES = 16
PANELS_A_ROW = 4
OTHERS = "(all others)"


def changes_figure(pair: RunPair, colors: Mapping[str, str]) -> str:
    """Draw the second run's top-1 minus the first run's: a bar a class, in the colour of the better run."""
    shown = np.linspace(0, len(pair.changes) - 1, min(len(pair.changes), MAX_BARS)).round().astype(int)
    changes = [pair.changes[place] for place in shown]
    values = [100 * (change.second_top1 - change.first_top1) for change in changes]
    labelled = len(values) <= MAX_LABELLED_CLASSES
    with drawing(STYLE):
        names = [shortened(change.class_name) for change in changes] if labelled else []
        height = 2.2 + _inches(names)
        figure = Figure(figsize=(min(2.4 + 0.26 * len(values), 7.6), height), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="x", visible=False)
        better = [colors[pair.second_run if value > 0 else pair.first_run] for value in values]
        axes.bar(range(len(values)), values, color=better, width=0.75 if labelled else 1.0)
        axes.axhline(0, color=CHANCE_COLOR, lw=0.8)
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_ylabel("Δ top-1 (points)")
        axes.set_xticks(range(len(names)), names, rotation=90)
        if not labelled:
            axes.set_xlabel(f"{len(pair.changes):,} classes, the most helped first")
        return data_uri(figure)


def reliability_figure(calibrations: Mapping[str, Calibration], colors: Mapping[str, str]) -> str:
    """Draw a reliability diagram for each run: the top-1 of each bin of probability, and the samples in the bin."""
    num_columns = min(len(calibrations), PANELS_A_ROW)
    num_rows = -(-len(calibrations) // num_columns)
    with drawing(STYLE):
        figure = Figure(figsize=(2.5 * num_columns, 3.1 * num_rows), layout="constrained")
        panels = figure.subfigures(num_rows, num_columns, squeeze=False).ravel()
        for panel, (run, calibration) in zip(panels, calibrations.items(), strict=False):
            top1_axes, share_axes = panel.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            _reliability(top1_axes, calibration, colors[run])
            edges, width = _bin_places(calibration)
            counts = np.array([each.num_samples for each in calibration.bins])
            share_axes.bar(edges, 100 * counts / counts.sum(), width, color=CHANCE_COLOR, align="edge")
            top1_axes.set(title=f"{shortened(run)}\nECE {percent(calibration.expected_error)} %", ylabel="top-1 (%)")
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
    """Lower edges and width of the bins, in percent."""
    num_bins = len(calibration.bins)
    return 100 * np.arange(num_bins) / num_bins, 100 / num_bins


def confusion_figure(result: DatasetResult) -> str | None:
    """Draw the confusion matrix: true classes in rows, which sum to 100 %, and predicted classes in columns.

    Returns:
        None if there are too many classes to show and none is confused.
    """
    names, shares = _confusion_shares(result)
    if not names:
        return None
    num_rows, num_columns = shares.shape
    columns = names + [OTHERS] * (num_columns - num_rows)
    with drawing(STYLE | {"axes.grid": False, "font.size": 8 if num_rows <= 24 else 6.5}):
        size = 1.1 + _inches(columns) + (0.3 if num_rows <= MAX_NUMBERED_CLASSES else 0.19) * num_rows
        figure = Figure(figsize=(size + 0.9, size), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_xticks(range(num_columns), columns, rotation=90)
        axes.set_yticks(range(num_rows), names)
        if num_rows <= MAX_NUMBERED_CLASSES:
            _write_numbers(axes, shares)
        figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
        return data_uri(figure)


def _confusion_shares(result: DatasetResult) -> tuple[list[str], Any]:
    """Names of the rows, and percentages [rows, columns]. With many classes, one more column has all others."""
    pairs, num_classes = count_pairs(result), len(result.class_names)
    shows_all = num_classes <= MAX_LABELLED_CLASSES
    chosen = list(range(num_classes)) if shows_all else confused_labels(pairs, MAX_CONFUSED_CLASSES)
    shares = 100 * confusion_shares(pairs, chosen)
    return [shortened(result.class_names[label]) for label in chosen], shares[:, :-1] if shows_all else shares


def _inches(names: Sequence[str]) -> float:
    """Length of the longest name beside an axis, in the current style. Without room for it, a figure has no axes."""
    size = mpl.rcParams["font.size"]
    return max((TextPath((0, 0), name, size=size).get_extents().width / 72 for name in names), default=0)


def _write_numbers(axes: Axes, shares: Any) -> None:
    for (row, column), value in np.ndenumerate(shares):
        if value >= 0.5:
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 50 else "#374151")
