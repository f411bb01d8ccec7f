"""Export of a TimeSformer as transformers' TimesformerForVideoClassification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cover.errors import CheckpointError
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
from cover.models.timesformer.config import TimeSformerConfig
from cover.models.timesformer.formats import transformers_names


def export_transformers(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write a folder for transformers' TimesformerForVideoClassification.from_pretrained, which computes equal logits.

    Args:
        model: A TimeSformer.
        folder: A new or empty folder.
        head: The dataset with the head that becomes the classifier. Its classes become the labels. None if the model
            has only one head.

    Raises:
        CoverError: `folder` is not empty, or transformers cannot express the model.
    """
    config = model.config
    assert isinstance(config, TimeSformerConfig)
    head = choose_head(config, head)
    _check_expressible(config)
    tensors = tensors_of(model, head, transformers_names)
    write_model(folder, transformers_config(config, head), tensors, preprocessor_config(config))


def transformers_config(config: TimeSformerConfig, head: str) -> dict[str, Any]:
    """Return the settings of a TimesformerConfig.

    Drop path is left out, because transformers drops single tubes and frames, which is another regularisation. A
    space-only model of transformers classifies each frame by itself, so its clips have one frame.

    Args:
        config: The configuration of the model.
        head: The dataset with the head that becomes the classifier.
    """
    kind = "space_only" if config.attention == "space_only" else f"{config.attention}_space_time"
    return {
        "model_type": "timesformer",
        "architectures": ["TimesformerForVideoClassification"],
        "attention_type": kind,
        "num_frames": 1 if config.attention == "space_only" else config.num_frames,
        "image_size": config.image_size_px,
        "patch_size": config.patch_size_px,
        "num_channels": 3,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": 4 * config.width,
        "hidden_act": hidden_act(config),
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0,
        **label_settings(config, head),
    }


def _check_expressible(config: TimeSformerConfig) -> None:
    if config.attention == "divided" and config.image_temporal != "attend" and config.num_frames == 1:
        raise CheckpointError(
            f'image_temporal = "{config.image_temporal}" at num_frames 1 is unknown to transformers; {INSTEAD}'
        )
