"""How far the losses of a bf16 run stray from those of float32: ours beside the published code's, in one run.

    python benchmarks/loss_curve.py                 # Base, 4 frames at 112, 200 steps of 16 clips, on a GPU
    python benchmarks/loss_curve.py --variant timesformer_tiny --steps 20       # to try it out on CPUs

All start from the same weights and see the same clips: each of ten classes is a grating that moves in a direction of
its own, under noise. Differences grow along a run, whatever their cause, so the share of steps in which ours is the
closer one is given too.
"""

from __future__ import annotations

import argparse
import json
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
from cover.models.architecture import PUBLISHED_MEAN_STD
from cover.models.config import VARIANTS
from cover.models.names import HEAD

NUM_CLASSES, NUM_CLIPS, NUM_FRAMES, SIDE_PX, LEARNING_RATE = 10, 16, 4, 112, 1e-3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clips_of(step: int) -> tuple[Tensor, Tensor]:
    """uint8 frames [T, B, 3, Y, X] and labels [B]."""
    generator = torch.Generator(DEVICE).manual_seed(step)
    labels = torch.randint(NUM_CLASSES, (NUM_CLIPS,), generator=generator, device=DEVICE)
    angle = labels.view(-1, 1, 1) * (2 * torch.pi / NUM_CLASSES)
    side = torch.arange(SIDE_PX, device=DEVICE) * (2 * torch.pi / 28)
    phase = side.view(1, -1, 1) * angle.sin() + side.view(1, 1, -1) * angle.cos()
    time = torch.arange(NUM_FRAMES, device=DEVICE).view(-1, 1, 1, 1)
    grating = (phase - 0.7 * time).sin()[:, :, None].expand(-1, -1, 3, -1, -1)
    noise = torch.randn(grating.shape, generator=generator, device=DEVICE)
    return (128 + 24 * grating + 48 * noise).clamp(0, 255).to(torch.uint8), labels


def losses_of(model: nn.Module, logits: Callable[[Tensor], Tensor], steps: int, dtype: torch.dtype) -> Tensor:
    """The loss of every step."""
    model.to(DEVICE).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    losses = []
    for step in range(steps):
        frames, labels = clips_of(step)
        with torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32):
            out = logits(frames)
        loss = F.cross_entropy(out.float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="timesformer_base", choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path, help="the losses of every step")
    arguments = parser.parse_args()
    depth, width, num_heads = VARIANTS[arguments.variant]
    torch.manual_seed(0)
    config = TimesformerConfig(
        image_size=SIDE_PX, num_frames=NUM_FRAMES, hidden_size=width, num_hidden_layers=depth, layer_norm_eps=1e-6,
        num_attention_heads=num_heads, intermediate_size=4 * width, num_labels=NUM_CLASSES,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as start:
        TimesformerForVideoClassification(config).save_pretrained(start)

        def published(dtype: torch.dtype) -> Tensor:
            model = TimesformerForVideoClassification.from_pretrained(start)
            mean, std = PUBLISHED_MEAN_STD
            return losses_of(
                model,
                lambda frames: model((frames.float() / 255 - mean[0]).div(std[0]).transpose(0, 1)).logits,
                arguments.steps,
                dtype,
            )

        def ours(dtype: torch.dtype) -> Tensor:
            heads = {HEAD: NUM_CLASSES}
            model = cover.create_model(arguments.variant, num_frames=NUM_FRAMES, image_size=SIDE_PX, heads=heads)
            cover.load_weights(model, start)
            return losses_of(model, lambda frames: model({HEAD: frames})[HEAD], arguments.steps, dtype)

        curves = {
            "published, float32": published(torch.float32),
            "ours, float32": ours(torch.float32),
            "published, bf16": published(torch.bfloat16),
            "ours, bf16": ours(torch.bfloat16),
        }
    show(curves)
    if arguments.json:
        arguments.json.write_text(json.dumps({name: curve.tolist() for name, curve in curves.items()}))


def show(curves: dict[str, Tensor]) -> None:
    reference = curves["published, float32"]
    distances = {name: (curve - reference).abs() for name, curve in curves.items()}
    table = Table("run", "first loss", "last 20", "mean |difference|", "first 50", "largest")
    for name, curve in curves.items():
        apart = distances[name]
        table.add_row(name, f"{curve[0]:.5f}", f"{curve[-20:].mean():.4f}", f"{apart.mean():.2e}",
                      f"{apart[:50].mean():.2e}", f"{apart.max():.2e}")  # fmt: skip
    console = Console(width=100)
    console.print(table)
    closer = (distances["ours, bf16"] <= distances["published, bf16"]).float().mean()
    console.print(f"steps in which our bf16 is the closer one to float32: {100 * closer:.0f} %")


if __name__ == "__main__":
    main()
