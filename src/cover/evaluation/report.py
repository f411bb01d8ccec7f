"""One self-contained HTML page about some runs: what they were, what they measured, what they say about samples."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from cover import __version__
from cover.evaluation import formats
from cover.evaluation.comparison import Comparison, compare
from cover.evaluation.orders import FRAME_ORDERS
from cover.evaluation.plots import accuracy_figure, confusion_figure, curves_figure, run_colors
from cover.evaluation.record import load_records
from cover.evaluation.strips import Strip

MAX_FRAMES_SHOWN = 8
GAP_PX = 2


@dataclass
class SampleCard:
    """One clip and what every run says about it."""

    image: str
    num_frames: int
    num_frames_shown: int
    true_class: str
    answers: list[tuple[str, Strip]] = field(default_factory=list)


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    strips: Mapping[Path, Sequence[Strip]] | None = None,
    stages: Mapping[str, float] | None = None,
) -> Comparison:
    """Write the page about `runs` to `out`, whole or not at all, and return the comparison it shows.

    strips: run folder -> samples with its predictions. stages: name -> wall time in seconds, in order.

    Raises CheckpointError for a folder that is no run.
    """
    records = load_records(runs)
    comparison = compare(records)
    colors = run_colors(records)
    trained_on = dict.fromkeys(dataset for record in records for dataset in record.datasets)
    page = _template().render(
        version=__version__,
        comparison=comparison,
        records=records,
        colors=colors,
        orders=FRAME_ORDERS,
        accuracy_figure=accuracy_figure(comparison, colors) if comparison.policy_rows else None,
        curves={dataset: curves_figure(records, dataset, colors) for dataset in trained_on},
        confusions={
            row.dataset: [(run, confusion_figure(result)) for run, result in row.by_run.items()]
            for row in comparison.policy_rows
        },
        samples=_sample_cards({record.name: (strips or {}).get(record.folder, ()) for record in records}),
        stages=dict(stages or {}),
    )
    _write(out, page)
    return comparison


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name in ("count", "duration", "percent", "percent_range", "points", "points_range"):
        environment.filters[name] = getattr(formats, name)
    return environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))


def _sample_cards(strips: Mapping[str, Sequence[Strip]]) -> dict[str, list[SampleCard]]:
    """Dataset -> cards; runs that were asked about the same sample share its card."""
    cards: dict[str, dict[str, SampleCard]] = {}
    for run, run_strips in strips.items():
        for strip in run_strips:
            of_dataset = cards.setdefault(strip.dataset, {})
            if strip.sample_id not in of_dataset:
                of_dataset[strip.sample_id] = _new_card(strip)
            of_dataset[strip.sample_id].answers.append((run, strip))
    return {dataset: list(of_dataset.values()) for dataset, of_dataset in cards.items()}


def _new_card(strip: Strip) -> SampleCard:
    num_frames = len(strip.frames)
    num_shown = min(num_frames, MAX_FRAMES_SHOWN)
    shown = strip.frames[np.linspace(0, num_frames - 1, num_shown).round().astype(int)]
    padded = np.pad(shown, ((0, 0), (0, 0), (0, GAP_PX), (0, 0)), constant_values=255)
    row = np.concatenate(list(padded), axis=1)[:, :-GAP_PX]
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, "JPEG", quality=85)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return SampleCard(uri, num_frames, num_shown, strip.true_class)


def _write(out: Path, page: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(out)
