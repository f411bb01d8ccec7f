from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cover.core.drawing import drawing


def test_signs_without_a_font_are_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with drawing({"font.size": 9}):
            figure = Figure()
            figure.suptitle("open door \U0010fffd")
            figure.savefig(tmp_path / "a.png")
            figure.savefig(tmp_path / "b.png")
    (record,) = caplog.records
    assert record.getMessage().startswith("no font for \\U0010fffd, so the figure shows boxes")


def test_other_warnings_are_not_silenced() -> None:
    with pytest.warns(UserWarning, match="other"), drawing({}):
        warnings.warn("other", stacklevel=1)
