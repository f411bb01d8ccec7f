"""What summing, averaging or pooling the losses of datasets does: four copies of one dataset, trained together.

    python benchmarks/loss_terms.py                # 40 steps of 32 clips of a tiny model, 3 seeds, on a CPU

Every way starts from the same backbone and takes as many clips in a step. Alone, all clips belong to one copy and train
one head; otherwise each copy has a quarter of the clips and a head of its own. The loss shown is the cross-entropy of a
copy's clips in the last ten steps, which is what each head has learned.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import cover
from cover.core.batch import ClipBatch, MixedBatch
from cover.mixture.schedule import Reduction
from results import write_results

NUM_CLASSES, NUM_CLIPS, NUM_COPIES, NUM_FRAMES, SIDE_PX, NUM_LAST = 8, 32, 4, 2, 32, 10
WAYS: dict[str, tuple[int, float, Reduction]] = {
    "alone": (1, 1.0, "dataset_mean"),
    "sum": (NUM_COPIES, 1.0, "dataset_mean"),
    "average": (NUM_COPIES, 1 / NUM_COPIES, "dataset_mean"),
    "pooled": (NUM_COPIES, 1.0, "pooled"),
}
"""The number of copies, the weight of each one's loss, and the reduction."""
RATES = {"sgd": 0.01, "adamw": 1e-3}


def batch_of(step: int, seed: int, num_copies: int) -> MixedBatch:
    """The clips of a step, gratings of eight directions under noise, dealt out to the copies."""
    generator = torch.Generator().manual_seed(10**6 * seed + step)
    labels = torch.randint(NUM_CLASSES, (NUM_CLIPS,), generator=generator)
    angle = labels.view(-1, 1, 1) * (torch.pi / NUM_CLASSES)
    side = torch.arange(SIDE_PX) * (2 * torch.pi / 8)
    grating = (side.view(1, -1, 1) * angle.sin() + side.view(1, 1, -1) * angle.cos()).sin()
    noise = torch.randn(NUM_FRAMES, NUM_CLIPS, 3, SIDE_PX, SIDE_PX, generator=generator)
    frames = (128 + 48 * grating[:, None] + 24 * noise).clamp(0, 255).to(torch.uint8)
    clips = {
        name: ClipBatch(name, frames[:, number::num_copies].contiguous(), labels[number::num_copies], ids, ids_tensor)
        for number, name in enumerate(names_of(num_copies))
        for ids in [("",) * (NUM_CLIPS // num_copies)]
        for ids_tensor in [torch.zeros(len(ids), dtype=torch.int64)]
    }
    return MixedBatch(clips, {name: part.num_clips for name, part in clips.items()}, step)


def names_of(num_copies: int) -> list[str]:
    """The names of the copies."""
    return [f"copy{number}" for number in range(num_copies)]


def trained(way: str, optimizer: str, num_steps: int, seed: int) -> tuple[float, float]:
    """Train one way.

    Returns:
        The mean cross-entropy of a clip in the last steps, and the norm of the backbone's gradient in the first one.
    """
    num_copies, weight, reduction = WAYS[way]
    torch.manual_seed(seed)
    model = cover.create_model(
        "timesformer_tiny", depth=2, width=48, num_heads=3, num_frames=NUM_FRAMES, image_size=SIDE_PX, patch_size=8,
        drop_path_rate=0.0, heads=dict.fromkeys(names_of(num_copies), NUM_CLASSES),
    ).train()  # fmt: skip
    first_head = {key: tensor.clone() for key, tensor in model.heads["copy0"].state_dict().items()}
    for head in model.heads.values():
        head.load_state_dict(first_head)  # so that all ways start with the same loss
    rate = RATES[optimizer]
    learner: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    )
    norm, losses = 0.0, []
    for step in range(num_steps):
        batch = batch_of(step, seed, num_copies)
        logits = model(batch)
        cover.loss(logits, batch, dict.fromkeys(batch, weight), reduction).backward()
        if step == 0:
            norm = norm_of([parameter.grad for parameter in model.backbone.parameters() if parameter.grad is not None])
        learner.step()
        learner.zero_grad()
        mean = cover.loss(logits, batch, reduction="pooled")
        losses.append(float(mean.detach()))
    return sum(losses[-NUM_LAST:]) / NUM_LAST, norm


def norm_of(gradients: list[Tensor]) -> float:
    """The norm of all gradients together."""
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = Table("optimizer", "way", "backbone's first gradient", "weight of a clip", "loss at the end")
    ratios, figures = {}, {}
    for optimizer in RATES:
        results = {
            way: torch.tensor([trained(way, optimizer, arguments.steps, seed) for seed in range(arguments.seeds)])
            for way in WAYS
        }
        alone = float(results["alone"][:, 1].mean())
        for way, (num_copies, weight, reduction) in WAYS.items():
            loss, norm = results[way].mean(0).tolist()
            clip = weight / (NUM_CLIPS if reduction == "pooled" else NUM_CLIPS // num_copies)
            table.add_row(optimizer, way, f"{norm / alone:.2f} x", f"1/{1 / clip:g}", f"{loss:.3f}")
            ratios[f"{optimizer}, {way}: backbone's gradient, alone = 1"] = norm / alone
            figures[f"{optimizer}, {way}"] = loss
    Console().print(table)
    write_results(arguments.json, ratios, losses=figures)


if __name__ == "__main__":
    main()
