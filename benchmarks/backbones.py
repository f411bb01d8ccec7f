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

COMPILE_MODES = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}
WAYS = ("ours", *COMPILE_MODES)


class Videos(nn.Module):
    """A published model as a function from clips [B, T, 3, Y, X] to logits."""

    def __init__(self, model: nn.Module, *, channels_first: bool = False) -> None:
        super().__init__()
        self.model, self.channels_first = model, channels_first

    def forward(self, clips: Tensor) -> Tensor:
        out = self.model(clips.transpose(1, 2) if self.channels_first else clips)
        logits: Tensor = getattr(out, "logits", out)
        return logits


def videomae() -> nn.Module:
    """VideoMAE-B as transformers has it."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(num_labels=NUM_CLASSES, use_mean_pooling=True)  # type: ignore[call-arg]
    return Videos(VideoMAEForVideoClassification(config))


def video_swin() -> nn.Module:
    """Video Swin-B as torchvision has it, without its drop path, as in our step."""
    from torchvision.models.video import swin3d_b  # type: ignore[import-not-found]

    return without_drop_path(swin3d_b())


def mvit() -> nn.Module:
    """MViTv2-S as torchvision has it, without its drop path and dropout."""
    from torchvision.models.video import mvit_v2_s

    model = mvit_v2_s()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return without_drop_path(model)


def without_drop_path(model: nn.Module) -> nn.Module:
    """A model of torchvision."""
    for module in model.modules():
        drop_path: Any = getattr(module, "stochastic_depth", None)
        if drop_path is not None:
            drop_path.p = 0.0
    return Videos(model, channels_first=True)


class FactorisedEncoder(nn.Module):
    """ViViT's model 2, put together from the layers of transformers, which has only model 1."""

    def __init__(self, num_tubelets: int, temporal_depth: int) -> None:
        from transformers import VivitConfig, VivitModel
        from transformers.models.vivit.modeling_vivit import VivitLayer

        super().__init__()
        config = VivitConfig(num_frames=2)
        self.spatial = VivitModel(config, add_pooling_layer=False)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.positions = nn.Parameter(torch.zeros(1, 1 + num_tubelets, config.hidden_size))
        self.temporal = nn.ModuleList(VivitLayer(self.spatial.config) for _ in range(temporal_depth))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, NUM_CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        batch = len(clips)
        frames = (
            self.spatial(clips.unflatten(1, (-1, 2)).flatten(0, 1)).last_hidden_state[:, 0].unflatten(0, (batch, -1))
        )
        tokens = torch.cat([self.class_token.expand(batch, -1, -1), frames], 1) + self.positions
        for layer in self.temporal:
            out = layer(tokens)
            tokens = out[0] if isinstance(out, tuple) else out
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits


def vivit() -> nn.Module:
    """ViViT-B/16x2 with a factorised encoder, for 32 frames."""
    return FactorisedEncoder(num_tubelets=16, temporal_depth=4)


def vjepa2() -> nn.Module:
    """V-JEPA 2-L with its attentive classifier, as transformers has it, for 16 frames."""
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    config = VJEPA2Config(frames_per_clip=16, num_labels=NUM_CLASSES)  # type: ignore[call-arg]
    return Videos(VJEPA2ForVideoClassification(config))


FAMILIES: dict[str, tuple[Size, Callable[[], nn.Module]]] = {
    "videomae": (Size("videomae_base", 16, 224, 8, 8, 8), videomae),
    "video_swin": (Size("video_swin_base", 32, 224, 8, 8, 8), video_swin),
    "vivit": (Size("vivit_base", 32, 224, 8, 8, 8, {"attention": "factorised_encoder"}), vivit),
    "vjepa2": (Size("vjepa2_large", 16, 256, 8, 8, 8, {"head": "attentive"}), vjepa2),
    "mvit": (Size("mvitv2_small", 16, 224, 8, 8, 8), mvit),
}
"""What is measured of each family, and its published code."""


def published(size: Size, family: str, way: str, training: bool) -> Step:
    """A step of the published code on normalised float32 clips."""
    model = FAMILIES[family][1]().to("cuda").train(training)
    mode = COMPILE_MODES[way]
    called: Any = torch.compile(model, mode=mode) if mode else model
    clips = uint8_frames(size, size.batch).transpose(0, 1).float().div(127.5).sub(1).contiguous()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4, fused=True)
    labels = torch.randint(NUM_CLASSES, (size.batch,), device="cuda")

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with nullcontext() if training else torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            logits = called(clips)
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
                    print(f"{family}, {purpose}, {num_clips} clips, {way}: {row.get(way)}", flush=True)
                    if arguments.json:
                        arguments.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    main()
