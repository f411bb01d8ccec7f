"""Do the patches that an explanation names carry the class? They are deleted, and the class' probability is looked at.

    python benchmarks/explain.py RUN DATASET [--split test] [--num-samples 100]

Patches are replaced by the clip's mean colour: the strongest first, after which the class should be gone soon, or the
weakest first, after which it should stay. Shown are mean probabilities over the clips, and over all shares deleted.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cover.core.progress import track
from cover.runs.trained import TrainedRun
from results import write_results

SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--split", default="test")
    parser.add_argument("--num-samples", type=int, default=100)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    run, head = TrainedRun.open(arguments.run), arguments.dataset
    reader = run.reader(head, run.manifest(head, arguments.split))
    chosen = np.random.default_rng(0).permutation(len(reader.manifest))[: arguments.num_samples]
    torch.manual_seed(0)
    probabilities: defaultdict[tuple[str, str], list[Tensor]] = defaultdict(list)
    for index in track(chosen.tolist(), "clips", unit="clips"):
        frames = reader.views(index, num_crops=1)[0]
        label = int(run.predict_heads(frames[:, None])[head][0].argmax())
        relevance, rollout = run.model.attribute(frames.to(run.device), head, label)
        for name, weights in {"relevance": relevance, "rollout": rollout, "random": torch.rand_like(rollout)}.items():
            for order, sign in (("strongest first", -1), ("weakest first", 1)):
                ranks = (sign * weights.flatten()).argsort().argsort().view(weights.shape) / weights.numel()
                clips = torch.stack([deleted(frames, ranks < share) for share in SHARES], dim=1)
                probabilities[order, name].append(run.predict_heads(clips)[head].softmax(1)[:, label])
    table = Table("deleted", "by", *(f"{100 * share:g} %" for share in SHARES), "mean")
    for (order, name), values in probabilities.items():
        means = torch.stack(values).mean(0)
        table.add_row(order, name, *(f"{value:.2f}" for value in means.tolist()), f"{means.mean():.3f}")
    Console().print(table)
    overall = {key: float(torch.stack(values).mean()) for key, values in probabilities.items()}
    write_results(
        arguments.json,
        {
            f"{order}: {name} ÷ random": value / overall[order, "random"]
            for (order, name), value in overall.items()
            if name != "random"
        },
    )


def deleted(frames_TCYX: Tensor, is_gone: Tensor) -> Tensor:
    """The clip with the patches [T, rows, columns] that are gone in its mean colour."""
    patch_px = frames_TCYX.shape[2] // is_gone.shape[1]
    is_gone_TYX = is_gone.repeat_interleave(patch_px, 1).repeat_interleave(patch_px, 2)
    mean_C11 = frames_TCYX.float().mean((0, 2, 3)).round().byte()[:, None, None]
    return torch.where(is_gone_TYX[:, None], mean_C11, frames_TCYX)


if __name__ == "__main__":
    main()
