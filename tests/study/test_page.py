from __future__ import annotations

from pathlib import Path

import pytest
from tests.study.miniature import finished, study_of

from cover.errors import CoverError
from cover.study.page import write_report

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
    write_report(study, "two", finished(study), page)
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
        write_report(study, "two", finished(study), page)
        write_report(study, "one", finished(study), page)
        contents.append([page.read_bytes(), (tmp_path / "study" / "one.svg").read_bytes()])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "text", [None, "# Findings\n", "<!-- study two -->\n<!-- study one -->\n<!-- end -->\n"], ids=["no", "bare", "open"]
)
def test_a_page_without_the_marks_is_refused_and_left_alone(tmp_path: Path, text: str | None) -> None:
    page, study = tmp_path / "study.md", study_of()
    if text:
        page.write_text(text)
    with pytest.raises(
        CoverError, match=r"(no place for study 'two'; |does not exist; write it, and )put the lines <!-- study two -->"
    ):
        write_report(study, "two", finished(study), page)
    assert list(tmp_path.iterdir()) == ([page] if text else [])
