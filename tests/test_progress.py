from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
from cover.progress import track
for number in track(range(3), "counting"):
    print(number)
"""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals to make")
def test_what_is_printed_beside_a_bar_goes_where_it_should() -> None:
    terminal, its_end = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=its_end, text=True, check=True
    )
    os.close(its_end)
    assert done.stdout == "0\n1\n2\n"
    assert b"counting" in os.read(terminal, 4096)
    os.close(terminal)
