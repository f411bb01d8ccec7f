"""Export of a Video Swin as torchvision's SwinTransformer3d."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cover.models.classifier import VideoClassifier
from cover.models.export.formats import choose_head, input_and_classes, tensors_of, write_model
from cover.models.kernels.relative_bias import Size, plain_expand
from cover.models.video_swin.config import TUBELET, VideoSwinConfig
from cover.models.video_swin.formats import TORCHVISION
from cover.models.video_swin.model import BIAS_TABLE


def export_torchvision(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write weights and arguments for torchvision's SwinTransformer3d, which computes equal logits.

    For frames of fewer than 224 px (7 · 32) its relative positions are wrong, so its logits differ there.

        settings = json.load(open("config.json"))
        model = SwinTransformer3d(**settings["arguments"])
        model.load_state_dict(safetensors.torch.load_file("model.safetensors"))

    Args:
        model: A Video Swin.
        folder: A new or empty folder.
        head: The dataset with the head to export. None if the model has only one head.

    Raises:
        CoverError: `folder` is not empty, or the head is not clear.
    """
    config = model.config
    assert isinstance(config, VideoSwinConfig)
    head = choose_head(config, head)
    write_model(folder, _settings(config, head), torchvision_tensors(model, head))


def torchvision_tensors(model: VideoClassifier, head: str) -> dict[str, Tensor]:
    """Return the tensors of a Video Swin by torchvision's names, with the indices that it keeps beside the weights."""
    config = model.config
    assert isinstance(config, VideoSwinConfig)
    index_LL = relative_position_index(config.window)
    tensors = tensors_of(model, head, TORCHVISION.theirs)
    tables = [name for name in tensors if name.endswith(BIAS_TABLE)]
    for name in tables:
        tensors[name.replace(BIAS_TABLE, "relative_position_index")] = index_LL.clone()
    return tensors


def relative_position_index(window: Size) -> Tensor:
    """Return the row of a bias table for each pair of tokens in a window, int64 [L, L]: query, key."""
    rows = torch.arange(prod(2 * length - 1 for length in window))
    return plain_expand(rows[:, None], window, window)[0].contiguous()


def _settings(config: VideoSwinConfig, head: str) -> dict[str, Any]:
    return {
        "class": "torchvision.models.video.swin_transformer.SwinTransformer3d",
        "arguments": {
            "patch_size": list(TUBELET),
            "embed_dim": config.width,
            "depths": list(config.depths),
            "num_heads": list(config.num_heads),
            "window_size": list(config.window),
            "num_classes": len(config.heads[head]),
        },
        **input_and_classes(config, head),
    }
