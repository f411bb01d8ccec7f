"""The attention branch of a block with windows: attention among the tokens of each window, with relative positions.

The kernels (window_attention.py) read queries, keys and values where the product wrote them, in the order of the clips,
and write the result in that order. So shifting, padding and cutting clips into windows moves nothing. The plain form
gathers the tokens of the windows and puts the results back.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from cover.models.kernels.backend import column_sums, has_kernel
from cover.models.kernels.products import (
    Input,
    Weight,
    data_gradient,
    linear,
    matched,
    product,
    save,
    saved,
    weight_gradient,
)
from cover.models.kernels.relative_bias import Size, expand, plain_expand, table_gradient
from cover.models.kernels.window_attention import (
    Operands,
    SameSize,
    attend,
    attend_backward,
    fits,
    tile_gradients,
)


class Run(NamedTuple):
    """Consecutive windows that are cut in the same way.

    Attributes:
        num_windows: How many there are.
        size: The slots, rows and columns of tokens in a window.
        mask_LL: What is added to the scores; None if all tokens may attend to each other.
    """

    num_windows: int
    size: Size
    mask_LL: Tensor | None


@dataclass(frozen=True)
class Windows:
    """How N tokens are cut into windows with M places, some of which may be empty.

    Attributes:
        num_tokens: N.
        places_M: int32, the token at each place. The empty places have the numbers from N to M - 1.
        tokens_M: int32, the place of each token, and then of each empty place.
        runs: The windows, in order.
        sizes: The same windows by their size.
    """

    num_tokens: int
    places_M: Tensor
    tokens_M: Tensor
    runs: tuple[Run, ...]
    sizes: tuple[SameSize, ...]

    @property
    def num_empty(self) -> int:
        """The number of empty places."""
        return len(self.places_M) - self.num_tokens

    def to(self, device: torch.device) -> Windows:
        """Copy to a device."""
        return Windows(
            self.num_tokens,
            self.places_M.to(device),
            self.tokens_M.to(device),
            tuple(run._replace(mask_LL=_to(run.mask_LL, device)) for run in self.runs),
            tuple(
                part._replace(places_WP=part.places_WP.to(device), regions_WP=_to(part.regions_WP, device))
                for part in self.sizes
            ),
        )


class WindowAttention(NamedTuple):
    """The weights of the branch, and how its tokens are cut.

    Attributes:
        qkv_weight: W, [3·D, D].
        out_weight: O, [D, D].
        num_heads: H.
        window: The size of a whole window, which the bias table is for.
        windows: How the tokens are cut into windows, which may be smaller.
    """

    qkv_weight: Weight
    out_weight: Weight
    num_heads: int
    window: Size
    windows: Windows


def window_branch(
    normed_FND: Input, qkv_bias: Tensor, empty_bias: Tensor, table: Tensor, attention: WindowAttention
) -> Tensor:
    """Compute attention(x Wᵀ + b) Oᵀ. The bias of the output projection is added with the residual.

    Args:
        normed_FND: x, [F, N, D].
        qkv_bias: b, [3·D].
        empty_bias: [3·D]. Empty places have it as queries, keys and values.
        table: The bias of each distance and head (see relative_bias.py).
        attention: The rest.

    Returns:
        [F, N, D].
    """
    exact, weights = normed_FND.exact, (attention.qkv_weight.exact, attention.out_weight.exact)
    longest = max(prod(windows.size) for windows in attention.windows.sizes)
    if not has_kernel(exact) or not fits(exact.shape[-1] // attention.num_heads, exact.dtype, longest):
        return plain_window_branch(normed_FND, qkv_bias, empty_bias, table, attention)
    out: Tensor = WindowBranch.apply(exact, qkv_bias, empty_bias, table, *weights, normed_FND, attention)
    return out


def plain_window_branch(
    normed_FND: Input, qkv_bias: Tensor, empty_bias: Tensor, table: Tensor, attention: WindowAttention
) -> Tensor:
    """`window_branch` in torch's own operations."""
    windows, num_heads = attention.windows, attention.num_heads
    qkv = linear(normed_FND, attention.qkv_weight, qkv_bias)
    rows = qkv.flatten(0, 1)
    if windows.num_empty:
        rows = torch.cat([rows, empty_bias.to(rows.dtype).expand(windows.num_empty, -1)])
    places = permuted(rows, windows.places_M, windows.tokens_M).unflatten(-1, (3, num_heads, -1))
    biases = {size: plain_expand(table, size, attention.window) for size in {run.size: None for run in windows.runs}}
    mixed = []
    for run, part in zip(windows.runs, places.split([n * prod(size) for n, size, _ in windows.runs]), strict=True):
        query, key, value = part.unflatten(0, (run.num_windows, -1)).permute(2, 0, 3, 1, 4)
        bias_HLL = biases[run.size]
        if run.mask_LL is not None:
            bias_HLL = bias_HLL + run.mask_LL
        mixed_WLHE = F.scaled_dot_product_attention(query, key, value, bias_HLL.to(query.dtype)[None]).transpose(1, 2)
        if torch.compiler.is_exporting():  # ONNX's attention returns another memory layout than torch's
            mixed_WLHE = mixed_WLHE.clone(memory_format=torch.contiguous_format)
        mixed.append(mixed_WLHE.flatten(2).flatten(0, 1))
    mixed_ND = permuted(torch.cat(mixed), windows.tokens_M, windows.places_M)
    if windows.num_empty:
        mixed_ND = mixed_ND[: windows.num_tokens]
    weight = attention.out_weight
    return linear(Input.of(mixed_ND.view(*qkv.shape[:2], -1), weight.forward), weight)


def permuted(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Put the rows of a matrix into another order."""
    if not (rows.requires_grad and torch.is_grad_enabled()):
        return rows.index_select(0, order)
    out: Tensor = Permute.apply(rows, order, inverse)
    return out


class Permute(Function):
    """`permuted`, with a backward pass that gathers, too, and adds nothing."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.inverse), None, None


class WindowBranch(Function):
    """`window_branch` with one pass over packed queries, keys and values, and three for the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        _normed: Tensor,
        qkv_bias: Tensor,
        empty_bias: Tensor,
        table: Tensor,
        _qkv_weight: Tensor,
        _out_weight: Tensor,
        normed: Input,
        attention: WindowAttention,
    ) -> Tensor:
        qkv = product(normed.operand, attention.qkv_weight.forward, qkv_bias)
        mixed, kept = torch.empty_like(normed.exact), []
        for windows in attention.windows.sizes:
            bias = expand(table, windows.size, attention.window, qkv.dtype)
            kept += [bias, attend(qkv, empty_bias, bias, mixed, windows)]
        weights = attention.qkv_weight.backward, attention.out_weight.backward
        save(ctx, normed.exact, *weights, empty_bias, qkv, mixed, *kept)
        ctx.windows, ctx.window, ctx.table_dtype = attention.windows, attention.window, table.dtype
        return product(matched(mixed, attention.out_weight.forward), attention.out_weight.forward)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normed, qkv_weight, out_weight, empty_bias, qkv, mixed, *kept = saved(ctx)
        gradient = gradients[0]
        g = gradient.flatten(0, 1)
        out_weight_gradient = weight_gradient(g, mixed)
        mixed_gradient = data_gradient(matched(g, out_weight), out_weight)
        qkv_gradient, table_gradients, sums = torch.empty_like(qkv), [], []
        for windows, bias, lse in zip(ctx.windows.sizes, kept[::2], kept[1::2], strict=True):
            operands = Operands(qkv, empty_bias, bias, mixed_gradient, lse)
            part, delta = attend_backward(operands, mixed, qkv_gradient, windows)
            sums.append(part)
            tiles = tile_gradients(operands, delta, windows)
            table_gradients.append(table_gradient(tiles, windows.size, ctx.window, ctx.table_dtype))
        first, *others = table_gradients
        of_tokens, *of_empty = column_sums(torch.cat(sums), torch.float32).split(qkv.shape[-1])
        g = qkv_gradient.flatten(0, 1)
        qkv_weight_gradient = weight_gradient(g, normed)
        normed_gradient = data_gradient(matched(g, qkv_weight), qkv_weight).view_as(gradient)
        return (
            normed_gradient, of_tokens.to(qkv.dtype), of_empty[0] if of_empty else None, sum(others, first),
            qkv_weight_gradient, out_weight_gradient, None, None,
        )  # fmt: skip


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
