"""What the tests of runs share: a tiny recipe, and its metrics without what a clock says."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from cover.config.recipe import Recipe
from cover.core.progress import Terminal

WriteMedia = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]

SECTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "variant": "timesformer_tiny",
        "depth": 2,
        "width": 48,
        "num_heads": 3,
        "num_frames": 4,
        "image_size": 32,
        "drop_path_rate": 0.1,
    },
    "data": {"batch_size": 6, "num_workers": 0},
    "augmentation": {"randaugment": {"num_ops": 1}, "mixup": 0.8, "cutmix": 1.0},
    "optimizer": {"schedule": "cosine", "learning_rate": 0.05, "layer_decay": 0.9, "clip_gradient_norm": 1.0},
    "training": {
        "label_smoothing": 0.1,
        "epochs": 2,
        "micro_batches": 2,
        "log_every": 1,
        "save_every": 2,
        "evaluate_every_epochs": 0.6,
    },
}
VIDEOS, IMAGES = ["jumps", "turns"], ["pets"]
SAMPLING: dict[str, dict[str, Any]] = {
    "data": {"rates": "sqrt"},
    "options": {
        "jumps": {"class_balanced": True, "mirror_pairs": [["left", "right"]], "color_jitter": 0.4},
        "turns": {
            "mixup": 0.0,
            "sampling": {"stride_frames": 1},
            "random_erasing": 0.5,
            "label_smoothing": 0.0,
            "temporal_jitter": True,
        },
        "pets": {"class_weights": {"left": 2.0, "right": 0.5}},
    },
}
"""Other ways to sample and to weigh, for `recipe_of`."""
LESS: dict[str, Any] = {
    "freeze": ["blocks.0.*lora_A", "blocks.1.temporal_attn.*"],
    "fresh_at_full_rate": True,
    "lora": {"rank": 2, "targets": ["*.qkv", "*.fc1"], "train": ["*temporal*", "time_embed", "norm.*"]},
}
"""Keys of `[optimizer]` with which less is trained."""
STEPS_PER_EPOCH = (12 + 8 + 10) // 6
TIMES = ("seconds", "_seconds", "_per_second", "_per_device", "data_wait_share")


def quiet() -> Console:
    return Terminal(StringIO(), width=120)


def lines_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith(TIMES)} for line in lines]
