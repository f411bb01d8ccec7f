"""Linear layers that prepare their weights for matrix products, in every forward pass or once.

To prepare weights is to convert them to the type of the products, or to multiply a neighbouring norm or linear layer
into them. During training the weights change, so each forward pass prepares them again; compared with a batch, that
costs almost nothing. Compared with a single clip it costs more, so for inference `freeze_weights` keeps the result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cover.models.kernels.folding import fold

Ready = tuple[Tensor, ...]
"""The prepared weights of a layer."""


class Linear(nn.Linear):
    """A linear layer.

    Attributes:
        ready: The prepared weights that `cached_weight` keeps, by the type of the products. None if it keeps none.
    """

    ready: dict[torch.dtype, Ready] | None = None


def freeze_weights(model: nn.Module) -> None:
    """Prepare the weights of a model only once from now on. Do not change them or move the model afterwards.

    Args:
        model: Any module; its `Linear` layers are frozen.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            module.ready = {}


def cached_weight(linear: Linear, dtype: torch.dtype, make: Callable[[], Ready]) -> Ready:
    """Return the prepared weights of a layer: a new result of `make`, or the first one if the layer is frozen.

    Args:
        linear: The layer.
        dtype: The type of the products.
        make: Prepares the weights. Each layer must always have the same `make`, because a kept result has no other key
            than `dtype`.
    """
    if linear.ready is None:
        return make()
    if dtype not in linear.ready:
        with torch.inference_mode(False), torch.no_grad():
            linear.ready[dtype] = make()
    return linear.ready[dtype]


def after_norm(norm: nn.LayerNorm, linear: Linear, dtype: torch.dtype) -> Ready:
    """Return weight and bias of `linear` with the affine part of `norm` multiplied in (kernels/folding.py).

    Args:
        norm: The layer norm before the linear layer.
        linear: The linear layer. Its input has been normalised without the affine part.
        dtype: The type of the products.

    Returns:
        Weight [out, in] and bias [out].
    """
    return cached_weight(linear, dtype, lambda: fold(norm, linear, dtype))


def in_dtype(linear: Linear, dtype: torch.dtype) -> Tensor:
    """Return the weight of a layer, [out, in], in the type of the products."""
    (weight,) = cached_weight(linear, dtype, lambda: (linear.weight.to(dtype),))
    return weight
