"""tokens += residual, and the normalisation of the tokens, in one pass over the tokens.

The normalisation is a LayerNorm without its affine part, which folding.py multiplies into the next linear layer. So the
backward pass needs only the normalised tokens, which that linear layer keeps anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import cdiv, column_sums, compute_dtype, has_kernel, jit, power_of_two, tl
from cover.models.kernels.float8 import Float8, empty, round_rows, store_float8
from cover.models.kernels.products import Input
from cover.models.packing import Group, unpack

BLOCK_ROWS, ROWS_PER_PROGRAM, NARROW = 4, 32, 512
"""The rows that a program takes at a time, and all of its rows in the backward pass. Rows of fewer numbers than NARROW
are more in proportion."""

Receivers = Literal["all", "patches", "clips"]
"""The tokens that a residual is added to.

all: every token. patches: all but the class token; the class token's values are ignored. clips: every token, with the
class token's values averaged over the frames of the clip.
"""


class Tokens(NamedTuple):
    """The residual stream.

    Under bfloat16 autocast each number is stored as the sum of two bfloat16 numbers, to 2⁻¹⁶ of itself. Its gradient is
    that of `values`, so it moves through memory in half the bytes. The range of float16 is too small for this.

    Attributes:
        values: [F, 1+N, D].
        rest: What `values` lose by rounding, in the same type and shape; None if they lose nothing.
    """

    values: Tensor
    rest: Tensor | None = None

    @classmethod
    def of(cls, exact: Tensor, dtype: torch.dtype) -> Tokens:
        """Make tokens for blocks.

        Args:
            exact: [F, 1+N, D].
            dtype: The type that the blocks compute in.
        """
        if not has_kernel(exact) or dtype != torch.bfloat16:
            return cls(exact)
        values = exact.to(dtype)
        return cls(values, (exact - values).to(dtype).detach())

    def map(self, function: Callable[[Tensor], Tensor]) -> Tokens:
        """Apply a function to both tensors.

        Args:
            function: Selects, repeats or moves tokens without changing them.
        """
        return Tokens(function(self.values), None if self.rest is None else function(self.rest))

    @property
    def exact(self) -> Tensor:
        """The tokens in one tensor."""
        return self.values if self.rest is None else self.values.float() + self.rest.float()


def join(parts: Sequence[Tokens]) -> Tokens:
    """Concatenate the tokens of several groups.

    Args:
        parts: The tokens of each group, all with or all without `rest`.
    """
    first, *others = parts
    if not others:
        return first
    rest = None if first.rest is None else torch.cat([part.rest for part in parts if part.rest is not None])
    return Tokens(torch.cat([part.values for part in parts]), rest)


class Residual(NamedTuple):
    """What a branch adds to the tokens: scale · (values + bias).

    Attributes:
        values: [F, 1+N, D].
        bias: [D].
        scale: [F]; None means 1.
        receivers: The tokens that it is added to.
    """

    values: Tensor
    bias: Tensor
    scale: Tensor | None
    receivers: Receivers


def nothing_to_add(tokens: Tokens) -> Residual:
    """Return a residual of zeros, for blocks that begin with tokens alone."""
    width, device = tokens.values.shape[-1], tokens.values.device
    dtype = torch.promote_types(tokens.values.dtype, torch.float32)
    return Residual(torch.zeros_like(tokens.values), torch.zeros(width, dtype=dtype, device=device), None, "all")


def add_normalise(
    tokens: Tokens, residual: Residual, groups: tuple[Group, ...], eps: float, *, float8: bool = False
) -> tuple[Tokens, Input]:
    """Add a residual to tokens, and normalise the sums to mean 0 and variance 1 over D.

    The kernel differs from the plain form in three ways:

    - With "clips" it averages the class token's `values` in place.
    - With "clips" it replaces the gradients of a clip's class token copies with their mean. The copies are equal by
      construction, so only the sum of their gradients matters.
    - With "patches" it leaves the gradient of the class token's `values` undefined. The layers that compute these
      values ignore that gradient.

    Args:
        tokens: The tokens.
        residual: What to add to them.
        groups: The layout of the frames.
        eps: Added to the variance, as in a LayerNorm.
        float8: Whether the product after it computes in float8 under bfloat16 autocast.

    Returns:
        The sums, and the normalised sums [F, 1+N, D] as the operand of a product.
    """
    dtype = compute_dtype(tokens.values)
    float8 = float8 and dtype == torch.bfloat16
    if has_kernel(tokens.values):
        exact = torch.is_grad_enabled() or not float8  # whether anything reads it
        arguments = *tokens, *residual, groups, eps, dtype, float8, exact
        values, rest, normed, *rounded = AddNormalise.apply(*arguments)
        return Tokens(values, rest), Input(normed, Float8(*rounded) if float8 else normed)
    tokens, normed = plain_add_normalise(tokens, residual, groups, eps)
    if not float8:
        return tokens, Input(normed, normed)
    normed = normed.to(dtype)
    return tokens, Input(normed, round_rows(normed.detach()))


def plain_add_normalise(
    tokens: Tokens, residual: Residual, groups: tuple[Group, ...], eps: float
) -> tuple[Tokens, Tensor]:
    """`add_normalise` in torch's own operations, each of which is one pass over the tokens."""
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


def normalised(tokens: Tokens, residual: Residual, groups: tuple[Group, ...], norm: nn.Module) -> Tensor:
    """Add a residual to tokens, and apply the last norm of a model to the sums.

    Args:
        tokens: The tokens.
        residual: What to add to them.
        groups: The layout of the frames.
        norm: A LayerNorm, or an Identity for no norm.

    Returns:
        [F, 1+N, D].
    """
    if not isinstance(norm, nn.LayerNorm):
        return add_normalise(tokens, residual, groups, 1.0)[0].exact
    normed_FND = add_normalise(tokens, residual, groups, norm.eps)[1].exact
    return normed_FND * norm.weight + norm.bias


def average_class_token(values_FND: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Replace the class token's values in each frame with their mean over the clip's frames.

    Args:
        values_FND: [F, 1+N, D].
        groups: The layout of the frames.

    Returns:
        A new tensor [F, 1+N, D].
    """
    class_FD = [part.mean(0, keepdim=True).expand_as(part).flatten(0, 1) for part in unpack(values_FND[:, 0], groups)]
    return torch.cat([torch.cat(class_FD)[:, None], values_FND[:, 1:]], dim=1)


def average_class_token_(values_FND: Tensor, groups: tuple[Group, ...]) -> None:
    """`average_class_token` in place."""
    for part_TBD in unpack(values_FND[:, 0], groups):
        if len(part_TBD) > 1:
            part_TBD.copy_(part_TBD.mean(0, keepdim=True))


class AddNormalise(Function):
    """`add_normalise` with one pass over the tokens, and one pass over their gradients."""

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
        float8: bool,
        exact: bool,
    ) -> tuple[Tensor | None, ...]:
        tokens, values = tokens.contiguous(), values.contiguous()
        rest = None if rest is None else rest.contiguous()
        if receivers == "clips":
            average_class_token_(values, groups)
        num_frames, num_tokens, width = tokens.shape
        num_rows = num_frames * num_tokens
        added, normed = torch.empty_like(tokens), torch.empty_like(tokens, dtype=dtype)
        added_rest = None if rest is None else torch.empty_like(tokens)
        rstd = torch.empty(num_rows, dtype=torch.float32, device=tokens.device)
        rounded = empty(normed.shape, normed.device) if float8 else (None, None)
        more = _more(width)
        _forward[(cdiv(num_rows, more * BLOCK_ROWS),)](
            tokens, rest, values, bias, scale, added, added_rest, normed, rstd, *rounded, num_rows, num_tokens, eps,
            WIDTH=width, BLOCK=power_of_two(width), ROWS=more * BLOCK_ROWS,
            PATCHES=receivers == "patches", SCALED=scale is not None, SPLIT=rest is not None,
            FLOAT8=float8, EXACT=exact,
        )  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(normed, rstd, scale)
        ctx.receivers, ctx.groups, ctx.dtypes = receivers, groups, (tokens.dtype, values.dtype)
        ctx.mark_non_differentiable(*(part for part in (added_rest, *rounded) if part is not None))
        return added, added_rest, normed, *rounded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        added_gradient, _, normed_gradient, *_ = gradients
        normed, rstd, scale = ctx.saved_tensors
        if normed_gradient is None:
            normed_gradient = torch.zeros_like(normed)
        num_frames, num_tokens, width = normed.shape
        num_rows = num_frames * num_tokens
        tokens_dtype, values_dtype = ctx.dtypes
        gradient = torch.empty_like(normed, dtype=tokens_dtype)
        separate = scale is not None or values_dtype != tokens_dtype
        values_gradient = torch.empty_like(normed, dtype=values_dtype) if separate else gradient
        more = _more(width)
        num_programs = cdiv(num_rows, more * ROWS_PER_PROGRAM)
        bias_parts = torch.empty(num_programs, width, dtype=torch.float32, device=normed.device)
        _backward[(num_programs,)](
            None if added_gradient is None else added_gradient.contiguous(), normed_gradient.contiguous(),
            normed, rstd, scale,
            gradient, values_gradient, bias_parts, num_rows, num_tokens,
            WIDTH=width, BLOCK=power_of_two(width), ROWS=more * BLOCK_ROWS, PER_PROGRAM=more * ROWS_PER_PROGRAM,
            PATCHES=ctx.receivers == "patches", SCALED=scale is not None,
            ADDED=added_gradient is not None, SEPARATE=separate,
        )  # fmt: skip
        if ctx.receivers == "clips":
            average_class_token_(gradient, ctx.groups)
            if separate:
                average_class_token_(values_gradient, ctx.groups)
        return gradient, None, values_gradient, column_sums(bias_parts, torch.float32), *(None,) * 7


def _more(width: int) -> int:
    """Return how many times BLOCK_ROWS and ROWS_PER_PROGRAM a program takes."""
    return max(1, NARROW // power_of_two(width))


@jit("num_rows", "scale")
def _forward(
    tokens, rest, values, bias, scale, added, added_rest, normed, rstd, rounded, rounded_scale, num_rows, num_tokens,
    eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PATCHES: tl.constexpr, SCALED: tl.constexpr,
    SPLIT: tl.constexpr, FLOAT8: tl.constexpr, EXACT: tl.constexpr,
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
    y = (x * r[:, None]).to(normed.dtype.element_ty)
    if EXACT:
        tl.store(normed + at, y, mask=here)
    tl.store(rstd + rows, r, mask=rows < num_rows)
    if FLOAT8:
        store_float8(rounded + at, rounded_scale + rows, y, here, rows < num_rows)


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
