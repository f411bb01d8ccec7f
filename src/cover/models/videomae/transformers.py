"""Export of a VideoMAE as transformers' VideoMAEForVideoClassification."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cover.models.classifier import VideoClassifier
from cover.models.export.formats import (
    choose_head,
    hidden_act,
    label_settings,
    preprocessor_config,
    tensors_of,
    write_model,
)
from cover.models.videomae.config import VideoMAEConfig
from cover.models.videomae.formats import TRANSFORMERS_FC_NORM_EPS, transformers_names

logger = logging.getLogger(__name__)


def export_transformers(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write a folder for transformers' VideoMAEForVideoClassification.from_pretrained.

    It computes equal logits, except for the epsilon of its last norm, which it fixes at 1e-5. Official weights have
    1e-6, which changes logits by about 4e-5; a warning says so.

    Args:
        model: A VideoMAE.
        folder: A new or empty folder.
        head: The dataset with the head that becomes the classifier. Its classes become the labels. None if the model
            has only one head.

    Raises:
        CoverError: `folder` is not empty, or there is no such head.
    """
    config = model.config
    assert isinstance(config, VideoMAEConfig)
    head = choose_head(config, head)
    tensors = tensors_of(model, head, transformers_names)
    if config.fc_norm_eps != TRANSFORMERS_FC_NORM_EPS:
        logger.warning(
            "transformers adds %g to the variance in the last norm, this model %g: logits may differ by about 1e-4.",
            TRANSFORMERS_FC_NORM_EPS, config.fc_norm_eps,
        )  # fmt: skip
    write_model(folder, transformers_config(config, head), tensors, preprocessor_config(config))


def transformers_config(config: VideoMAEConfig, head: str) -> dict[str, Any]:
    """Return the settings of a transformers VideoMAEConfig.

    Args:
        config: The configuration of the model.
        head: The dataset with the head that becomes the classifier.
    """
    return {
        "model_type": "videomae",
        "architectures": ["VideoMAEForVideoClassification"],
        "num_frames": max(config.num_frames, config.tubelet_size),
        "tubelet_size": config.tubelet_size,
        "image_size": config.image_size_px,
        "patch_size": config.patch_size_px,
        "num_channels": 3,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": hidden_act(config),
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "use_mean_pooling": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        **label_settings(config, head),
    }
