"""Export of an MViT as torchvision's MViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier
from cover.models.export import INSTEAD
from cover.models.export.formats import choose_head, input_and_classes, tensors_of, write_model
from cover.models.kernels.pooling import SIDE
from cover.models.mvit.config import PATCH_KERNEL, PATCH_STRIDE, BlockShape, MViTConfig
from cover.models.mvit.formats import TORCHVISION


def export_torchvision(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write weights and arguments for torchvision's MViT, which computes equal logits for clips of this size.

    Only at sizes whose grids of queries and keys are not multiples of each other, such as 312 px, it rounds some
    relative positions up that the published code rounds down.

        arguments = json.load(open("config.json"))["arguments"]
        arguments["block_setting"] = [MSBlockConfig(**block) for block in arguments["block_setting"]]
        arguments["spatial_size"] = tuple(arguments["spatial_size"])
        model = MViT(**arguments)
        model.load_state_dict(safetensors.torch.load_file("model.safetensors"))

    Args:
        model: An MViT with a class token.
        folder: A new or empty folder.
        head: The dataset with the head to export. None if the model has only one head.

    Raises:
        CoverError: torchvision has no such model, `folder` is not empty, or the head is not clear.
    """
    config = model.config
    assert isinstance(config, MViTConfig)
    if config.images_only or not config.class_token:
        raise CoverError(f"torchvision's MViT is for videos and has a class token; {INSTEAD}")
    head = choose_head(config, head)
    write_model(folder, _settings(config, head), torchvision_tensors(model, head))


def torchvision_tensors(model: VideoClassifier, head: str) -> dict[str, Tensor]:
    """Return the tensors of an MViT by torchvision's names, and in its shapes."""
    tensors = tensors_of(model, head, TORCHVISION.theirs)
    for name, tensor in tensors.items():
        if name.startswith("pos_encoding."):
            tensors[name] = tensor[0, 0] if "class" in name else tensor[0]
    return tensors


def _settings(config: MViTConfig, head: str) -> dict[str, Any]:
    slots, side = config.patch_grid
    return {
        "class": "torchvision.models.video.mvit.MViT",
        "arguments": {
            # Rounded up to what fills the last token, because torchvision rounds down.
            "spatial_size": [side * PATCH_STRIDE[1]] * 2,
            "temporal_size": slots * PATCH_STRIDE[0],
            "block_setting": [_block_setting(shape) for shape in config.block_shapes()],
            "residual_pool": config.version == 2,
            "residual_with_cls_embed": False,
            "rel_pos_embed": config.version == 2,
            "proj_after_attn": config.widen_in == "attention",
            "num_classes": len(config.heads[head]),
        },
        **input_and_classes(config, head),
    }


def _block_setting(shape: BlockShape) -> dict[str, Any]:
    """Return the arguments of torchvision's MSBlockConfig."""
    kernel = [PATCH_KERNEL[0], SIDE, SIDE]
    return {
        "num_heads": shape.num_heads,
        "input_channels": shape.width,
        "output_channels": shape.out_width,
        "kernel_q": kernel if shape.pools_queries else [],
        "kernel_kv": kernel,
        "stride_q": [1, shape.stride, shape.stride] if shape.pools_queries else [],
        "stride_kv": [1, shape.kv_stride, shape.kv_stride],
    }
