"""Logits of torchvision 0.28.0's Video Swin for random weights and clips, so that tests need no torchvision.

    COVER_TORCHVISION=DIR python -m tests.models.video_swin.golden

writes the file again; torchvisions.py says what DIR is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.models.video_swin.oracle import create_oracle, oracle_logits, our_weights
from torch import Tensor

FILE = Path(__file__).with_name("golden.safetensors")
TORCHVISION = "0.28.0"
SETTINGS: dict[str, Any] = {"width": 8, "depths": (2, 2), "num_heads": (1, 2), "window": (2, 3, 3)}
HEADS = {"clips": 3, "odd": 3, "images": 3}
SHAPES = {"clips": (6, 2), "odd": (5, 1), "images": (1, 2)}
SIZE_PX = 26
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write(path: Path) -> None:
    """Draw weights and clips, and store them with the logits. All heads are equal."""
    torch.manual_seed(0)
    window = SETTINGS["window"]
    sizes = {name: value for name, value in SETTINGS.items() if name != "window"}
    oracle = create_oracle(window, num_classes=3, **sizes).eval()
    stored: dict[str, Tensor] = {}
    for head, (num_frames, num_clips) in SHAPES.items():
        frames = torch.randint(256, (num_frames, num_clips, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
        stored[f"frames.{head}"] = frames
        with torch.no_grad():
            stored[f"logits.{head}"] = oracle_logits(oracle.double(), (frames.double() / 255 - mean) / std).float()
        weights = our_weights(oracle.float(), head)
        stored |= {f"model.{name}": tensor.clone() for name, tensor in weights.items()}
    save_file(stored, path, {"torchvision": TORCHVISION})
    path.chmod(0o644)


def frames_of(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The clips in the file, uint8, by head."""
    return {head: stored[f"frames.{head}"] for head in SHAPES}


if __name__ == "__main__":
    write(FILE)
