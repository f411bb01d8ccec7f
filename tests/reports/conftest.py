"""The invented results and runs of the evaluation tests."""

from __future__ import annotations

from tests.evaluation.conftest import make_result, make_run

__all__ = ["make_result", "make_run"]
