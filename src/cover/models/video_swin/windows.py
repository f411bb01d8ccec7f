"""How tokens are cut into shifted windows, for clips of any sizes at once.

The tokens of a batch are one list [N, D]: grid after grid, clip after clip, in the order of slots, rows and columns.
The places of the windows are another list: windows of one size next to each other, and among these those that are cut
in the same way, whatever clips they come from. Tables say which token is at each place.

A shift is cyclic, so the last window along an axis holds tokens from both ends of the clip, which must not attend to
each other. They are of different regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cover.models.kernels.relative_bias import PADDING, Size
from cover.models.kernels.window import Run, Windows
from cover.models.kernels.window_attention import MASKED, SameSize

NO_SHIFT: Size = (0, 0, 0)


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
    num_tokens = 0
    for size, num_clips in grids:
        tokens = prod(size)
        starts_B1 = num_tokens + tokens * torch.arange(num_clips)[:, None]
        for kind, index_P in _kinds(size, window, shift):
            index_BP = torch.where(index_P >= 0, starts_B1 + index_P, -1)
            parts.setdefault(kind, []).append(index_BP.flatten())
        num_tokens = num_tokens + tokens * num_clips
    of_kind = {kind: torch.cat(parts[kind]) for kind in sorted(parts, key=lambda kind: kind.size)}
    places_M = torch.cat(list(of_kind.values()))
    has_empty = any(s % w for size, _ in grids for s, w in zip(size, clipped(size, window), strict=True))
    if has_empty:
        is_empty = places_M < 0
        places_M = torch.where(is_empty, num_tokens - 1 + is_empty.cumsum(0), places_M)
    tokens_M = torch.zeros_like(places_M).scatter(0, places_M, torch.arange(len(places_M)))
    counts = {kind: len(index) // prod(kind.size) for kind, index in of_kind.items()}
    sizes, rest = [], places_M.to(torch.int32)
    for size in dict.fromkeys(kind.size for kind in counts):
        num_places = sum(counts[kind] for kind in counts if kind.size == size) * prod(size)
        places_WP, rest = _padded(rest[:num_places].unflatten(0, (-1, prod(size)))), rest[num_places:]
        sizes.append(SameSize(size, places_WP, _regions_of(counts, size), num_tokens, has_empty))
    return Windows(
        num_tokens=num_tokens,
        places_M=places_M.to(torch.int32),
        tokens_M=tokens_M.to(torch.int32),
        runs=tuple(Run(num_windows, kind.size, _mask(kind)) for kind, num_windows in counts.items()),
        sizes=tuple(sizes),
    )


def _padded(values_WL: Tensor) -> Tensor:
    """Repeat the last value of each window up to a multiple of PADDING."""
    missing = -values_WL.shape[1] % PADDING
    return torch.cat([values_WL, values_WL[:, -1:].expand(-1, missing)], dim=1)


def _regions_of(counts: dict[Kind, int], size: Size) -> Tensor | None:
    """Return the regions of all windows of a size; None if each window is one region."""
    kinds = [kind for kind in counts if kind.size == size]
    if all(kind.wrapped == NO_SHIFT for kind in kinds):
        return None
    return _padded(torch.cat([_regions(kind).expand(counts[kind], -1) for kind in kinds]))


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


def _regions(kind: Kind) -> Tensor:
    """Return the region of each token in a window, int32 [L]."""
    axes = [torch.arange(length) >= length - by for length, by in zip(kind.size, kind.wrapped, strict=True)]
    t, y, x = torch.meshgrid(*axes, indexing="ij")
    return (4 * t + 2 * y + 1 * x).flatten().to(torch.int32)


def _mask(kind: Kind) -> Tensor | None:
    """Return what is added to scores, float32 [L, L]; None if it is 0."""
    if kind.wrapped == NO_SHIFT:
        return None
    regions_L = _regions(kind)
    return torch.where(regions_L[:, None] == regions_L, 0.0, MASKED)
