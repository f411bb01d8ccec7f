"""The modules of torchvision, the oracle of several families.

torchvision 0.28.0 must not be installed beside a CPU-only torch. To run the tests that need it, unpack it elsewhere:

    pip install --no-deps --target DIR torchvision==0.28.0
    COVER_TORCHVISION=DIR pytest tests/models/video_swin tests/models/mvit
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from typing import Any

import pytest
import torch

FOLDER = "COVER_TORCHVISION"
"""The environment variable with the folder that torchvision was unpacked to."""


def torchvision_module(name: str) -> Any:
    """Return a module of torchvision by its full name. Skips the test if there is no torchvision."""
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(f"{FOLDER} does not name a folder with torchvision")
    _define_operations()
    sys.path.append(folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


@cache
def _define_operations() -> torch.library.Library:
    """Define the operations that the import asks for. They end with the last reference to the library."""
    importlib.import_module("transformers")  # before torchvision can be found, which its import would try to use
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
