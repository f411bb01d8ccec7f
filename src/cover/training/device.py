"""Batches and the device: copies that overlap with computing, and how large a batch may be.

    computing   | forward, backward, step n          | forward, backward, step n + 1
    copying                     | batch n + 1 |                   | batch n + 2 |

The host runs ahead of the GPU: it fetches the next batch while the GPU still computes the step before. On the computing
stream, a copy would have to wait for that step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cover.core.batch import MixedBatch
from cover.errors import RecipeError
from cover.training.packed_batch import PackedBatch

USABLE_SHARE = 0.9
"""Share of the GPU's memory that a step may take. The rest is for fragmentation and other libraries."""


class Prefetcher:
    """Packs batches and copies them to a device. On a GPU the copies have a stream of their own.

    Args:
        device: Where batches go.
        upload: Packs a batch and copies it; use page-locked batches.
    """

    def __init__(self, device: torch.device, upload: Callable[[MixedBatch], PackedBatch]) -> None:
        self.device = device
        self.upload = upload
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: MixedBatch) -> PackedBatch:
        """Start the copy. Later computation waits for it, the host does not."""
        if self.stream is None:
            return self.upload(batch)
        with torch.cuda.stream(self.stream):
            uploaded = self.upload(batch)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        for tensor in uploaded.tensors.values():
            tensor.record_stream(computing)
        return uploaded


def fewest_micro_batches(
    model: nn.Module,
    loss_of: Callable[[MixedBatch], Tensor],
    blank_batch: Callable[[int], MixedBatch],
    most: int,
    bytes_per_weight: int,
    accelerator: Accelerator,
) -> int:
    """Find the smallest number of micro-batches that fits into the GPU's memory, by trial.

    Args:
        model: On its device and not yet parallel: if a trial fails, no other process waits for it.
        loss_of: Its loss of a batch, under autocast.
        blank_batch: Makes the largest of n micro-batches.
        most: Largest number to try.
        bytes_per_weight: What training keeps per parameter that learns, besides the parameter.
        accelerator: The process's devices and communication.

    Returns:
        A power of two, or `most`; the same for all processes. 1 without a GPU.

    Raises:
        RecipeError: Not even `most` micro-batches fit.
    """
    if accelerator.device.type != "cuda":
        return 1
    number = fewest(lambda number: _fits(model, loss_of, blank_batch(number), bytes_per_weight, accelerator), most)
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())


def fewest(fits: Callable[[int], bool], most: int) -> int:
    """The first of 1, 2, 4, …, `most` that fits. Raises RecipeError if none does."""
    number = 1
    while not fits(number):
        if number == most:
            raise RecipeError(
                "training.micro_batches = 'auto': not even one clip at a time fits into the memory of the GPU; "
                "set training.activation_checkpointing = 1, or take a smaller model"
            )
        number = min(2 * number, most)
    return number


def _fits(
    model: nn.Module,
    loss_of: Callable[[MixedBatch], Tensor],
    batch: MixedBatch,
    bytes_per_weight: int,
    accelerator: Accelerator,
) -> bool:
    device = accelerator.device
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with accelerator.autocast():
            total = loss_of(batch)
        total.backward()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        model.zero_grad()
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
    kept = bytes_per_weight * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return peak + kept < USABLE_SHARE * torch.cuda.get_device_properties(device).total_memory
