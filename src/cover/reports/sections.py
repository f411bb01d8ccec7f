"""What the page shows of one dataset: classes, probabilities, confusions and sample clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cover.evaluation.calibration import Calibration, calibrate
from cover.evaluation.classes import ClassChange, RunPair
from cover.evaluation.comparison import PolicyRow
from cover.evaluation.confusion import Confusion, most_confused
from cover.evaluation.result import DatasetResult
from cover.reports.cards import Frames, SampleCard, disagreement_cards
from cover.reports.class_plots import changes_figure, confusion_figure, reliability_figure

NUM_CLASSES_SHOWN = 8
NUM_CONFUSIONS_SHOWN = 8


@dataclass(frozen=True)
class PairSection:
    """Two runs on the dataset: the classes that changed most, and clips that one run gets right, the other wrong."""

    pair: RunPair
    helped: list[ClassChange]
    hurt: list[ClassChange]
    figure: str
    helped_cards: list[SampleCard]
    hurt_cards: list[SampleCard]


@dataclass(frozen=True)
class ConfusionSection:
    """What a run confuses: the most frequent confusions as a table, and the matrix, None where there are too many
    classes to show and none is confused."""

    run: str
    pairs: list[Confusion]
    figure: str | None


@dataclass(frozen=True)
class DatasetSection:
    """A dataset that was evaluated, or of which there are but sample clips."""

    dataset: str
    row: PolicyRow | None
    pairs: list[PairSection]
    calibrations: dict[str, Calibration]
    reliability_figure: str | None
    confusions: list[ConfusionSection]
    samples: Sequence[SampleCard]


def dataset_section(
    dataset: str,
    row: PolicyRow | None,
    colors: Mapping[str, str],
    frames: Mapping[str, Frames],
    samples: Sequence[SampleCard],
) -> DatasetSection:
    """frames: sample id -> what to show of the samples that runs disagree on. samples: random ones."""
    results = row.by_run if row else {}
    calibrations = {run: calibrate(result.predictions) for run, result in results.items() if result.predictions}
    return DatasetSection(
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
