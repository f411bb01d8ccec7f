"""Export of a joint ViViT (model 1) as transformers' VivitForVideoClassification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier
from cover.models.export import INSTEAD
from cover.models.export.formats import (
    choose_head,
    hidden_act,
    label_settings,
    preprocessor_config,
    tensors_of,
    write_model,
)
from cover.models.vivit.config import ViViTConfig
from cover.models.vivit.formats import transformers_names


def export_transformers(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write a folder for transformers' VivitForVideoClassification.from_pretrained. It computes equal logits.

    Args:
        model: A joint ViViT.
        folder: A new or empty folder.
        head: The dataset with the head that becomes the classifier. Its classes become the labels. None if the model
            has only one head.

    Raises:
        CoverError: The model is not joint, `folder` is not empty, or there is no such head.
    """
    config = model.config
    assert isinstance(config, ViViTConfig)
    if config.attention != "joint":
        raise CoverError(
            f"transformers has only the joint ViViT (model 1), and this one has attention {config.attention}; "
            + INSTEAD
        )
    head = choose_head(config, head)
    tensors = tensors_of(model, head, transformers_names)
    processor = preprocessor_config(config) | {"image_processor_type": "VivitImageProcessor", "offset": False}
    write_model(folder, transformers_config(config, head), tensors, processor)


def transformers_config(config: ViViTConfig, head: str) -> dict[str, Any]:
    """Return the settings of a transformers VivitConfig.

    Args:
        config: The configuration of the model.
        head: The dataset with the head that becomes the classifier.
    """
    return {
        "model_type": "vivit",
        "architectures": ["VivitForVideoClassification"],
        "num_frames": max(config.num_frames, config.tubelet_size),
        "tubelet_size": [config.tubelet_size, config.patch_size_px, config.patch_size_px],
        "image_size": config.image_size_px,
        "num_channels": 3,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": hidden_act(config),
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **label_settings(config, head),
    }
