"""A model as a fixed graph of tensor operations, for files that run without cover.

The input `frames` is uint8 [B, T, C, Y, X], for any B. The outputs are the logits [B, classes] of each head, under its
name. The graph normalises the frames. T, Y and X are fixed when the graph is made, and embeddings are resized then.
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
from cover.models.classifier import HEADS, POOLER, VideoClassifier, empty_model
from cover.models.config import ModelConfig
from cover.models.packing import Group, PackedClips
from cover.models.pooler import features
from cover.models.weights import load_exactly

INPUT = "frames"
MAX_DIFFERENCE = 1e-4
"""The largest difference allowed between the logits of a model and of its graph."""

Answer = Callable[[Tensor], Mapping[str, Tensor]]
"""frames uint8 [B,T,C,Y,X] -> {head: logits [B,classes]}."""


def describe_graph(config: ModelConfig) -> dict[str, Any]:
    """Describe input and outputs for the programs that run the graph.

    Args:
        config: The configuration of the model.

    Returns:
        {"input": {…}, "heads": {head: class names in label order}, "probabilities": {head: function of its logits}},
        for JSON.
    """
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
        "probabilities": {name: config.probability_function(name) for name in config.heads},
    }


def fit(
    model: VideoClassifier, *, head: str | None = None, num_frames: int | None = None, image_size_px: int | None = None
) -> VideoClassifier:
    """Copy a model for clips of a fixed length and size. The copy computes the same logits.

    Args:
        model: The model.
        head: The only head of the copy; None for all heads.
        num_frames: Frames of a clip; None for the model's number.
        image_size_px: Side of a frame; None for the model's size.

    Returns:
        The copy, on the CPU and in evaluation mode.

    Raises:
        CoverError: There is no such head, or the size does not fit the model.
    """
    heads = model.config.heads
    if head is not None and head not in heads:
        raise CheckpointError(f"there is no head {head!r}; give --head, one of {', '.join(heads)}")
    config = replace(
        model.config.with_heads(heads if head is None else [head]),
        num_frames=num_frames or model.config.num_frames,
        image_size_px=image_size_px or model.config.image_size_px,
    )
    fitted = empty_model(config)
    source = model.state_dict()
    tensors = {
        name: source[name].cpu()
        if name.startswith((POOLER, HEADS))
        else fitted.backbone.resized(name, source[name].cpu(), target, "smooth", model.config)
        for name, target in fitted.state_dict().items()
    }
    load_exactly(fitted, tensors, Path("the model"))
    fitted.normalise_as(config)
    return fitted.eval()


class _Graph(nn.Module):
    """A model with the input and outputs of the graph."""

    def __init__(self, model: VideoClassifier) -> None:
        super().__init__()
        # A list of heads, because torch.export looks modules up as attributes, and a head may be called "train".
        self.names, self.heads = tuple(model.heads), nn.ModuleList(model.heads.values())
        self.backbone, self.pooler = model.backbone, model.pooler
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        # Like model.predict, but without random seeds, which have no effect in evaluation mode.
        num_clips, num_frames = frames.shape[:2]
        no_seeds = torch.zeros(0, dtype=torch.int64)
        groups = (Group(num_frames, num_clips),)
        packed = PackedClips(frames.transpose(0, 1).flatten(0, 1), groups, no_seeds, self.mean, self.std)
        features_BD = features(self.backbone, self.pooler, packed)
        return {name: head(features_BD) for name, head in zip(self.names, self.heads, strict=True)}


def trace(fitted: VideoClassifier) -> ExportedProgram:
    """Trace the graph of a model, for any batch size.

    Args:
        fitted: A model from `fit`.
    """
    example = _random_clips(fitted.config, num_clips=2)
    any_batch = {INPUT: {0: Dim("batch", min=1)}}
    # Strict, because otherwise len() of a tensor becomes a constant.
    return torch.export.export(_Graph(fitted).eval(), (example,), dynamic_shapes=any_batch, strict=True)


def check_graph(fitted: VideoClassifier, answer: Answer) -> None:
    """Check that a graph computes the logits of its model, for batch sizes that were not traced.

    Args:
        fitted: The model.
        answer: Runs the graph.

    Raises:
        CoverError: The logits differ by more than MAX_DIFFERENCE.
    """
    for num_clips in (1, 3):
        frames = _random_clips(fitted.config, num_clips)
        with torch.inference_mode():
            expected, found = fitted.predict(frames.transpose(0, 1)), answer(frames)
        difference = max(float((found[name] - logits).abs().max()) for name, logits in expected.items())
        if not difference <= MAX_DIFFERENCE:
            raise CoverError(
                f"exported logits differ from the model's by {difference:.1e}, but rounding explains only "
                f"{MAX_DIFFERENCE:.0e}, so nothing is written; use another --to, and report this"
            )


def _random_clips(config: ModelConfig, num_clips: int) -> Tensor:
    shape = (num_clips, config.num_frames, 3, config.image_size_px, config.image_size_px)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
