"""How far the losses of a bf16 or fp8 run stray from those of float32: ours beside the published code's, in one run.

    python benchmarks/loss_curve.py                 # Base, 4 frames at 112, 200 steps of 16 clips, on a GPU
    python benchmarks/loss_curve.py --variant timesformer_tiny --steps 20       # to try it out on CPUs

All runs of a seed start from the same weights and see the same clips: each of ten classes is a grating that moves in a
direction of its own, under noise. Differences grow along a run, whatever their cause, so several seeds are taken.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification

import cover
from cover.models.checkpoints.naming import HEAD
from cover.models.linear import use_float8
from cover.models.timesformer.architecture import PUBLISHED_MEAN_STD
from cover.models.timesformer.config import VARIANTS
from results import write_results

NUM_CLASSES, NUM_CLIPS, NUM_FRAMES, SIDE_PX, LEARNING_RATE = 10, 16, 4, 112, 1e-3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clips_of(step: int, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 frames [T, B, 3, Y, X] and labels [B]."""
    generator = torch.Generator(DEVICE).manual_seed(10**6 * seed + step)
    labels = torch.randint(NUM_CLASSES, (NUM_CLIPS,), generator=generator, device=DEVICE)
    angle = labels.view(-1, 1, 1) * (2 * torch.pi / NUM_CLASSES)
    side = torch.arange(SIDE_PX, device=DEVICE) * (2 * torch.pi / 28)
    phase = side.view(1, -1, 1) * angle.sin() + side.view(1, 1, -1) * angle.cos()
    time = torch.arange(NUM_FRAMES, device=DEVICE).view(-1, 1, 1, 1)
    grating = (phase - 0.7 * time).sin()[:, :, None].expand(-1, -1, 3, -1, -1)
    noise = torch.randn(grating.shape, generator=generator, device=DEVICE)
    return (128 + 24 * grating + 48 * noise).clamp(0, 255).to(torch.uint8), labels


def losses_of(
    model: nn.Module, logits: Callable[[Tensor], Tensor], steps: int, seed: int, dtype: torch.dtype
) -> Tensor:
    """The loss of every step."""
    model.to(DEVICE).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    losses = []
    for step in range(steps):
        frames, labels = clips_of(step, seed)
        with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
            out = logits(frames)
        loss = F.cross_entropy(out.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).cpu()


def curves_of(variant: str, steps: int, seed: int) -> dict[str, Tensor]:
    """The losses of each contestant, from the same weights and on the same clips."""
    depth, width, num_heads = VARIANTS[variant]
    torch.manual_seed(seed)
    config = TimesformerConfig(  # type: ignore[call-arg]  # num_labels is of the parent class
        image_size=SIDE_PX, num_frames=NUM_FRAMES, hidden_size=width, num_hidden_layers=depth, layer_norm_eps=1e-6,
        num_attention_heads=num_heads, intermediate_size=4 * width, num_labels=NUM_CLASSES,
    )  # fmt: skip
    mean, std = PUBLISHED_MEAN_STD
    with tempfile.TemporaryDirectory() as start:
        TimesformerForVideoClassification(config).save_pretrained(start)

        def published(dtype: torch.dtype) -> Tensor:
            model = TimesformerForVideoClassification.from_pretrained(start)

            def logits(frames: Tensor) -> Tensor:
                out: Tensor = model((frames.float() / 255 - mean[0]).div(std[0]).transpose(0, 1)).logits
                return out

            return losses_of(model, logits, steps, seed, dtype)

        def ours(dtype: torch.dtype, *, float8: bool = False) -> Tensor:
            heads = {HEAD: NUM_CLASSES}
            model = cover.create_model(variant, num_frames=NUM_FRAMES, image_size=SIDE_PX, heads=heads)
            cover.load_weights(model, start)
            if float8:
                use_float8(model)
            return losses_of(model, lambda frames: model({HEAD: frames})[HEAD], steps, seed, dtype)

        return {
            "published, float32": published(torch.float32),
            "ours, float32": ours(torch.float32),
            "published, bf16": published(torch.bfloat16),
            "ours, bf16": ours(torch.bfloat16),
            "ours, fp8": ours(torch.bfloat16, float8=True),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="timesformer_base", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, from other weights and on other clips")
    parser.add_argument("--json", type=Path, help="file for the ratios and the losses of every step")
    arguments = parser.parse_args()
    runs = []
    for seed in range(arguments.seeds):
        runs.append(curves_of(arguments.variant, arguments.steps, seed))
        losses = [{name: curve.tolist() for name, curve in curves.items()} for curves in runs]
        write_results(arguments.json, ratios_of(runs), losses=losses)
    show(runs)


def distance(runs: list[dict[str, Tensor]], name: str) -> Tensor:
    """|difference| from the published code in float32, [seeds, steps]."""
    return torch.stack([(curves[name] - curves["published, float32"]).abs() for curves in runs])


def ratios_of(runs: list[dict[str, Tensor]]) -> dict[str, float]:
    ours, published = (float(distance(runs, f"{whose}, bf16").mean()) for whose in ("ours", "published"))
    return {"mean difference in bf16: ours ÷ published": ours / published}


def show(runs: list[dict[str, Tensor]]) -> None:
    table = Table("run", "first loss", "last 20", "mean |difference|", "by seed", "first 50 steps", "largest")
    for name in runs[0]:
        losses = torch.stack([curves[name] for curves in runs])
        apart = distance(runs, name)
        by_seed = " ".join(f"{value:.1e}" for value in apart.mean(1))
        table.add_row(name, f"{losses[:, 0].mean():.5f}", f"{losses[:, -20:].mean():.4f}", f"{apart.mean():.2e}",
                      by_seed, f"{apart[:, :50].mean():.2e}", f"{apart.max():.2e}")  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
