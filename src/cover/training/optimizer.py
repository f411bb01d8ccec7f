"""The optimizer, and the learning rate as a function of the epoch."""

from __future__ import annotations

import math

import torch
from torch import nn

from cover.recipe import OptimizerSection


def create_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """SGD without Nesterov (paper §4.1) or AdamW; weight decay on the weights of linear and convolution layers only."""
    decayed = [p for name, p in model.named_parameters() if name.endswith(".weight") and p.ndim > 1]
    others = [p for name, p in model.named_parameters() if not (name.endswith(".weight") and p.ndim > 1)]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if section.name == "adamw":
        return torch.optim.AdamW(groups, lr=section.learning_rate)
    return torch.optim.SGD(groups, lr=section.learning_rate, momentum=section.momentum)


def learning_rate(section: OptimizerSection, epoch: float, num_epochs: float) -> float:
    """Learning rate at a point of the run, `epoch` being the (fractional) number of completed epochs.

    "step": the rate times drop_factor for every entry of drop_epochs completed; by default 5e-3, 5e-4 from the 11th
    epoch and 5e-5 from the 15th (§4.1). "cosine": from the rate down to zero. Both after a linear warm-up.
    """
    rate = section.learning_rate
    if epoch < section.warmup_epochs:
        return rate * epoch / section.warmup_epochs
    if section.schedule == "step":
        return rate * section.drop_factor ** sum(epoch >= drop for drop in section.drop_epochs)
    progress = (epoch - section.warmup_epochs) / max(num_epochs - section.warmup_epochs, 1e-9)
    return rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
