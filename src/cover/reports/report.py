"""One self-contained HTML page about some runs: what they were, what they measured, what they say about samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from cover import __version__
from cover.core.atomic_files import write_whole
from cover.evaluation.comparison import Comparison
from cover.evaluation.orders import FRAME_ORDERS
from cover.reports import formats
from cover.reports.cards import Frames, Strip, sample_cards
from cover.reports.class_plots import MAX_LABELLED_CLASSES
from cover.reports.plots import accuracy_figure, curves_figure, run_colors
from cover.reports.sections import DatasetSection, dataset_section

MAX_ROWS = 40
"""Rows of a table that are shown without a click."""


def write_report(
    comparison: Comparison,
    out: Path,
    *,
    strips: Mapping[str, Sequence[Strip]] | None = None,
    frames: Mapping[str, Mapping[str, Frames]] | None = None,
    stages: Mapping[str, float] | None = None,
) -> None:
    """Write the page about a comparison to `out`, whole or not at all.

    strips: run -> random samples with its predictions. frames: dataset -> sample id -> frames of the samples that runs
    disagree on (`RunPair.helped_examples`, `hurt_examples`). stages: name -> wall time in seconds, in order.
    """
    records, colors = comparison.records, run_colors(comparison.records)
    trained_on = dict.fromkeys(dataset for record in records for dataset in record.datasets)
    page = _template().render(
        version=__version__,
        comparison=comparison,
        records=records,
        colors=colors,
        orders=FRAME_ORDERS,
        max_labelled_classes=MAX_LABELLED_CLASSES,
        max_rows=MAX_ROWS,
        accuracy_figure=accuracy_figure(comparison, colors) if comparison.policy_rows else None,
        curves={dataset: curves_figure(records, dataset, colors) for dataset in trained_on},
        sections=_sections(comparison, colors, strips or {}, frames or {}),
        stages=dict(stages or {}),
    )
    write_whole(out, page)


def _sections(
    comparison: Comparison,
    colors: Mapping[str, str],
    strips: Mapping[str, Sequence[Strip]],
    frames: Mapping[str, Mapping[str, Frames]],
) -> list[DatasetSection]:
    """Of every dataset that was evaluated, or of which there are samples."""
    rows, cards = {row.dataset: row for row in comparison.policy_rows}, sample_cards(strips)
    return [
        dataset_section(dataset, rows.get(dataset), colors, frames.get(dataset, {}), cards.get(dataset, ()))
        for dataset in rows | cards
    ]


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("cover.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("chance", "count", "duration", "percent", "percent_range", "points", "points_range"):
        environment.filters[name] = getattr(formats, name)
    return environment.get_template("report.html.j2")
