"""Gradients that CUDA graphs compute: forward pass, loss and backward pass of a micro-batch in one launch."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from cover.config.training_sections import TrainingSection
from cover.models.cuda_graphs import GraphedFunction, Tensors
from cover.training.objective import Objective, StepOutput
from cover.training.packed_batch import Layout, PackedBatch
from cover.training.parallel import is_sharded

ALIGNMENT = 64
"""Numbers. Each gradient starts at a multiple, so that kernels can load several numbers at once."""


def obstacle(section: TrainingSection, accelerator: Accelerator) -> str | None:
    """Why training on a GPU cannot replay CUDA graphs; None if it can. Every process must call this."""
    if is_sharded(section, accelerator):
        return 'training.parallel = "fsdp" gathers weights while it computes'
    if section.compile:
        return "training.compile has kernels of its own"
    if accelerator.num_processes > 1 and num_machines() > 1:
        return "several machines average gradients while the backward pass runs, to hide the time of the network"
    return None


def num_machines() -> int:
    """How many machines the processes run on. Every process must call this.

    Only torchrun says how many processes a machine has; srun, for example, does not.
    """
    return len(set(gather_object([socket.gethostname()])))


def flat_gradients(parameters: Sequence[nn.Parameter], device: torch.device) -> Tensor:
    """Give parameters gradients that are parts of one buffer, filled with zeros. Returns the buffer."""
    sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
    buffer = torch.zeros(sum(sizes), device=device)
    for parameter, part in zip(parameters, buffer.split(sizes), strict=True):
        parameter.grad = part[: parameter.numel()].view_as(parameter)
    return buffer


class GraphedGradients:
    """The gradients of a model, which every call adds to, by a CUDA graph where one has been recorded.

    A graph knows addresses, so gradients keep theirs from step to step. They are parts of one buffer, which is cleared
    and summed over processes in one call.

    Args:
        module: What `objective` calls. Parameters that are not frozen get their `grad` here; do not replace it.
        objective: Computes the loss.
        accelerator: Precision and communication of the process.
    """

    def __init__(self, module: nn.Module, objective: Objective, accelerator: Accelerator) -> None:
        self.module = module
        self.objective = objective
        self.accelerator = accelerator
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._buffer = flat_gradients(self._parameters, accelerator.device)
        self._gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._graphed = GraphedFunction(self._add)

    def add(self, batch: PackedBatch) -> StepOutput:
        """Add the gradients of a micro-batch."""
        outputs = self._graphed(batch.tensors, batch.layout)
        return StepOutput(**{name: tensor.clone() for name, tensor in outputs.items()})  # the next call overwrites them

    def sum_over_processes(self) -> None:
        """Replace the gradients by their sum over all processes, which each must call."""
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(self._buffer)

    def clear(self) -> None:
        """Set the gradients to zero."""
        self._buffer.zero_()

    def metrics(self) -> dict[str, float]:
        """The graphs that were recorded, how long that took, and the memory they keep, for metrics.jsonl."""
        graphed = self._graphed
        return {
            "cuda_graphs": graphed.num_graphs,
            "cuda_graphs_seconds": round(graphed.seconds, 2),
            "cuda_graphs_gib": round(graphed.pool_bytes / 2**30, 2),
        }

    def _add(self, tensors: Tensors, layout: Layout) -> dict[str, Any]:
        with self.accelerator.autocast():
            output = self.objective.step(self.module, PackedBatch.from_tensors(tensors, layout))
        scaler = self.accelerator.scaler
        total = output.total if scaler is None else scaler.scale(output.total)
        found = torch.autograd.grad(total, self._parameters, allow_unused=True)
        used = [number for number, gradient in enumerate(found) if gradient is not None]
        torch._foreach_add_([self._gradients[number] for number in used], [found[number] for number in used])
        return output._replace(total=output.total.detach())._asdict()
