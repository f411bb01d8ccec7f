"""Batches and the device: how they get there while it computes, and how large they may be.

    computing   | forward, backward, step n          | forward, backward, step n + 1
    copying                     | batch n + 1 |                   | batch n + 2 |

The host is ahead of the GPU: it asks for the next batch while the step before is still computed. On the stream of the
computation a copy would have to wait for the end of that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import nn

from cover.core.batch import MixedBatch
from cover.errors import RecipeError
from cover.training.loss import loss

USABLE_SHARE = 0.9
"""Of the GPU's memory; the rest is for fragments and for what other libraries take."""


class Prefetcher:
    """Puts batches on a device; on a GPU by a stream of its own, for which they should lie in page-locked memory.

    stream: that of the copies; None where there is no GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: MixedBatch) -> MixedBatch:
        """The batch on the device; what is computed with it from here on waits for the copy, the host does not."""
        if self.stream is None:
            return batch.to(self.device)
        with torch.cuda.stream(self.stream):
            uploaded = batch.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self.stream)
        uploaded.record_stream(computing)
        return uploaded


def fewest_micro_batches(
    model: nn.Module,
    blank_batch: Callable[[int], MixedBatch],
    most: int,
    bytes_per_weight: int,
    accelerator: Accelerator,
) -> int:
    """The smallest power of two that fits, tried with a forward and a backward pass; the same for all processes.

    model: on its device and not yet parallel, so that a trial that fails leaves no other process waiting. blank_batch:
    the largest micro-batch of so many. most: no more micro-batches than that. bytes_per_weight: of what training keeps
    beside the weights. 1 where there is no GPU.

    Raises RecipeError when even `most` do not fit.
    """
    if accelerator.device.type != "cuda":
        return 1
    number = fewest(lambda number: _fits(model, blank_batch(number), bytes_per_weight, accelerator), most)
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())


def fewest(fits: Callable[[int], bool], most: int) -> int:
    """The first of 1, 2, 4, … and at last `most` that fits. Raises RecipeError when none does."""
    number = 1
    while not fits(number):
        if number == most:
            raise RecipeError(
                "training.micro_batches = 'auto': not even one clip at a time fits into the memory of the GPU; "
                "set training.activation_checkpointing = 1, or take a smaller model"
            )
        number = min(2 * number, most)
    return number


def _fits(model: nn.Module, batch: MixedBatch, bytes_per_weight: int, accelerator: Accelerator) -> bool:
    device = accelerator.device
    torch.cuda.reset_peak_memory_stats(device)
    try:
        with accelerator.autocast():
            logits = model(batch.to(device))
        loss(logits, batch.to(device)).backward()
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        model.zero_grad()
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.empty_cache()
    kept = bytes_per_weight * sum(parameter.numel() for parameter in model.parameters())
    return peak + kept < USABLE_SHARE * torch.cuda.get_device_properties(device).total_memory
