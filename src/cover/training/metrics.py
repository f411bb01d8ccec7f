"""The numbers of a run while it trains: sums over steps, metrics.jsonl, and what trackers get."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from cover.config.layers import flattened
from cover.core.atomic_files import append_line, write_whole
from cover.training.objective import StepOutput

CONTINUE = "then continue with --resume"
"""The remedy when a run cannot be written."""


class TrainMetrics:
    """Sums over steps and processes: the loss, and each dataset's loss, correct answers, clips and unreadable clips.

    They stay on the device until `take`, so that counting does not wait for the GPU.

    Args:
        names: Of the datasets.
        accelerator: The process's devices and communication.
    """

    def __init__(self, names: Sequence[str], accelerator: Accelerator) -> None:
        self.names = list(names)
        self.accelerator = accelerator
        device = accelerator.device
        self._sums = torch.zeros(
            len(names) + 1, 4, dtype=torch.float64, device="cpu" if device.type == "mps" else device
        )

    def add(self, output: StepOutput) -> None:
        """Add a micro-batch."""
        self._sums[-1, 0] += output.total.to(self._sums)
        self._sums[:-1] += output.sums.to(self._sums)

    def end_step(self) -> None:
        """Count a step whose micro-batches were all added."""
        self._sums[-1, 1] += float(self.accelerator.is_main_process)

    def take(self) -> tuple[float, dict[str, dict[str, Any]]]:
        """Return the means since the last call, and start again. Every process must call this.

        Returns:
            The mean loss of a step; and {dataset: {"clips", "unreadable", "loss", "top1"}} of the datasets that had
            clips. The first two are numbers of clips, the others means over readable clips.
        """
        *table, (loss, num_steps, *_) = self._reduced().tolist()
        self._sums.zero_()
        rows: dict[str, dict[str, Any]] = {}
        for name, (dataset_loss, correct, clips, unreadable) in zip(self.names, table, strict=True):
            if clips or unreadable:
                rows[name] = {"clips": int(clips), "unreadable": int(unreadable)}
            if clips:
                rows[name] |= {"loss": dataset_loss / clips, "top1": correct / clips}
        return loss / num_steps, rows

    def tensors(self) -> dict[str, Tensor]:
        """The sums for a checkpoint: "totals/DATASET", and "totals/" of all. Every process must call this."""
        return {f"totals/{name}": row for name, row in zip([*self.names, ""], self._reduced().cpu(), strict=True)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the sums of a checkpoint. Only the main process adds them."""
        if self.accelerator.is_main_process:
            for row, name in enumerate([*self.names, ""]):
                if f"totals/{name}" in tensors:
                    self._sums[row] = tensors[f"totals/{name}"].to(self._sums)

    def _reduced(self) -> Tensor:
        sums: Tensor = self.accelerator.reduce(self._sums.clone(), reduction="sum")
        return sums


class MetricsFile:
    """RUN/metrics.jsonl: one JSON object per line.

    Args:
        path: The file.
        first_step: Where the run starts or continues. Lines of later steps, from before an interruption, are deleted.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text(errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if first_step and _step_of(line) <= first_step]
            write_whole(path, "".join(kept))

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line."""
        append_line(self.path, json.dumps(values), CONTINUE)


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; infinite where the line is half written or damaged."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


def flat_numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Nested numbers for trackers: {"datasets/k400/loss": 1.2, …}."""
    return {key: value for key, value in flattened(values, "/").items() if isinstance(value, int | float)}
