"""The three matrix products of a linear layer y = x Wᵀ + b with the gradient g of y, and the type that they compute in.

    product            x Wᵀ + b
    data_gradient      g W, the gradient of x
    weight_gradient    gᵀ x, the gradient of W

They compute in float8 if their operands are `Float8`, and otherwise in the type of the tensors. The prepared `Weight`
of a layer decides which: `matched` prepares what it is multiplied with. So there is no other state that could differ
when a block is recomputed or a CUDA graph is replayed.

Weight gradients are in float8 only in the MLP. They need their operands transposed, which takes about as long as float8
saves. But in the MLP, the kernel of the GELU then writes its results in float8 only, less than half the bytes.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.float8 import Float8, multiply, round_rows, transpose

Operand = Tensor | Float8
"""A matrix as a product reads it."""
FAST_PRODUCT, FAST_DATA_GRADIENT, FAST_WEIGHT_GRADIENT = True, True, False
"""Which products of float8 add fast (see `multiply`). The gradient of a weight is a sum over all tokens of a batch; so
long a sum would lose several per cent."""


class Weight(NamedTuple):
    """The weight of a linear layer from I to O, prepared for products.

    Attributes:
        exact: [O, I], in the type of the products, or in bfloat16 if they are of float8.
        rows: [O, I] in float8 for the forward pass; None if products compute in the type of `exact`.
        columns: [I, O] in float8 for the gradient of the input.
    """

    exact: Tensor
    rows: Float8 | None = None
    columns: Float8 | None = None

    @classmethod
    def of(cls, exact: Tensor, float8: bool) -> Weight:
        """Prepare a weight [O, I].

        Args:
            exact: The weight.
            float8: Whether products compute in float8.
        """
        if not float8:
            return cls(exact)
        rows = round_rows(exact.detach())
        return cls(exact, rows, transpose(rows))

    def part(self, outputs: slice) -> Weight:
        """Return the weight of some of the outputs."""
        exact = self.exact[outputs]
        if self.rows is None or self.columns is None:
            return Weight(exact)
        return Weight(exact, self.rows.rows(outputs), self.columns.columns(outputs))

    @property
    def forward(self) -> Operand:
        """What `product` reads."""
        return self.exact if self.rows is None else self.rows

    @property
    def backward(self) -> Operand:
        """What `data_gradient` reads."""
        return self.exact if self.columns is None else self.columns


class Input(NamedTuple):
    """The input of a linear layer.

    Attributes:
        exact: [..., I], which autograd knows. Its values are undefined if neither a product nor autograd reads them.
        operand: The same as `product` reads it.
    """

    exact: Tensor
    operand: Operand

    @classmethod
    def of(cls, exact: Tensor, weight: Operand) -> Input:
        """Prepare a tensor [..., I] for its product with `Weight.forward`."""
        return cls(exact, matched(exact, weight))

    def first_tokens(self) -> Input:
        """Return the first token of each frame, [F, 1, I], of tokens [F, 1+N, I]."""
        exact = self.exact[:, :1]
        if not isinstance(self.operand, Float8):
            return Input(exact, exact)
        return Input(exact, Float8(*(part[:, :1].contiguous() for part in self.operand)))

    def last_frames(self, number: int) -> Input:
        """Return the last frames, [number, 1+N, I], of tokens [F, 1+N, I]."""
        exact = self.exact[-number:]
        if not isinstance(self.operand, Float8):
            return Input(exact, exact)
        return Input(exact, Float8(*(part[-number:] for part in self.operand)))


def matched(matrix: Tensor, weight: Operand) -> Operand:
    """Return a matrix [..., K] as its product with `Weight.forward` or `Weight.backward` reads it."""
    return round_rows(matrix.detach()) if isinstance(weight, Float8) else matrix


def product(x: Operand, weight: Operand, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b.

    Args:
        x: [..., I].
        weight: W, `Weight.forward`.
        bias: b, [O].

    Returns:
        [..., O].
    """
    if isinstance(x, Float8) and isinstance(weight, Float8):
        return multiply(x, weight, bias, fast=FAST_PRODUCT)
    return F.linear(cast(Tensor, x), cast(Tensor, weight), bias)


def data_gradient(g: Operand, weight: Operand) -> Tensor:
    """Compute g W.

    Args:
        g: [M, O].
        weight: W, `Weight.backward`.

    Returns:
        [M, I].
    """
    if isinstance(g, Float8) and isinstance(weight, Float8):
        return multiply(g, weight, fast=FAST_DATA_GRADIENT)
    return cast(Tensor, g) @ cast(Tensor, weight)


def weight_gradient(g: Operand, x: Operand) -> Tensor:
    """Compute gᵀ x.

    Args:
        g: [M, O].
        x: [..., I].

    Returns:
        [O, I].
    """
    if isinstance(g, Float8) and isinstance(x, Float8):
        return multiply(transpose(g), transpose(x), fast=FAST_WEIGHT_GRADIENT)
    return cast(Tensor, g).t() @ cast(Tensor, x).flatten(0, -2)


def linear(x: Input, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """Compute x Wᵀ + b as an operation that autograd knows. The gradient of W is not in float8.

    Args:
        x: [..., I].
        weight: W.
        bias: b, [O].

    Returns:
        [..., O].
    """
    if weight.rows is None:
        return F.linear(x.exact, weight.exact, bias)
    out: Tensor = LinearFunction.apply(x.exact, weight.exact, bias, x, weight)
    return out


class LinearFunction(Function):
    """`linear` in float8."""

    @staticmethod
    def forward(ctx: Any, _exact: Tensor, _weight: Tensor, bias: Tensor | None, x: Input, weight: Weight) -> Tensor:
        save(ctx, x.exact, weight.backward)
        ctx.has_bias = bias is not None
        return product(x.operand, weight.forward, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = saved(ctx)
        g = gradients[0].flatten(0, -2)
        x_gradient = data_gradient(matched(g, weight), weight).view(*gradients[0].shape[:-1], -1)
        return x_gradient, weight_gradient(g, x), g.sum(0) if ctx.has_bias else None, None, None


def pointers(operand: Operand) -> tuple[Tensor | None, Tensor | None]:
    """Return values and scales of a matrix as the arguments of a kernel; a tensor has no scales."""
    return operand if isinstance(operand, Float8) else (operand, None)


def save(ctx: Any, *operands: Operand | None) -> None:
    """Keep operands for the backward pass of a Function.

    Autograd sees only the tensors among the arguments of a Function. So a Function gets `exact` of each operand as an
    argument, and the operand as another one.
    """
    ctx.in_float8 = [isinstance(operand, Float8) for operand in operands]
    parts = [operand if isinstance(operand, Float8) else (operand,) for operand in operands]
    ctx.save_for_backward(*chain.from_iterable(parts))


def saved(ctx: Any) -> list[Any]:
    """Return what `save` has kept."""
    tensors = iter(ctx.saved_tensors)
    return [Float8(next(tensors), next(tensors)) if in_float8 else next(tensors) for in_float8 in ctx.in_float8]
