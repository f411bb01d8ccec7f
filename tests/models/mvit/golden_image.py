"""Logits of the official image MViT v2 for random weights and images. Its code is fetched, and only run.

    git clone https://github.com/facebookresearch/mvit DIR
    git -C DIR checkout dfbdfdf60efb36128cb2847950deaa560ceb7bfc
    COVER_MVIT=DIR python -m tests.models.mvit.golden_image

writes the file again: the model's tensors by their official names ("model."), and images with their logits.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FILE = Path(__file__).with_name("golden_image.safetensors")
COMMIT = "dfbdfdf60efb36128cb2847950deaa560ceb7bfc"
NUM_CLASSES, SIZE_PX = 3, 32
SIZES: dict[str, Any] = {"width": 4, "depths": (1, 2, 5, 2), "num_heads": 1, "class_token": False}
"""The depths of the Tiny model; settings of ours."""
STARTS = (1, 3, 8)
"""The first blocks of the later stages."""


class Settings(dict[str, Any]):
    """The settings that the official code reads: the values of `MVIT` and of everything else, in one dictionary."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def official_model(folder: str) -> nn.Module:
    """Build a small model, with what its modules import and do not need left out."""
    for name in ("mvit", "mvit.models"):
        package = ModuleType(name)
        package.__path__ = [str(Path(folder, *name.split(".")))]
        sys.modules[name] = package
    for name in ("mvit.utils", "mvit.utils.logging", "mvit.utils.misc"):
        sys.modules[name] = MagicMock()
    sys.modules["mvit"].utils = sys.modules["mvit.utils"]  # type: ignore[attr-defined]
    build: Any = ModuleType("mvit.models.build")
    build.MODEL_REGISTRY = MagicMock(register=lambda: lambda model: model)
    sys.modules["mvit.models.build"] = build
    depth = sum(SIZES["depths"])
    mvit = Settings(
        EMBED_DIM=SIZES["width"], NUM_HEADS=SIZES["num_heads"], DEPTH=depth, CLS_EMBED_ON=SIZES["class_token"],
        PATCH_KERNEL=[7, 7], PATCH_STRIDE=[4, 4], PATCH_PADDING=[3, 3], MLP_RATIO=4.0, QKV_BIAS=True,
        USE_ABS_POS=False, REL_POS_SPATIAL=True, REL_POS_ZERO_INIT=False, ZERO_DECAY_POS_CLS=False, DROPPATH_RATE=0.0,
        MODE="conv", POOL_FIRST=False, RESIDUAL_POOLING=True, DIM_MUL_IN_ATT=True,
        DIM_MUL=[[block, 2.0] for block in STARTS], HEAD_MUL=[[block, 2.0] for block in STARTS],
        POOL_KVQ_KERNEL=[3, 3], POOL_KV_STRIDE_ADAPTIVE=[4, 4], POOL_KV_STRIDE=[],
        POOL_Q_STRIDE=[[block, *2 * [2 if block in STARTS else 1]] for block in range(depth)],
    )  # fmt: skip
    data = Settings(TRAIN_CROP_SIZE=SIZE_PX, TEST_CROP_SIZE=SIZE_PX)
    head = Settings(NUM_CLASSES=NUM_CLASSES, DROPOUT_RATE=0.0, HEAD_ACT="softmax", ACT_CHECKPOINT=False)
    model: nn.Module = importlib.import_module("mvit.models.mvit_model").MViT(
        Settings(MVIT=mvit, DATA=data, MODEL=head)
    )
    return model


def write(folder: str, path: Path) -> None:
    """Draw weights and images, and store them with the logits."""
    torch.manual_seed(0)
    model = official_model(folder)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=1 if "norm" in name or "pos" in name else 0.3)
    images = torch.randn(2, 3, SIZE_PX, SIZE_PX)
    stored: dict[str, Tensor] = {f"model.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        logits = model.double().train()(images.double()).float()  # in eval mode it returns their softmax
    save_file(stored | {"images": images, "logits": logits}, path, {"commit": COMMIT})
    path.chmod(0o644)


if __name__ == "__main__":
    write(os.environ["COVER_MVIT"], FILE)
