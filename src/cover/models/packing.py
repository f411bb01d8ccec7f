"""Frame-major packing: the clips of all datasets in one tensor, without padding.

Clips of equal length T are joined along B, whatever dataset they come from. So each group is a contiguous [T, B] view
of the packed frames:

    k400 [T=8, B=2] ─┐
    ssv2 [T=8, B=1] ─┴─ group (8, 3) ── 24 frames ─┐
    imagenet [T=1, B=4] ─ group (1, 4) ── 4 frames ─┴─ F = 28

Linear layers, norms and spatial attention run once over all F frames. Only temporal attention and means over the
frames of a clip run once per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cover.core.batch import ClipBatch
from cover.errors import CoverError


class Group(NamedTuple):
    """Clips of equal length, stored as T·B consecutive frames.

    Attributes:
        num_frames: T, the frames of each clip.
        num_clips: B.
    """

    num_frames: int
    num_clips: int


@dataclass(frozen=True)
class PackedFrames:
    """The frames of clips of all lengths in one tensor.

    Attributes:
        frames_FCYX: All frames. uint8 frames are not normalised yet; float frames are.
        groups: The layout of the frames, longest clips first.
        seeds_B: int64, the seed of each packed clip.
    """

    frames_FCYX: Tensor
    groups: tuple[Group, ...]
    seeds_B: Tensor


@dataclass(frozen=True)
class PackedClips(PackedFrames):
    """What a backbone encodes: packed frames, and how to normalise them.

    Attributes:
        mean_C11: The mean to normalise uint8 frames with, for RGB in 0..1.
        std_C11: The standard deviation to normalise them with.
    """

    mean_C11: Tensor
    std_C11: Tensor


def pack(batch: Mapping[str, ClipBatch] | Mapping[str, Tensor]) -> tuple[PackedFrames, dict[str, slice]]:
    """Pack the clips of every dataset. Datasets that share a tensor of frames share the packed clips.

    Args:
        batch: A MixedBatch, or {dataset: frames [T,B,C,Y,X]}. Clips without seeds draw them from torch's generator.

    Returns:
        The packed frames, longest clips first; and the positions of each dataset's clips among the packed clips, in
        packed order, followed by the datasets that share those of another.

    Raises:
        CoverError: There are no clips, or their resolutions differ.
    """
    clips = {name: value if isinstance(value, Tensor) else value.frames for name, value in batch.items()}
    if len({frames.shape[2:] for frames in clips.values()}) != 1:
        shapes = ", ".join(f"{name} {list(frames.shape)}" for name, frames in clips.items())
        raise CoverError(f"clips to pack: {shapes or 'none'}; all [T,B,C,Y,X] must have one resolution")
    owners: dict[int, str] = {}  # of each tensor, the first dataset that has it
    shared = {name: owner for name, frames in clips.items() if (owner := owners.setdefault(id(frames), name)) != name}
    seeds = {name: _seeds(value) for name, value in batch.items() if name not in shared}
    order = sorted(seeds, key=lambda name: -clips[name].shape[0])
    by_length: dict[int, list[str]] = {}
    for name in order:
        by_length.setdefault(clips[name].shape[0], []).append(name)
    frames = [torch.cat([clips[name] for name in names], dim=1) for names in by_length.values()]
    rows, first = {}, 0
    for name in order:
        rows[name] = slice(first, first + clips[name].shape[1])
        first = rows[name].stop
    rows |= {name: rows[owner] for name, owner in shared.items()}
    groups = tuple(Group(*group.shape[:2]) for group in frames)
    packed_FCYX = torch.cat([group.flatten(0, 1) for group in frames])
    return PackedFrames(packed_FCYX, groups, torch.cat([seeds[name] for name in order])), rows


def _seeds(clips: ClipBatch | Tensor) -> Tensor:
    if isinstance(clips, ClipBatch):
        return clips.seeds
    return torch.randint(2**62, (clips.shape[1],), device=clips.device)


def unpack(packed_F: Tensor, groups: tuple[Group, ...]) -> Iterator[Tensor]:
    """Iterate over the groups of a packed tensor.

    Args:
        packed_F: [F, …].
        groups: The layout of the frames.

    Yields:
        Views [T, B, …], one per group.
    """
    first = 0
    for num_frames, num_clips in groups:
        size = num_frames * num_clips
        yield packed_F[first : first + size].unflatten(0, (num_frames, num_clips))
        first += size


def spread(per_clip_B: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Repeat the value of each clip for each of its frames.

    Args:
        per_clip_B: [B, …].
        groups: The layout of the frames.

    Returns:
        [F, …].
    """
    parts = per_clip_B.split([group.num_clips for group in groups])
    return torch.cat(
        [part.repeat(group.num_frames, *[1] * (part.ndim - 1)) for part, group in zip(parts, groups, strict=True)]
    )


def first_frames(packed_F: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Return the first frame of each clip: [F, …] → [B, …]."""
    return torch.cat([part[0] for part in unpack(packed_F, groups)])


def clip_means(packed_F: Tensor, groups: tuple[Group, ...]) -> Tensor:
    """Return the mean over the frames of each clip: [F, …] → [B, …]."""
    return torch.cat([part.mean(0) for part in unpack(packed_F, groups)])
