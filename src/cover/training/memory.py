"""Into how few micro-batches a step can be split so that it fits into the memory of the GPU."""

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
