"""tokens += residual, and their normalisation, in one pass over the tokens.

The normalisation is a LayerNorm without its affine part, which folding.py multiplies into the linear map behind it.
The backward pass then needs the normalised tokens alone, which that linear map keeps anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, compute_dtype, has_kernel, jit, power_of_two, tl
from cover.models.kernels.reductions import column_sums
from cover.models.packing import Group, unpack

BLOCK_ROWS, ROWS_PER_PROGRAM = 4, 64

Receivers = Literal["all", "patches", "clips"]
"""Where a residual goes. all: to every token. patches: not to the class token, whose value is ignored. clips: to every
token, the class token's being its mean over the frames of the clip."""


class Tokens(NamedTuple):
    """The residual stream [F, 1+N, D]. rest: what is lost of it in `values`, in the same type; None if nothing is.

    Under bfloat16 autocast, a number and its rest hold a token to 2⁻¹⁶ of itself, and its gradient, which is that of
    `values`, moves through memory in half the bytes. float16 has not the range for it.
    """

    values: Tensor
    rest: Tensor | None = None

    @classmethod
    def of(cls, exact: Tensor, dtype: torch.dtype) -> Tokens:
        """Tokens as a block takes them that computes in `dtype`."""
        if not has_kernel(exact) or dtype != torch.bfloat16:
            return cls(exact)
        values = exact.to(dtype)
        return cls(values, (exact - values).to(dtype).detach())

    def map(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """A choice of the tokens."""
        return Tokens(function(self.values), None if self.rest is None else function(self.rest))

    @property
    def exact(self) -> Tensor:
        """In one tensor."""
        return self.values if self.rest is None else self.values.float() + self.rest.float()


def join(parts: Sequence[Tokens]) -> Tokens:
    """The tokens of several groups, one behind the other."""
    first, *others = parts
    if not others:
        return first
    rest = None if first.rest is None else torch.cat([part.rest for part in parts if part.rest is not None])
    return Tokens(torch.cat([part.values for part in parts]), rest)


class Residual(NamedTuple):
    """What a branch adds to the tokens: scale · (values + bias). values: [F, 1+N, D]. scale: [F], None is 1."""

    values: Tensor
    bias: Tensor
    scale: Tensor | None
    receivers: Receivers


def add_normalise(tokens: Tokens, residual: Residual, groups: tuple[Group, ...], eps: float) -> tuple[Tokens, Tensor]:
    """The tokens with the residual added, and these normalised to mean 0 and variance 1 over D.

    eps: added to the variance, as in a LayerNorm.

    The kernel gives the tokens' gradients under "clips" with those of a clip's class copies replaced by their mean.
    The copies are equal by construction, so only the sum of their gradients means anything. Under "patches" it ignores
    the class token's entries of `values` and leaves their gradient undefined; what computes them expects neither.
    Under "clips" it averages `values` in place.
    """
    if not has_kernel(tokens.values):
        return plain_add_normalise(tokens, residual, groups, eps)
    dtype = compute_dtype(tokens.values)
    values, rest, normed = AddNormalise.apply(*tokens, *residual, groups, eps, dtype)
    return Tokens(values, rest), normed


def plain_add_normalise(
    tokens: Tokens, residual: Residual, groups: tuple[Group, ...], eps: float
) -> tuple[Tokens, Tensor]:
    """`add_normalise` in torch's own operations, one pass over the tokens each."""
    tokens_FND, values_FND = tokens.exact, residual.values + residual.bias
    if residual.scale is not None:
        values_FND = values_FND * residual.scale[:, None, None]
    if residual.receivers == "patches":
        tokens_FND = torch.cat([tokens_FND[:, :1], tokens_FND[:, 1:] + values_FND[:, 1:]], dim=1)
    elif residual.receivers == "clips":
        tokens_FND = tokens_FND + average_class_token(values_FND, groups)
    else:
        tokens_FND = tokens_FND + values_FND
    return Tokens(tokens_FND), F.layer_norm(tokens_FND, tokens_FND.shape[-1:], eps=eps)


def average_class_token(values_FND: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """The class token's value in each frame replaced by its mean over the clip's frames."""
    class_FD = [part.mean(0, keepdim=True).expand_as(part).flatten(0, 1) for part in unpack(values_FND[:, 0], groups)]
    return torch.cat([torch.cat(class_FD)[:, None], values_FND[:, 1:]], dim=1)


def average_class_token_(values_FND: Tensor, groups: tuple[Group, ...]) -> None:
    """The same in place."""
    for part_TBD in unpack(values_FND[:, 0], groups):
        if len(part_TBD) > 1:
            part_TBD.copy_(part_TBD.mean(0, keepdim=True))


class AddNormalise(Function):
    """`add_normalise` in one pass over the tokens, and one over their gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        rest: Tensor | None,
        values: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        receivers: Receivers,
        groups: tuple[Group, ...],
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        tokens, values = tokens.contiguous(), values.contiguous()
        rest = None if rest is None else rest.contiguous()
        if receivers == "clips":
            average_class_token_(values, groups)
        num_frames, num_tokens, width = tokens.shape
        num_rows = num_frames * num_tokens
        added, normed = torch.empty_like(tokens), torch.empty_like(tokens, dtype=dtype)
        added_rest = None if rest is None else torch.empty_like(tokens)
        rstd = torch.empty(num_rows, dtype=torch.float32, device=tokens.device)
        _forward[(cdiv(num_rows, BLOCK_ROWS),)](
            tokens, rest, values, bias, scale, added, added_rest, normed, rstd, num_rows, num_tokens, eps,
            WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS,
            PATCHES=receivers == "patches", SCALED=scale is not None, SPLIT=rest is not None,
        )  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(normed, rstd, scale)
        ctx.receivers, ctx.groups, ctx.dtypes = receivers, groups, (tokens.dtype, values.dtype)
        if added_rest is not None:
            ctx.mark_non_differentiable(added_rest)
        return added, added_rest, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        added_gradient, _, normed_gradient = gradients
        normed, rstd, scale = ctx.saved_tensors
        if normed_gradient is None:
            normed_gradient = torch.zeros_like(normed)
        num_frames, num_tokens, width = normed.shape
        num_rows = num_frames * num_tokens
        tokens_dtype, values_dtype = ctx.dtypes
        gradient = torch.empty_like(normed, dtype=tokens_dtype)
        separate = scale is not None or values_dtype != tokens_dtype
        values_gradient = torch.empty_like(normed, dtype=values_dtype) if separate else gradient
        num_programs = cdiv(num_rows, ROWS_PER_PROGRAM)
        bias_parts = torch.empty(num_programs, width, dtype=torch.float32, device=normed.device)
        _backward[(num_programs,)](
            None if added_gradient is None else added_gradient.contiguous(), normed_gradient.contiguous(),
            normed, rstd, scale,
            gradient, values_gradient, bias_parts, num_rows, num_tokens,
            WIDTH=width, BLOCK=power_of_two(width), ROWS=BLOCK_ROWS, PER_PROGRAM=ROWS_PER_PROGRAM,
            PATCHES=ctx.receivers == "patches", SCALED=scale is not None,
            ADDED=added_gradient is not None, SEPARATE=separate,
        )  # fmt: skip
        if ctx.receivers == "clips":
            average_class_token_(gradient, ctx.groups)
            if separate:
                average_class_token_(values_gradient, ctx.groups)
        return gradient, None, values_gradient, column_sums(bias_parts, torch.float32), *(None,) * 5


@jit("num_rows", "scale")
def _forward(
    tokens, rest, values, bias, scale, added, added_rest, normed, rstd, num_rows, num_tokens, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PATCHES: tl.constexpr, SCALED: tl.constexpr,
    SPLIT: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    here = (rows < num_rows)[:, None] & (columns < WIDTH)[None, :]
    at = rows[:, None] * WIDTH + columns[None, :]
    x = tl.load(tokens + at, mask=here, other=0.0).to(tl.float32)
    if SPLIT:
        x += tl.load(rest + at, mask=here, other=0.0).to(tl.float32)
    residual = tl.load(values + at, mask=here, other=0.0).to(tl.float32)
    residual += tl.load(bias + columns, mask=columns < WIDTH, other=0.0).to(tl.float32)[None, :]
    if SCALED:
        residual *= tl.load(scale + rows // num_tokens, mask=rows < num_rows, other=0.0).to(tl.float32)[:, None]
    if PATCHES:
        residual = tl.where((rows % num_tokens > 0)[:, None], residual, 0.0)
    x = tl.where(here, x + residual, 0.0)
    high = x.to(added.dtype.element_ty)
    tl.store(added + at, high, mask=here)
    if SPLIT:
        tl.store(added_rest + at, x - high.to(tl.float32), mask=here)
    x = tl.where(here, x - tl.sum(x, 1)[:, None] / WIDTH, 0.0)
    r = tl.rsqrt(tl.sum(x * x, 1) / WIDTH + eps)
    tl.store(normed + at, x * r[:, None], mask=here)
    tl.store(rstd + rows, r, mask=rows < num_rows)


@jit("num_rows", "scale")
def _backward(
    added_gradient, normed_gradient, normed, rstd, scale, gradient, values_gradient, bias_parts, num_rows, num_tokens,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PER_PROGRAM: tl.constexpr, PATCHES: tl.constexpr,
    SCALED: tl.constexpr, ADDED: tl.constexpr, SEPARATE: tl.constexpr,
):  # fmt: skip
    columns = tl.arange(0, BLOCK)
    bias = tl.zeros((BLOCK,), tl.float32)
    for step in range(PER_PROGRAM // ROWS):
        rows = tl.program_id(0).to(tl.int64) * PER_PROGRAM + step * ROWS + tl.arange(0, ROWS)
        here = (rows < num_rows)[:, None] & (columns < WIDTH)[None, :]
        at = rows[:, None] * WIDTH + columns[None, :]
        g = tl.load(normed_gradient + at, mask=here, other=0.0).to(tl.float32)
        x = tl.load(normed + at, mask=here, other=0.0).to(tl.float32)
        r = tl.load(rstd + rows, mask=rows < num_rows, other=0.0)
        g -= tl.sum(g, 1)[:, None] / WIDTH + x * (tl.sum(g * x, 1) / WIDTH)[:, None]
        g *= r[:, None]
        if ADDED:
            g += tl.load(added_gradient + at, mask=here, other=0.0).to(tl.float32)
        tl.store(gradient + at, g, mask=here)
        if SCALED:
            g *= tl.load(scale + rows // num_tokens, mask=rows < num_rows, other=0.0).to(tl.float32)[:, None]
        if SEPARATE:
            tl.store(values_gradient + at, g, mask=here)
        if PATCHES:
            here &= (rows % num_tokens > 0)[:, None]
        bias += tl.sum(tl.where(here, g, 0.0), 0)
    tl.store(bias_parts + tl.program_id(0) * WIDTH + columns, bias, mask=columns < WIDTH)
