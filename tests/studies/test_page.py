from __future__ import annotations

from pathlib import Path

import pytest
from tests.studies.miniature import finished, study_of

from cover.errors import CoverError
from cover.studies.page import check_places, write_report
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
    write_report(make_table(study, finished(study)), "two", page)
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
        write_report(make_table(study, finished(study)), "two", page)
        write_report(make_table(study, finished(study)), "one", page)
        contents.append([page.read_bytes(), (tmp_path / "study" / "one.svg").read_bytes()])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "does not exist; write it, and put the lines"),
        ("# Findings\n", "has no place for study 'two'; put the lines"),
        ("<!-- study two -->\n<!-- study one -->\n<!-- end -->\n", "has no place for study 'two'; put the lines"),
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
        write_report(make_table(study, finished(study)), "two", page)
    assert list(tmp_path.iterdir()) == ([page] if text else [])
