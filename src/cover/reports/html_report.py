"""One self-contained HTML page about some runs: what they were, what they measured, and what they say about samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from cover import __version__
from cover.core.atomic_files import write_whole
from cover.evaluation.calibration import Calibration, calibrate
from cover.evaluation.comparison import Comparison, PolicyRow
from cover.evaluation.confusion import Confusion, most_confused
from cover.evaluation.result import DatasetResult
from cover.evaluation.run_pair import ClassChange, RunPair
from cover.evaluation.sample_views import FRAME_ORDERS
from cover.reports.cards import Frames, SampleCard, Strip, disagreement_cards, sample_cards
from cover.reports.class_plots import MAX_LABELLED_CLASSES, changes_figure, confusion_figure, reliability_figure
from cover.reports.plots import accuracy_figure, curves_figure, gradient_summaries, run_colors, shares_figure
from cover.reports.terminal_tables import chance, count, duration, percent, percent_range, points, points_range

MAX_ROWS = 40
"""A table with more rows is folded."""
NUM_CLASSES_SHOWN = 8
NUM_CONFUSIONS_SHOWN = 8


@dataclass(frozen=True)
class PairSection:
    """Two runs on a dataset: the classes that changed most, and clips that only one of the two runs gets right."""

    pair: RunPair
    helped: list[ClassChange]
    hurt: list[ClassChange]
    figure: str
    helped_cards: list[SampleCard]
    hurt_cards: list[SampleCard]


@dataclass(frozen=True)
class ConfusionSection:
    """What a run confuses.

    Attributes:
        pairs: The most frequent confusions, for a table.
        figure: The confusion matrix; None if there are too many classes to show and none is confused.
    """

    run: str
    pairs: list[Confusion]
    figure: str | None


@dataclass(frozen=True)
class ReportSection:
    """What the page shows of one dataset. `row` is None if no run was evaluated on it, so there are only samples."""

    dataset: str
    row: PolicyRow | None
    pairs: list[PairSection]
    calibrations: dict[str, Calibration]
    reliability_figure: str | None
    confusions: list[ConfusionSection]
    samples: Sequence[SampleCard]


def write_report(
    comparison: Comparison,
    out: Path,
    *,
    strips: Mapping[str, Sequence[Strip]] | None = None,
    frames: Mapping[str, Mapping[str, Frames]] | None = None,
    stages: Mapping[str, float] | None = None,
) -> None:
    """Write the page about a comparison; the file appears whole or not at all.

    Args:
        comparison: The runs and their results.
        out: The page.
        strips: Random samples with a run's predictions, by run.
        frames: Frames of the samples that two runs disagree on (`RunPair.helped_examples` and `hurt_examples`), by
            dataset and sample id.
        stages: Wall time in seconds of what led here, by name, in order.
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
        gradients={record.name: gradient_summaries(record) for record in records if record.gradients},
        share_figures={record.name: shares_figure(record) for record in records if record.gradients},
        sections=_sections(comparison, colors, strips or {}, frames or {}),
        stages=dict(stages or {}),
    )
    write_whole(out, page)


def _sections(
    comparison: Comparison,
    colors: Mapping[str, str],
    strips: Mapping[str, Sequence[Strip]],
    frames: Mapping[str, Mapping[str, Frames]],
) -> list[ReportSection]:
    """A section for each dataset that was evaluated or has samples."""
    rows, cards = {row.dataset: row for row in comparison.policy_rows}, sample_cards(strips)
    return [
        _section(dataset, rows.get(dataset), colors, frames.get(dataset, {}), cards.get(dataset, ()))
        for dataset in rows | cards
    ]


def _section(
    dataset: str,
    row: PolicyRow | None,
    colors: Mapping[str, str],
    frames: Mapping[str, Frames],
    samples: Sequence[SampleCard],
) -> ReportSection:
    results = row.by_run if row else {}
    calibrations = {run: calibrate(result.predictions) for run, result in results.items() if result.predictions}
    return ReportSection(
        dataset=dataset,
        row=row,
        pairs=[_pair_section(pair, colors, frames) for pair in (row.pairs if row else ())],
        calibrations=calibrations,
        reliability_figure=reliability_figure(calibrations, colors) if calibrations else None,
        confusions=[_confusion_section(run, result) for run, result in results.items()],
        samples=samples,
    )


def _pair_section(pair: RunPair, colors: Mapping[str, str], frames: Mapping[str, Frames]) -> PairSection:
    return PairSection(
        pair=pair,
        helped=pair.helped(NUM_CLASSES_SHOWN),
        hurt=pair.hurt(NUM_CLASSES_SHOWN),
        figure=changes_figure(pair, colors),
        helped_cards=disagreement_cards(pair, pair.helped_examples, frames),
        hurt_cards=disagreement_cards(pair, pair.hurt_examples, frames),
    )


def _confusion_section(run: str, result: DatasetResult) -> ConfusionSection:
    return ConfusionSection(run, most_confused(result, NUM_CONFUSIONS_SHOWN), confusion_figure(result))


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("cover.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for written in (chance, count, duration, percent, percent_range, points, points_range):
        environment.filters[written.__name__] = written
    return environment.get_template("report.html.j2")
