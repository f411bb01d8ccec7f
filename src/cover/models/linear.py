"""Linear layers of the blocks, whose weights are made ready for matrix products before each use, or once.

Ready means: in the type of the products, with the norm before a layer multiplied into it, or with the layer behind it.
While a model trains its weights change, and that is done in every forward pass, where it costs next to nothing beside
the batch. Beside a single clip it costs more, so whoever only asks a model keeps its weights ready.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cover.models.kernels.folding import fold

Ready = tuple[Tensor, ...]


class Linear(nn.Linear):
    """A linear layer. ready: what `cached_weight` keeps, by type; None where nothing is kept."""

    ready: dict[torch.dtype, Ready] | None = None


def freeze_weights(model: nn.Module) -> None:
    """From now on weights are made ready once. They must not be changed or moved to another device any more."""
    for module in model.modules():
        if isinstance(module, Linear):
            module.ready = {}


def cached_weight(linear: Linear, dtype: torch.dtype, make: Callable[[], Ready]) -> Ready:
    """What `make` makes of the weights of `linear` for products in `dtype`, or what it made the first time.

    A layer is made ready in one way only.
    """
    if linear.ready is None:
        return make()
    if dtype not in linear.ready:
        with torch.inference_mode(False), torch.no_grad():
            linear.ready[dtype] = make()
    return linear.ready[dtype]


def after_norm(norm: nn.LayerNorm, linear: Linear, dtype: torch.dtype) -> Ready:
    """Weight and bias of `linear` after `norm`, for tokens that are normalised without it (kernels/folding.py)."""
    return cached_weight(linear, dtype, lambda: fold(norm, linear, dtype))


def in_dtype(linear: Linear, dtype: torch.dtype) -> Tensor:
    """The weight in the type of matrix products."""
    (weight,) = cached_weight(linear, dtype, lambda: (linear.weight.to(dtype),))
    return weight
