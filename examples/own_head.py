"""Train a head and a loss of your own on a trained backbone: here, embeddings in which clips of a class lie together.

python own_head.py runs/cotrain/checkpoints/step-1000 manifests/clips-train.arrow
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cover

TEMPERATURE = 0.1


class Embedder(nn.Module):
    """A backbone of cover with a projection behind it."""

    def __init__(self, model: cover.VideoClassifier, width: int = 64) -> None:
        super().__init__()
        self.model = model
        self.projection = nn.Linear(model.backbone.width, width)

    def forward(self, frames: Tensor) -> Tensor:
        """Unit vectors [B, width] of clips uint8 [T, B, 3, Y, X]."""
        return F.normalize(self.projection(self.model.features(frames)), dim=-1)


def contrastive_loss(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020) of embeddings [B, D] with labels [B]."""
    itself = torch.eye(len(labels), dtype=torch.bool)
    scores = (embeddings @ embeddings.T / TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(-1)
    same = (labels[:, None] == labels) & ~itself
    return -scores[same].mean() if same.any() else embeddings.sum() * 0


def main(checkpoint: str, manifest: str) -> None:
    """Train one epoch."""
    embedder = Embedder(cover.load_model(Path(checkpoint))).train()
    config = embedder.model.config
    mixture = cover.Mixture(
        [cover.Dataset(manifest, name="clips", num_frames=config.num_frames)],
        batch_size=8,
        image_size=config.image_size_px,
    )
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=1e-4)
    for batch in mixture:
        clips = batch["clips"]
        readable = clips.labels >= 0  # a clip that could not be decoded has the label -1
        loss = contrastive_loss(embedder(clips.frames)[readable], clips.labels[readable])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {batch.step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
