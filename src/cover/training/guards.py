"""Guards against wrong numbers: NaN ends a run; a loss that jumps, or grows from the start, gives a warning."""

from __future__ import annotations

import logging
import math
from collections import deque
from itertools import compress
from statistics import median

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from cover.errors import TrainingError
from cover.training.objective import StepOutput
from cover.training.packed_batch import PackedBatch

logger = logging.getLogger(__name__)

SPIKE, NUM_BEFORE = 3.0, 20
"""A spike is a logged loss of SPIKE times the median of the NUM_BEFORE losses before it."""
GROWTH, NUM_EARLY = 2.0, 10
"""The learning rate may be too high if one of the first NUM_EARLY logged losses is GROWTH times the first."""
NUM_NAMED = 5
"""Samples named in a message, at most."""


class NonFiniteGuard:
    """Ends a run as soon as its losses or gradients are not finite, before such weights are saved.

    Numbers are checked one step late, while the device computes the next step, so that the host does not wait.

    Args:
        accelerator: The process's devices and communication.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._clips: list[tuple[tuple[str, ...], Tensor]] = []  # names of samples, and whether each is finite
        self._loss = torch.zeros((), device=accelerator.device)
        self._step: tuple[int, Tensor, list[tuple[tuple[str, ...], Tensor]]] | None = None

    def add(self, batch: PackedBatch, output: StepOutput) -> None:
        """Add a micro-batch of the present step."""
        self._clips.append((batch.sample_ids, output.finite))
        self._loss = self._loss + output.total

    def end_step(self, step: int, gradient_norm: Tensor) -> None:
        """Check the step before, and keep this one. gradient_norm: over all processes."""
        self.check()
        # Infinite gradients are normal with the loss scaling of fp16, so only losses are checked there.
        number = gradient_norm if self.accelerator.scaler is None else self.accelerator.reduce(self._loss)
        self._step = (step, number, self._clips)
        self._clips, self._loss = [], torch.zeros_like(self._loss)

    def check(self) -> None:
        """Check the last step. Raises TrainingError in all processes, with the step and the samples."""
        if self._step is None:
            return
        step, number, clips = self._step
        self._step = None
        if math.isfinite(float(number)):
            return
        names: list[str] = gather_object(
            [name for sample_ids, finite in clips for name in compress(sample_ids, (~finite).tolist())]
        )
        num_clips = sum(gather_object([sum(len(sample_ids) for sample_ids, _ in clips)]))
        raise TrainingError(
            f"step {step}: {_described(names, num_clips)}; lower optimizer.learning_rate, set "
            "optimizer.clip_gradient_norm, or bring the datasets' sample weights closer together (the mixture table "
            "shows them), and continue from the last checkpoint with --resume"
        )


def _described(names: list[str], num_clips: int) -> str:
    if not names:
        return "the gradients are not finite, though all losses are"
    more = f" and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return f"the loss of {len(names)} of {num_clips} clips is not a finite number: {', '.join(names[:NUM_NAMED])}{more}"


class LossSpikeMonitor:
    """Warns about a loss that jumps, or that grows from the beginning of a run.

    Args:
        first_step: Where the run starts or continues. A continued run is not checked for growth.
        what: What it is called in warnings.
    """

    def __init__(self, first_step: int, what: str = "the loss") -> None:
        self.what = what
        self._before: deque[float] = deque(maxlen=NUM_BEFORE)
        self._first: float | None = None
        self._num_early = 0 if first_step else NUM_EARLY

    def see(self, step: int, loss: float, learning_rate: float) -> None:
        """Check a logged loss."""
        self._first = loss if self._first is None else self._first
        if self._num_early and loss > GROWTH * self._first:
            logger.warning(
                "%s has grown from %.3g to %.3g by step %d; a learning rate of %.3g may be too high",
                *(self.what, self._first, loss, step, learning_rate),
            )
            self._num_early = 0
        elif len(self._before) == NUM_BEFORE and loss > SPIKE * median(self._before):
            logger.warning(
                "step %d: %s has jumped to %.3g from about %.3g", step, self.what, loss, median(self._before)
            )
        self._num_early = max(self._num_early - 1, 0)
        self._before.append(loss)
