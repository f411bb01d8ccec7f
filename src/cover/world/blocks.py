"""What is to be rendered, in blocks: some clips of one split that one episode on one map shows, one after the other.

A new episode is started only for a new block, because it takes as long as a few clips. A block is rendered whole, and
its seed comes from (seed, dataset, split, block) alone, so that the files depend on neither the number of processes
nor on interruptions.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from cover.world.presets import Preset, maps_of
from cover.world.world_dataset import SUFFIXES, ClipFormat, WorldDataset

_BLOCK_SIZES = {"image": 16, "video": 8}
_BLOCKS_A_TASK = 8


@dataclass(frozen=True)
class Block:
    """Clips that one episode on one map shows."""

    dataset: str
    split: str
    map_name: str
    seed: tuple[int, ...]
    clip_format: ClipFormat
    files: tuple[tuple[str, Path], ...]  # class name, path


def plan_blocks(out: Path, dataset: WorldDataset, preset: Preset, seed: int) -> Iterator[Block]:
    """All blocks of a dataset. Maps take turns; every class comes as often as any other, give or take one."""
    size = _BLOCK_SIZES[dataset.kind]
    for split, num_clips in preset.num_clips[dataset.name].items():
        maps = maps_of(dataset.name, split)
        split_seed = (seed, zlib.crc32(f"{dataset.name}/{split}".encode()))
        classes = _class_sequence(preset.classes(dataset), num_clips, split_seed)
        for index, first in enumerate(range(0, num_clips, size)):
            map_name = maps[index % len(maps)]
            files = tuple(
                (name, out / dataset.name / split / name / f"{map_name}-{number:06d}{SUFFIXES[dataset.kind]}")
                for number, name in enumerate(classes[first : first + size], start=first)
            )
            yield Block(dataset.name, split, map_name, (*split_seed, index), preset.formats[dataset.kind], files)


def _class_sequence(classes: Sequence[str], num_clips: int, seed: Sequence[int]) -> list[str]:
    """Classes in rounds, each round in an order of its own, so that no class keeps meeting the same maps."""
    rng = np.random.default_rng(seed)
    num_rounds = -(-num_clips // len(classes))
    return [classes[index] for _ in range(num_rounds) for index in rng.permutation(len(classes))][:num_clips]


def group_by_map(blocks: Sequence[Block]) -> list[list[Block]]:
    """Tasks for processes: a few blocks of the same map each."""
    tasks = []

    def place(block: Block) -> tuple[str, str, str]:
        return block.dataset, block.split, block.map_name

    for _, group in groupby(sorted(blocks, key=place), place):
        same_map = list(group)
        tasks += [same_map[first : first + _BLOCKS_A_TASK] for first in range(0, len(same_map), _BLOCKS_A_TASK)]
    return tasks
