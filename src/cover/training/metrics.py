"""What a run writes down while it trains: metrics.jsonl, and the same numbers to the trackers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from cover.clip import UNREADABLE, MixedBatch


class DatasetTotals:
    """Sums over steps and processes of each dataset's loss, correct answers, clips and unreadable clips.

    They stay on the device until `means` is called, so that counting does not wait for the GPU.
    """

    def __init__(self, names: list[str], device: torch.device) -> None:
        self.names = names
        self.sums = torch.zeros(len(names), 4, dtype=torch.float64, device="cpu" if device.type == "mps" else device)

    def add(self, batch: MixedBatch, logits: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> None:
        """Count one batch. losses: summed cross-entropy per dataset."""
        for row, name in enumerate(self.names):
            if name in batch:
                labels = batch[name].labels
                correct = (logits[name].argmax(-1) == labels).sum()
                unreadable = (labels == UNREADABLE).sum()
                values = (losses[name].detach(), correct, (labels != UNREADABLE).sum(), unreadable)
                self.sums[row] += torch.stack([value.to(self.sums) for value in values])

    def means(self, accelerator: Accelerator) -> dict[str, dict[str, Any]]:
        """Clips and unreadable clips of each dataset that had any, over all processes, and mean loss and top-1 of
        those that could be read; then reset."""
        table = accelerator.reduce(self.sums, reduction="sum").tolist()
        self.sums.zero_()
        rows: dict[str, dict[str, Any]] = {}
        for name, (loss, correct, clips, unreadable) in zip(self.names, table, strict=True):
            if clips or unreadable:
                rows[name] = {"clips": int(clips), "unreadable": int(unreadable)}
            if clips:
                rows[name] |= {"loss": loss / clips, "top1": correct / clips}
        return rows


class MetricsFile:
    """RUN/metrics.jsonl: one JSON object a line."""

    def __init__(self, path: Path, first_step: int) -> None:
        """first_step: where the run (re)starts; lines of later steps, written before an interruption, are cut."""
        self.path = path
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= first_step]
            path.write_text("".join(f"{line}\n" for line in kept) if first_step else "")

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers as trackers want them: {"datasets/k400/loss": 1.2, …}."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            flat[prefix + key] = value
    return flat
