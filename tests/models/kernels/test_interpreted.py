"""Kernels compute what the plain operations beside them compute, with every gradient, under Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.models.kernels import test_kernels, test_window

Found = dict[str, Any]


@pytest.fixture(scope="module", params=["quick", pytest.param("full", marks=pytest.mark.slow)])
def found(request: pytest.FixtureRequest) -> Found:
    """What interpreted.py prints. The interpreter has no products of bfloat16."""
    pytest.importorskip("triton", reason="the extra `test` brings it on Linux")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.models.kernels.interpreted", request.param],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    printed: Found = json.loads(run.stdout)
    return printed | {"size": request.param}


def test_blocks(found: Found) -> None:
    assert found["blocks"].keys() == (
        test_kernels.QUICK_CASES if found["size"] == "quick" else test_kernels.CASES.keys()
    )
    assert max(value for case in found["blocks"].values() for value in case.values()) < 5e-6, found
    ours, plain = found["half"]
    assert ours < 1.5 * plain < 1e-2, found
    assert found["split"] < 2**-15


def test_windows(found: Found) -> None:
    assert found["windows"].keys() == test_window.CASES.keys()
    assert max(error for case in found["windows"].values() for error in case.values()) < 2e-6, found
    assert max(found["half windows"].values()) < 4e-3, found


def test_pooling(found: Found) -> None:
    assert max(found["pooling"]) < 2e-6, found


def test_float8(found: Found) -> None:
    """The program itself compares kernels with plain operations, which must agree to the bit."""
    if found["size"] == "full":
        for in_float8, in_bfloat16 in zip(*found["float8"], strict=True):
            assert 2 * in_bfloat16 < in_float8 < 16 * in_bfloat16
