from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from tests.studies.miniature import finished, study_of

from cover.errors import CoverError
from cover.studies.page import check_places, fill_in, study_figure, write_figure
from cover.studies.table import make_table

PAGE = """# Findings

<!-- study one -->
<!-- end -->

Between.

<!-- study two -->
An old table.
<!-- end -->

After.
"""


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page, study = tmp_path / "study.md", study_of()
    page.write_text(PAGE)
    fill_in(make_table(study, finished(study)), "two", page)
    before, _, rest = page.read_text().partition("<!-- study two -->\n")
    filled, _, after = rest.partition("<!-- end -->")
    assert before == PAGE.partition("<!-- study two -->")[0] and after == "\n\nAfter.\n"
    assert "An old table" not in filled
    assert filled.startswith("\n**Two datasets.** Does the other one help?\n\n|  | scenes | moves |")
    assert filled.endswith("\n\n![Two datasets](study/two.svg)\n\n")
    assert sorted(file.name for file in tmp_path.rglob("*.*")) == ["study.md", "two.svg"]


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    page, study = tmp_path / "study.md", study_of()
    page.write_text(PAGE)
    contents = []
    for _ in range(2):
        fill_in(make_table(study, finished(study)), "two", page)
        fill_in(make_table(study, finished(study)), "one", page)
        contents.append([page.read_bytes(), (tmp_path / "study" / "one.svg").read_bytes()])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "does not exist; create it, and add the lines"),
        ("# Findings\n", "has no place for study 'two'; add the lines"),
        ("<!-- study two -->\n<!-- study one -->\n<!-- end -->\n", "has no place for study 'two'; add the lines"),
    ],
    ids=["no", "bare", "open"],
)
def test_a_page_without_the_marks_is_refused_and_left_alone(tmp_path: Path, text: str | None, fault: str) -> None:
    page, study = tmp_path / "study.md", study_of()
    if text:
        page.write_text(text)
    with pytest.raises(CoverError, match=f"study.md {fault} <!-- study two --> and <!-- end -->"):
        check_places(page, ["two"])
    with pytest.raises(CoverError, match=fault):
        fill_in(make_table(study, finished(study)), "two", page)
    assert list(tmp_path.iterdir()) == ([page] if text else [])


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
