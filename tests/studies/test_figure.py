from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from tests.studies.miniature import finished, study_of

from cover.studies.figure import study_figure, write_figure
from cover.studies.table import make_table


def points(axes: Axes) -> dict[tuple[float, ...], list[float]]:
    """Heights → percent, of all that is drawn."""
    return {tuple(np.ravel(line.get_ydata())): list(np.ravel(line.get_xdata())) for line in axes.lines}


def test_panels_are_columns_and_heights_are_rows() -> None:
    study = study_of()
    scenes, moves = study_figure(make_table(study, finished(study))).axes
    assert (scenes.get_title(loc="center"), moves.get_title(loc="center")) == ("scenes", "moves")
    assert [label.get_text() for label in scenes.get_yticklabels()] == ["standard", "co-training"]
    assert scenes.get_ylim() == (1.5, -0.5)  # the first row is at the top

    drawn = points(scenes)
    assert drawn[(0.0,)] == pytest.approx([72.0])
    assert drawn[(0.25, 0.25, 0.25)] == pytest.approx([70.0, 72.0, 74.0])
    assert drawn[(1.0,)] == pytest.approx([75.0])
    assert drawn[(0.0, 1.0)] == pytest.approx([72.0, 72.0])  # from the row that the other is compared with
    (interval, _) = (bar.get_segments()[0] for bar in scenes.collections)  # type: ignore[attr-defined]
    assert interval[:, 0] == pytest.approx([72 - 4.969, 72 + 4.969], abs=1e-3)


def test_a_study_without_results_has_a_figure_too() -> None:
    assert len(study_figure(make_table(study_of(), {})).axes) == 2


def test_the_same_table_gives_the_same_file(tmp_path: Path) -> None:
    study = study_of()
    table = make_table(study, finished(study))
    for name in ("a.svg", "b.svg"):
        write_figure(table, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
