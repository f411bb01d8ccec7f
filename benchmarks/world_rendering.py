"""How fast the built-in datasets are rendered, clips a second on one core: drawing alone, and with encoding to files.

    python benchmarks/world_rendering.py [--preset full] [--num-clips 64]

Both columns contain the checks, the draws that were refused, and the start of episodes and games.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import accumulate
from pathlib import Path

import numpy as np

from cover.world.game import Game
from cover.world.presets import DATASETS, PRESETS
from cover.world.render import ClipBlock, group_by_map, plan_blocks, render_blocks
from results import write_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="full", choices=PRESETS)
    parser.add_argument("--num-clips", type=int, default=64, help="videos a dataset; of images ten times as many")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    print(f"{'dataset':20} {'drawn/s':>8} {'written/s':>10} {'draws refused':>14}")
    ratios: dict[str, float] = {}
    for name, dataset in DATASETS.items():
        num_clips = arguments.num_clips * (10 if dataset.kind == "image" else 1)
        drawn, written, refused_share = _measure(name, arguments.preset, num_clips)
        print(f"{name:20} {drawn:8.1f} {written:10.1f} {refused_share:14.0%}")
        ratios[f"{name}: written ÷ drawn"] = written / drawn
    write_results(arguments.json, ratios)


def _measure(name: str, preset: str, num_clips: int) -> tuple[float, float, float]:
    """Clips a second without and with files, and the share of draws that failed their check."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = _some_tasks(list(plan_blocks(Path(folder), DATASETS[name], PRESETS[preset], seed=0)), num_clips)
        start = time.perf_counter()
        num_drawn = sum(_draw(task) for task in tasks)
        draw_seconds = time.perf_counter() - start
        reports = [render_blocks(task) for task in tasks]
    rendered, refused = sum(report.rendered for report in reports), sum(report.refused for report in reports)
    written_rate = rendered / sum(report.seconds for report in reports)
    return num_drawn / draw_seconds, written_rate, refused / (rendered + refused)


def _draw(blocks: list[ClipBlock]) -> int:
    """Draw the clips of some blocks without writing them; returns how many passed their check."""
    num_drawn = 0
    with Game(blocks[0].clip_format.width_px, blocks[0].clip_format.height_px) as game:
        for block in blocks:
            rng = np.random.default_rng(block.seed)
            game.start(block.map_name, seed=0)
            for class_name, _ in block.files:
                while DATASETS[block.dataset].draw(game, class_name, rng, block.clip_format) is None:
                    pass
                num_drawn += 1
    return num_drawn


def _some_tasks(blocks: list[ClipBlock], num_clips: int) -> list[list[ClipBlock]]:
    """Tasks from all over the maps, until they hold `num_clips`."""
    tasks = group_by_map(blocks)
    tasks = tasks[:: max(1, len(tasks) // 12)]
    sizes = accumulate(sum(len(block.files) for block in task) for task in tasks)
    return [task for task, size in zip(tasks, sizes, strict=True) if size <= num_clips] or tasks[:1]


if __name__ == "__main__":
    main()
