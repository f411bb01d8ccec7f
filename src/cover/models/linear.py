"""Linear layers that prepare their weights for matrix products, in every forward pass or once.

To prepare weights is to convert them to the type of the products, or to multiply a neighbouring norm or linear layer
into them. During training the weights change, so each forward pass prepares them again; compared with a batch, that
costs almost nothing. Compared with a single clip it costs more, so for inference `freeze_weights` keeps the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cover.errors import RecipeError
from cover.models.kernels.float8 import MULTIPLE
from cover.models.kernels.folding import fold
from cover.models.kernels.products import Weight

Ready = TypeVar("Ready")
"""The prepared weights of a layer."""


class Linear(nn.Linear):
    """A linear layer.

    Attributes:
        ready: The prepared weights that `cached_weight` keeps, by the type of the products. None if it keeps none.
        float8: Whether products compute in float8 where they would compute in bfloat16.
    """

    ready: dict[torch.dtype, Any] | None = None
    float8 = False


def use_float8(model: nn.Module) -> None:
    """Multiply the `Linear` layers of a model in float8 from now on, under bfloat16 autocast.

    Without autocast, a model computes as before. So its results on a CPU are in float32.

    Args:
        model: Any module. Call this before `freeze_weights`.

    Raises:
        RecipeError: There is no such layer, or one has a width that GPUs cannot multiply in float8.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    if not layers:
        raise RecipeError(
            "training.precision = 'fp8' is for the linear layers of transformer blocks, and this model has none; use "
            '"bf16"'
        )
    for layer in layers:
        for width in (layer.in_features, layer.out_features):
            if width % MULTIPLE:
                raise RecipeError(
                    f"a layer of the model has the width {width}, and training.precision = 'fp8' takes multiples of "
                    f'{MULTIPLE}; use "bf16", or choose another width'
                )
        layer.float8 = True


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
    kept: Ready = linear.ready[dtype]
    return kept


def after_norm(norm: nn.LayerNorm, linear: Linear, dtype: torch.dtype) -> tuple[Weight, Tensor]:
    """Return weight and bias of `linear` with the affine part of `norm` multiplied in (kernels/folding.py).

    Args:
        norm: The layer norm before the linear layer.
        linear: The linear layer. Its input has been normalised without the affine part.
        dtype: The type of the products.

    Returns:
        Weight [out, in] and bias [out].
    """

    def make() -> tuple[Weight, Tensor]:
        weight, bias = fold(norm, linear, dtype)
        return prepared(weight, linear, dtype), bias

    return cached_weight(linear, dtype, make)


def in_dtype(linear: Linear, dtype: torch.dtype) -> Weight:
    """Return the weight of a layer, [out, in], in the type of the products."""
    return cached_weight(linear, dtype, lambda: prepared(linear.weight.to(dtype), linear, dtype))


def prepared(weight: Tensor, linear: Linear, dtype: torch.dtype) -> Weight:
    """Return a weight [out, in] as the products of a layer read it.

    Args:
        weight: The weight, which may be that of `linear` with something multiplied into it.
        linear: The layer.
        dtype: The type of the products, or bfloat16 where they compute in float8.
    """
    float8 = linear.float8 and dtype == torch.bfloat16
    return Weight.of(weight.to(dtype) if float8 else weight, float8)
