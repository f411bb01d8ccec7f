"""A model as a fixed graph of tensor operations, for files that run without cover.

It takes frames uint8 [B, T, C, Y, X] named `frames`, for any B, and gives the logits [B, classes] of each head by its
name. Normalisation is inside. T, Y and X are fixed when the graph is made, and embeddings are resized then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cover.errors import CheckpointError, CoverError
from cover.models.classifier import VideoClassifier
from cover.models.config import ModelConfig
from cover.models.packing import Group, PackedClips
from cover.models.weights import load_exactly

INPUT = "frames"
MAX_DIFFERENCE = 1e-4
"""Between the logits of a model and those of its graph."""

Answer = Callable[[Tensor], Mapping[str, Tensor]]
"""frames uint8 [B,T,C,Y,X] -> {head: logits [B,classes]}."""


def describe_graph(config: ModelConfig) -> dict[str, Any]:
    """What goes in and what comes out, for programs: {"input": {…}, "heads": {head: class names in label order}}."""
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "BTCYX",
            "channels": "RGB",
            "num_frames": config.num_frames,
            "image_size_px": config.image_size_px,
            "sampling": "the middles of num_frames equal segments of the video",
            "resize": "short side to image_size_px, then the centre crop",
        },
        "heads": {name: list(names) for name, names in config.heads.items()},
    }


def fit(
    model: VideoClassifier, *, head: str | None = None, num_frames: int | None = None, image_size_px: int | None = None
) -> VideoClassifier:
    """A copy of the model for clips of that length and size, with every head or one; on the CPU, in evaluation mode.

    It answers as the model does. Raises CoverError for a head that is not there, or a size that does not fit.
    """
    heads = model.config.heads
    if head is not None and head not in heads:
        raise CheckpointError(f"there is no head {head!r}; give --head, one of {', '.join(heads)}")
    config = replace(
        model.config,
        heads=heads if head is None else {head: heads[head]},
        num_frames=num_frames or model.config.num_frames,
        image_size_px=image_size_px or model.config.image_size_px,
    )
    with torch.device("meta"):
        fitted = VideoClassifier(config)
    source = model.state_dict()
    tensors = {
        name: model.backbone.resized(name, source[name].cpu(), target, "smooth")
        for name, target in fitted.state_dict().items()
    }
    load_exactly(fitted, tensors, Path("the model"))
    fitted.normalise_as(config)
    return fitted.eval()


class _Graph(nn.Module):
    """The signature of the file."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        # Heads in a list: torch.export looks modules up as attributes, which a head called "train" is not.
        self.names, self.heads = tuple(model.heads), nn.ModuleList(model.heads.values())
        self.backbone = model.backbone
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        # As model.predict, but without its random seeds, which mean nothing in evaluation mode.
        num_clips, num_frames = frames.shape[:2]
        no_seeds = torch.zeros(0, dtype=torch.int64)
        groups = (Group(num_frames, num_clips),)
        packed = PackedClips(frames.transpose(0, 1).flatten(0, 1), groups, {}, no_seeds, self.mean, self.std)
        features_BD = self.backbone(packed)
        return {name: head(features_BD) for name, head in zip(self.names, self.heads, strict=True)}


def trace(fitted: VideoClassifier) -> ExportedProgram:
    """The graph of a model that `fit` has made."""
    example = _random_clips(fitted.config, num_clips=2)
    any_batch = {INPUT: {0: Dim("batch", min=1)}}
    # Strict, because without it len() of a tensor is taken for a constant.
    return torch.export.export(_Graph(fitted).eval(), (example,), dynamic_shapes=any_batch, strict=True)


def check_graph(fitted: VideoClassifier, answer: Answer) -> None:
    """Raise CoverError unless the graph's logits are the model's, in batches of other sizes than the traced one."""
    for num_clips in (1, 3):
        frames = _random_clips(fitted.config, num_clips)
        with torch.inference_mode():
            expected, found = fitted.predict(frames.transpose(0, 1)), answer(frames)
        difference = max(float((found[name] - logits).abs().max()) for name, logits in expected.items())
        if not difference <= MAX_DIFFERENCE:
            raise CoverError(
                f"exported logits differ from the model's by {difference:.1e}, rounding explains {MAX_DIFFERENCE:.0e}; "
                "nothing is written: take another --to, and report this"
            )


def _random_clips(config: ModelConfig, num_clips: int) -> Tensor:
    shape = (num_clips, config.num_frames, 3, config.image_size_px, config.image_size_px)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
