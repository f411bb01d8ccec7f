"""The optimizer: which parameter gets which rate and decay, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Any

import torch
from torch import nn

from cover.config.recipe import OptimizerSection

EMBEDDINGS = {"patch_embed", "cls_token", "pos_embed", "time_embed"}
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DistributedDataParallel, torch.compile and others put into the names of the parameters that they wrap."""


def create_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """SGD without Nesterov (paper §4.1) or AdamW, with groups of parameters as `parameter_groups` makes them."""
    groups = parameter_groups(model, section)
    if section.name == "adamw":
        return torch.optim.AdamW(groups, lr=section.learning_rate)
    return torch.optim.SGD(groups, lr=section.learning_rate, momentum=section.momentum)


def parameter_groups(model: nn.Module, section: OptimizerSection) -> list[dict[str, Any]]:
    """Every parameter once, in groups of equal decay and rate, the highest rate first.

    weight_decay: the section's on the weights of linear and convolution layers; none on biases, norms, class token,
    position and time embeddings. lr_scale: factor of the learning rate, see `lr_scale`.
    """
    parameters = [(bare_name(name), parameter) for name, parameter in model.named_parameters()]
    depth = len({name.split(".")[1] for name, _ in parameters if name.startswith("blocks.")})
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        is_matrix = name.endswith("weight") and parameter.ndim > 1
        key = lr_scale(name, depth, section.layer_decay), section.weight_decay if is_matrix else 0.0
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": members, "lr_scale": scale, "lr": scale * section.learning_rate, "weight_decay": decay}
        for (scale, decay), members in sorted(groups.items(), key=itemgetter(0), reverse=True)
    ]


def lr_scale(name: str, depth: int, layer_decay: float) -> float:
    """layer_decay to the power of the layers behind a parameter: none behind the heads and the last norm, `depth` + 1
    behind the embeddings. The numbering is that of BEiT (H. Bao et al., 2022) and MAE (K. He et al., 2022)."""
    place, *rest = name.split(".")
    layer = 0 if place in EMBEDDINGS else 1 + int(rest[0]) if place == "blocks" else depth + 1
    return layer_decay ** (depth + 1 - layer)


def bare_name(name: str) -> str:
    """A parameter's name without what wrappers of its modules put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share (`lr_scale`) of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate(section: OptimizerSection, step: int, *, steps_per_epoch: float, num_epochs: float) -> float:
    """Learning rate of a step, counted from 0, before any `lr_scale`.

    "step": the rate times drop_factor for every entry of drop_epochs completed; by default 5e-3, 5e-4 from the 11th
    epoch and 5e-5 from the 15th (§4.1). "cosine": from the rate down to zero. Both after a linear warm-up, whose first
    step has 1 / (its steps) of the rate and whose last all of it.
    """
    rate, warmup_steps = section.learning_rate, section.warmup_epochs * steps_per_epoch
    if step + 1 < warmup_steps:
        return rate * (step + 1) / warmup_steps
    if section.schedule == "step":
        return rate * section.drop_factor ** sum(step >= drop * steps_per_epoch for drop in section.drop_epochs)
    progress = max(step - warmup_steps, 0) / max(num_epochs * steps_per_epoch - warmup_steps, 1)
    return rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
