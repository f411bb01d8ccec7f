"""Every family of backbones against its published code, eager and compiled, in one run.

    python benchmarks/backbones.py                         # all families on one GPU, some minutes
    python benchmarks/backbones.py --only videomae --ways ours eager --profile

The published code is that of transformers (VideoMAE, ViViT, V-JEPA 2) or torchvision (Video Swin, MViT). Training:
forward, loss, backward, and SGD with momentum, in bf16 autocast with float32 weights, on noise that lies on the GPU.
"ours" is a step of `cover train` whose batch is there already. "compiled" is torch.compile; "graphs" is
torch.compile(mode="reduce-overhead"), which replays CUDA graphs, too. Inference: logits of one head. Medians; memory is
the peak of a step beyond what it leaves behind.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from cover.models.cuda_graphs import ClipGraphs
from gpu import (
    LEARNING_RATE,
    NUM_CLASSES,
    Size,
    Step,
    median_seconds,
    milliseconds_by_class,
    our_logits,
    our_step,
    peak_gib,
    uint8_frames,
)

Published = Callable[[], tuple[nn.Module, Callable[[Any, Tensor], Tensor]]]
"""The model on the CPU, and how to get logits from it and clips [B, T, 3, Y, X]."""
COMPILE_MODES = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}
WAYS = ("ours", *COMPILE_MODES)


def videomae() -> tuple[nn.Module, Callable[[Any, Tensor], Tensor]]:
    """VideoMAE-B as transformers has it."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(num_labels=NUM_CLASSES, use_mean_pooling=True)  # type: ignore[call-arg]
    model: nn.Module = VideoMAEForVideoClassification(config)
    return model, lambda model, clips: model(clips).logits


def video_swin() -> tuple[nn.Module, Callable[[Any, Tensor], Tensor]]:
    """Video Swin-B as torchvision has it, without its drop path, as in our step."""
    from torchvision.models.video import swin3d_b  # type: ignore[import-not-found]

    model = swin3d_b()
    for block in model.features.modules():
        if hasattr(block, "stochastic_depth"):
            block.stochastic_depth.p = 0.0
    return model, lambda model, clips: model(clips.transpose(1, 2))


FAMILIES: dict[str, tuple[Size, Published]] = {
    "videomae": (Size("videomae_base", 16, 224, 8, 8, 8), videomae),
    "video_swin": (Size("video_swin_base", 32, 224, 8, 8, 8), video_swin),
}


def published(size: Size, family: str, way: str, training: bool) -> Step:
    """A step of the published code on normalised float32 clips."""
    model, logits_of = FAMILIES[family][1]()
    model.to("cuda").train(training)
    mode = COMPILE_MODES[way]
    called: Any = torch.compile(model, mode=mode) if mode else model
    clips = uint8_frames(size, size.batch).transpose(0, 1).float().div(127.5).sub(1).contiguous()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    labels = torch.randint(NUM_CLASSES, (size.batch,), device="cuda")

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with nullcontext() if training else torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            logits = logits_of(called, clips)
        if training:
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def ours(size: Size, training: bool) -> Step:
    """A step of ours."""
    if training:
        return our_step(size)
    logits, frames = our_logits(size, size.batch)
    graphs = ClipGraphs(logits)
    return lambda: graphs(frames)


def measured(family: str, way: str, size: Size, training: bool, arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step, GiB of a clip, and for ours where the time goes."""
    step = ours(size, training) if way == "ours" else published(size, family, way, training)
    found: dict[str, Any] = {"gib": peak_gib(step) / size.batch}
    for _ in range(3):
        step()
    found["ms"] = 1000 * median_seconds(step, arguments.repeats)
    if arguments.profile and way != "graphs":
        found["profile"] = milliseconds_by_class(step)
    return found


def forget() -> None:
    """Free what the last contestant held."""
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()


def show(found: dict[str, Any]) -> None:
    """Print the table, the profiles, and what failed."""
    console = Console(width=120)
    table = Table("family", "pass", "clips", *WAYS, "× eager", "× compiled", "× graphs", "GiB a clip: ours, eager",
                  title=f"ms a step, {found['device']}")  # fmt: skip
    for row in found["rows"]:
        ways = {way: row[way] for way in WAYS if way in row}
        times = [f"{ways[way]['ms']:.1f}" if way in ways else "–" for way in WAYS]
        ratios = [f"{row['ratios'][way]:.2f}" if way in row["ratios"] else "–" for way in COMPILE_MODES]
        memory = ", ".join(f"{ways[way]['gib']:.2f}" if way in ways else "–" for way in ("ours", "eager"))
        table.add_row(row["family"], row["pass"], str(row["clips"]), *times, *ratios, memory)
    console.print(table)
    for row in found["rows"]:
        for way in WAYS:
            classes = row.get(way, {}).get("profile", {})
            shown = ", ".join(f"{name} {value:.1f}" for name, value in classes.items())
            if shown:
                console.print(f"{way}, {row['family']}, {row['pass']}, {row['clips']} clips, ms a step: {shown}")
    for failure in found["failed"]:
        console.print(f"failed: {failure}", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--batches", nargs="+", type=int, default=[8], metavar="CLIPS")
    parser.add_argument("--ways", nargs="+", default=["ours", "eager", "compiled"], choices=WAYS)
    parser.add_argument("--passes", nargs="+", default=["train", "predict"], choices=["train", "predict"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by class of kernel")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    found: dict[str, Any] = {"device": device, "rows": [], "failed": []}
    for family in arguments.only:
        for purpose in arguments.passes:
            for num_clips in arguments.batches:
                row: dict[str, Any] = {"family": family, "pass": purpose, "clips": num_clips, "ratios": {}}
                found["rows"].append(row)
                size = replace(FAMILIES[family][0], batch=num_clips)
                for way in arguments.ways:
                    try:
                        row[way] = measured(family, way, size, purpose == "train", arguments)
                        if "ours" in row and way != "ours":
                            row["ratios"][way] = row[way]["ms"] / row["ours"]["ms"]
                    except RuntimeError as error:
                        found["failed"].append(f"{family}, {purpose}, {num_clips}, {way}: {error!s:.200}")
                    forget()
                print(row, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
