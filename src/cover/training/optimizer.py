"""The optimizer: rate and weight decay of each parameter, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Collection
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from cover.config.training_sections import OptimizerSection
from cover.models.classifier import BACKBONE, saved_name
from cover.training.lora import DOWN, UP

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What DistributedDataParallel, torch.compile and others add to the names of parameters."""


def create_optimizer(
    model: nn.Module, section: OptimizerSection, *, fresh: Collection[str] = (), fused: bool | None = None
) -> torch.optim.Optimizer:
    """SGD with momentum (paper, §4.1) or AdamW, on `parameter_groups`.

    Args:
        model: What is trained.
        section: The optimizer and its rates.
        fresh: As for `lr_scale`.
        fused: Whether one kernel updates many weights at once, which takes a GPU and weights that are not sharded.
    """
    groups = parameter_groups(model, section, fresh)
    if section.name == "adamw":
        return torch.optim.AdamW(groups, lr=section.learning_rate, fused=fused)
    return torch.optim.SGD(
        groups, lr=section.learning_rate, momentum=section.momentum, nesterov=section.nesterov, fused=fused
    )


@runtime_checkable
class Layered(Protocol):
    """A model that knows its layers, as `VideoClassifier` does."""

    @property
    def num_layers(self) -> int:
        """The number of the last layer."""

    def layer_of(self, parameter: str) -> int:
        """The layer of a parameter, from 0 to `num_layers`."""


def parameter_groups(model: nn.Module, section: OptimizerSection, fresh: Collection[str] = ()) -> list[dict[str, Any]]:
    """Put every parameter that is not frozen into a group of equal decay and rate, the highest rate first.

    Args:
        model: What is trained. All of it is one layer unless it is `Layered`.
        section: `weight_decay` applies to the weights of linear and convolution layers; with `decay_all` also to
            biases, norms, class token, position and time embeddings. `layer_decay` and `backbone_rate` scale rates, see
            `lr_scale`.
        fresh: As for `lr_scale`.

    Returns:
        Groups for an optimizer; their `lr_scale` is the factor of the learning rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = section.decay_all or (name.endswith("weight") and parameter.ndim > 1)
        key = lr_scale(model, bare_name(name), section, fresh), section.weight_decay if is_matrix else 0.0
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": members, "lr_scale": scale, "lr": scale * section.learning_rate, "weight_decay": decay}
        for (scale, decay), members in sorted(groups.items(), key=itemgetter(0), reverse=True)
    ]


def lr_scale(model: nn.Module, name: str, section: OptimizerSection, fresh: Collection[str] = ()) -> float:
    """Return the factor of the learning rate for a parameter.

    It is layer_decay to the power of the layers behind the parameter, as in BEiT and MAE (H. Bao, K. He et al., 2022).
    In the backbone it is multiplied by backbone_rate, as in Video Swin (Z. Liu et al., 2022). Both protect weights that
    come from `init`. So adapters of LoRA have the whole rate, and other new weights if fresh_at_full_rate is set.

    Args:
        model: What is trained.
        name: The parameter, without what wrappers added.
        section: The rates.
        fresh: Tensors that training has not started from others, by their names in files.
    """
    is_new = name.endswith((DOWN, UP)) or (section.fresh_at_full_rate and saved_name(name) in fresh)
    if is_new or not isinstance(model, Layered):
        return 1.0
    scale = section.layer_decay ** (model.num_layers - model.layer_of(name))
    return scale * section.backbone_rate if name.startswith(BACKBONE) else scale


def bare_name(name: str) -> str:
    """A parameter's name without what wrappers added."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of each group, scaled by its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def learning_rate(section: OptimizerSection, step: float, *, steps_per_epoch: float, num_epochs: float) -> float:
    """The learning rate of a step, before any `lr_scale`.

    Schedule "step" multiplies the rate by drop_factor after each of `section.drops`; by default 5e-3, then 5e-4 and
    5e-5 after 11 and 15 of 20 epochs (paper, §4.1). "cosine" falls from the rate to zero. Both follow a linear warm-up
    of n steps, whose first step has 1 / n of the rate.

    Args:
        section: Rate and schedule.
        step: Counted from 0; fractional if an epoch has had another number of steps before.
        steps_per_epoch: May be fractional.
        num_epochs: Length of the run.
    """
    rate, warmup_steps = section.learning_rate, section.warmup_epochs * steps_per_epoch
    if step + 1 < warmup_steps:
        return rate * (step + 1) / warmup_steps
    if section.schedule == "step":
        return rate * section.drop_factor ** sum(step >= drop * steps_per_epoch for drop in section.drops(num_epochs))
    progress = max(step - warmup_steps, 0) / max(num_epochs * steps_per_epoch - warmup_steps, 1)
    return rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
