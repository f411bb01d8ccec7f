"""LoRA: linear layers of a frozen backbone that learn through two small matrices each (E. Hu et al., 2022).

A layer's weight W becomes W + alpha / rank · B A, which torch computes whenever the weight is read. So adapters work
with every kernel. (The layers of peft have a forward pass of their own, and the kernels here read weights instead of
calling layers.) There is no dropout, because a weight has no input. Outside training, models have the sums as weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from cover.config.training_sections import LoraSection
from cover.models.classifier import VideoClassifier
from cover.training.trained_weights import matching

MARK = ".parametrizations.weight."
"""What stands between a layer and the parts of its weight, in names of parameters."""
BASE, DOWN, UP = "original", "0.lora_A", "0.lora_B"
"""Those parts. The first name is torch's; the others have those of A and B in peft."""


class LowRank(nn.Module):
    """Adds a product of two matrices to a weight: W + scale · B A. A starts at random as in peft, and B at zero.

    Args:
        weight: W [out, in].
        rank: Of the product.
        scale: Its factor.
        generator: Draws A, on the CPU.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = scale
        bound = weight.shape[1] ** -0.5
        drawn = torch.empty(rank, weight.shape[1], device="cpu").uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(drawn.to(weight))
        self.lora_B = nn.Parameter(torch.zeros_like(weight[:, :1]).repeat(1, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the sum."""
        with torch.autocast(weight.device.type, enabled=False):  # the weight keeps its digits
            return torch.addmm(weight, self.lora_B, self.lora_A, alpha=self.scale)


def adapt(model: VideoClassifier, section: LoraSection, seed: int) -> None:
    """Freeze the backbone, except for new adapters and what the section trains whole.

    A model that has adapters stays as it is.

    Args:
        model: May be on the meta device.
        section: Which layers get adapters, and of which rank.
        seed: Of the adapters.

    Raises:
        RecipeError: A pattern matches nothing.
    """
    if any(isinstance(module, LowRank) for module in model.modules()):
        return
    parameters = dict(model.backbone.named_parameters())
    whole = {*matching(section.train, parameters, "optimizer.lora.train")}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in whole)
    layers = {name: module for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)}
    generator = torch.Generator().manual_seed(seed)
    for name in matching(section.targets, layers, "optimizer.lora.targets"):
        if f"{name}.weight" not in whole:
            low_rank = LowRank(layers[name].weight, section.rank, section.scale, generator)
            # Otherwise torch calls it now, and autocast knows no meta device.
            register_parametrization(layers[name], "weight", low_rank, unsafe=True)


def is_part(name: str) -> bool:
    """Return whether a parameter is a part of an adapted weight, which model.safetensors has not."""
    return MARK in name


def merged(tensors: Mapping[str, Tensor], section: LoraSection) -> dict[str, Tensor]:
    """Return the weights of a model without adapters that computes the same.

    Args:
        tensors: The state dict of a model, with adapters or without.
        section: As for `adapt`.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not is_part(name)}
    for layer in (name.removesuffix(MARK + BASE) for name in tensors if name.endswith(MARK + BASE)):
        weight, down, up = (tensors[layer + MARK + part] for part in (BASE, DOWN, UP))
        plain[f"{layer}.weight"] = torch.addmm(weight, up, down, alpha=section.scale)
    return plain
