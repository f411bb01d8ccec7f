"""How tokens are cut into shifted windows, for clips of any sizes at once.

The tokens of a batch are one list [N, D]: grid after grid, clip after clip, in the order of slots, rows and columns.
One gather shifts, pads and cuts them, and puts windows of one kind next to each other, whatever clips they come from:

    tokens [N, D] ── places_M ──▶ [run | run | …], each [windows · tokens of a window, D] ── tokens_N ──▶ [N, D]

A shift is cyclic, so the last window along an axis holds tokens from both ends of the clip, which must not attend to
each other. Windows that are cut in the same way are of one kind, and have one mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

Size = tuple[int, int, int]
"""(time slots, rows, columns)."""
NO_SHIFT: Size = (0, 0, 0)
MASKED = -100.0
"""Added to the score of two tokens that must not attend to each other, as in the published code."""


class Grid(NamedTuple):
    """Clips of equal size.

    Attributes:
        size: The tokens of each clip.
        num_clips: B.
    """

    size: Size
    num_clips: int


class Kind(NamedTuple):
    """A kind of windows.

    Attributes:
        size: The tokens of a window. An axis of a clip that is shorter than a window shortens the window.
        wrapped: How many tokens at the end of each axis come from the beginning of the clip.
    """

    size: Size
    wrapped: Size


@dataclass(frozen=True)
class Run:
    """Consecutive windows of one kind.

    Attributes:
        num_windows: How many there are.
        kind: Their kind.
        mask_LL: What is added to the scores; None if all tokens may attend to each other.
    """

    num_windows: int
    kind: Kind
    mask_LL: Tensor | None

    @property
    def num_places(self) -> int:
        """The tokens of all of them."""
        return self.num_windows * prod(self.kind.size)


@dataclass(frozen=True)
class Windows:
    """Where each token is among the windows.

    Attributes:
        places_M: int64, the token at each place of the windows. Empty places have any.
        tokens_N: int64, the place of each token.
        empty_M1: bool, which places are empty; None if none is.
        runs: The windows, in order.
    """

    places_M: Tensor
    tokens_N: Tensor
    empty_M1: Tensor | None
    runs: tuple[Run, ...]

    def partition(self, tokens_ND: Tensor) -> Tensor:
        """Put tokens into windows: [N, D] → [M, D]. Empty places are zero."""
        return _gather(tokens_ND, self.places_M, self.empty_M1, self.tokens_N, None)

    def merge(self, places_MD: Tensor) -> Tensor:
        """Take tokens out of windows: [M, D] → [N, D]."""
        return _gather(places_MD, self.tokens_N, None, self.places_M, self.empty_M1)

    def to(self, device: torch.device) -> Windows:
        """Copy to a device."""
        runs = tuple(Run(run.num_windows, run.kind, _to(run.mask_LL, device)) for run in self.runs)
        return Windows(self.places_M.to(device), self.tokens_N.to(device), _to(self.empty_M1, device), runs)


class WindowCache:
    """The windows of all shapes that were seen. They stay at their addresses, because CUDA graphs know addresses."""

    def __init__(self) -> None:
        self._known: dict[Any, Windows] = {}

    def __call__(self, grids: tuple[Grid, ...], window: Size, shift: Size, device: torch.device) -> Windows:
        """Return the windows of some clips.

        Args:
            grids: The clips.
            window: The tokens of a window.
            shift: By how much the windows are shifted.
            device: Where the tokens are.
        """
        if torch.compiler.is_compiling():  # the number of clips may be unknown
            return cut(grids, window, shift).to(device)
        key = grids, window, shift, device
        if key not in self._known:
            with torch.inference_mode(False):
                self._known[key] = _copied(cut(grids, window, shift), device)
        return self._known[key]


def _copied(windows: Windows, device: torch.device) -> Windows:
    if device.type != "cuda":
        return windows.to(device)
    # On a stream of its own, because the current one may be recording a CUDA graph, which would own the memory.
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        copied = windows.to(device)
    stream.synchronize()
    return copied


def cut(grids: Sequence[Grid], window: Size, shift: Size) -> Windows:
    """Cut clips into windows, on the CPU. Clips are padded at their ends to whole windows.

    Args:
        grids: The clips.
        window: The tokens of a window.
        shift: By how much the windows are shifted. An axis that is not longer than a window is not shifted.
    """
    parts: dict[Kind, list[Tensor]] = {}
    first, has_padding = 0, False
    for size, num_clips in grids:
        tokens = prod(size)
        starts_B1 = first + tokens * torch.arange(num_clips)[:, None]
        for kind, index_P in _kinds(size, window, shift):
            index_BP = torch.where(index_P >= 0, starts_B1 + index_P, -1)
            parts.setdefault(kind, []).append(index_BP.flatten())
        first = first + tokens * num_clips
        has_padding |= any(side % length for side, length in zip(size, clipped(size, window), strict=True))
    index_M = torch.cat([part for of_kind in parts.values() for part in of_kind])
    empty_M = index_M < 0
    # Empty places all write to one more token, which is dropped.
    targets_M = torch.where(empty_M, first, index_M)
    tokens_N = torch.zeros(first + 1, dtype=torch.int64).scatter(0, targets_M, torch.arange(len(index_M)))[:-1]
    return Windows(
        places_M=index_M.clamp(min=0),
        tokens_N=tokens_N,
        empty_M1=empty_M[:, None] if has_padding else None,
        runs=tuple(
            Run(sum(len(part) for part in of_kind) // prod(kind.size), kind, _mask(kind))
            for kind, of_kind in parts.items()
        ),
    )


def clipped(size: Size, window: Size) -> Size:
    """Return the size of the windows in a clip: no axis is longer than the clip's."""
    slots, rows, columns = (min(side, most) for side, most in zip(size, window, strict=True))
    return slots, rows, columns


def _kinds(size: Size, window: Size, shift: Size) -> list[tuple[Kind, Tensor]]:
    """Return the kinds of windows in one clip, and for each the token at each place, -1 where there is none."""
    inner = clipped(size, window)
    moved = tuple(by if side > most else 0 for side, most, by in zip(size, window, shift, strict=True))
    axes = []
    for side, length, by in zip(size, inner, moved, strict=True):
        padded = -(-side // length) * length
        places = (torch.arange(padded) + by) % padded
        places = torch.where(places < side, places, -1).unflatten(0, (-1, length))
        axes.append([(0, places[:-1]), (by, places[-1:])] if by else [(0, places)])
    found = []
    for (cut_t, t), (cut_y, y), (cut_x, x) in product(*axes):
        # [windows along each axis, places along each axis]
        t, y, x = t[:, None, None, :, None, None], y[None, :, None, None, :, None], x[None, None, :, None, None, :]
        tokens = torch.where((t < 0) | (y < 0) | (x < 0), -1, (t * size[1] + y) * size[2] + x)
        found.append((Kind(inner, (cut_t, cut_y, cut_x)), tokens.flatten()))
    return found


def relative_bias(table: Tensor, size: Size, window: Size) -> Tensor:
    """Return the bias of each pair of tokens in a window, [H, L, L]: query, key.

    A pair's row in the table is its distance in time, rows and columns, and nothing else. So along each axis the biases
    are windows that slide over the table, and the backward pass sums them in a fixed order.

    The published code takes the first L rows and columns of the index of whole windows. That is right only if nothing
    but time is cut short, so below 224 px it reads biases of other positions; this function does not.

    Args:
        table: [(2 · slots - 1) · (2 · rows - 1) · (2 · columns - 1), H].
        size: The tokens of the window.
        window: The tokens of a whole window, for which the table is.
    """
    biases = table.unflatten(0, [2 * whole - 1 for whole in window])
    for axis, (length, whole) in enumerate(zip(size, window, strict=True)):
        biases = biases.narrow(axis, whole - length, 2 * length - 1).unfold(axis, length, 1)
    out: Tensor = biases.flip(4, 5, 6).permute(3, 0, 1, 2, 4, 5, 6).flatten(4).flatten(1, 3)
    return out


def _mask(kind: Kind) -> Tensor | None:
    """Return what is added to scores, float32 [L, L]; None if it is 0."""
    if kind.wrapped == NO_SHIFT:
        return None
    axes = [torch.arange(length) >= length - by for length, by in zip(kind.size, kind.wrapped, strict=True)]
    t, y, x = torch.meshgrid(*axes, indexing="ij")
    regions_L = (4 * t + 2 * y + 1 * x).flatten()
    return torch.where(regions_L[:, None] == regions_L, 0.0, MASKED)


def _gather(rows: Tensor, index: Tensor, empty: Tensor | None, inverse: Tensor, inverse_empty: Tensor | None) -> Tensor:
    if not (rows.requires_grad and torch.is_grad_enabled()):
        return _rows(rows, index, empty)
    out: Tensor = _Gather.apply(rows, index, empty, inverse, inverse_empty)
    return out


def _rows(rows: Tensor, index: Tensor, empty: Tensor | None) -> Tensor:
    taken = rows.index_select(0, index)
    return taken if empty is None else taken.masked_fill(empty, 0)


class _Gather(Function):
    """Rows of a matrix, with a backward pass that gathers, too. No row is taken twice, so nothing is summed."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, index: Tensor, empty: Tensor | None, inverse: Tensor, inverse_empty: Tensor | None
    ) -> Tensor:
        ctx.inverse, ctx.inverse_empty = inverse, inverse_empty
        return _rows(rows, index, empty)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _rows(gradient, ctx.inverse, ctx.inverse_empty), None, None, None, None


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
