"""Export of a V-JEPA 2 as transformers' VJEPA2ForVideoClassification."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier
from cover.models.config import PoolerConfig
from cover.models.export import INSTEAD
from cover.models.export.formats import choose_head, label_settings, preprocessor_config, tensors_of, write_model
from cover.models.vjepa2.config import VJEPA2Config
from cover.models.vjepa2.formats import MOST_NAMED_BLOCKS, transformers_names

logger = logging.getLogger(__name__)


def export_transformers(model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write a folder for transformers' VJEPA2ForVideoClassification.from_pretrained.

    It computes equal logits for clips of the exported size, except for the epsilon of the pooler: transformers has one
    for all norms. A warning says so. Its predictor, which classification does not use, starts fresh.

    Args:
        model: A V-JEPA 2 with an attentive head.
        folder: A new or empty folder.
        head: The dataset with the head that becomes the classifier. Its classes become the labels. None if the model
            has only one head.

    Raises:
        CoverError: `folder` is not empty, there is no such head, or transformers cannot express the model.
    """
    config = model.config
    assert isinstance(config, VJEPA2Config)
    pooler = _expressible(config)
    head = choose_head(config, head)
    tensors = tensors_of(model, head, transformers_names)
    if pooler.eps != config.layer_norm_eps:
        logger.warning(
            "transformers adds %g to the variance in all norms, this model %g in the pooler: logits may differ by "
            "about 1e-4.",
            config.layer_norm_eps, pooler.eps,
        )  # fmt: skip
    write_model(folder, transformers_config(config, head), tensors, preprocessor_config(config))


def _expressible(config: VJEPA2Config) -> PoolerConfig:
    """Check that transformers can express a model. Returns its pooler."""
    if config.pooler is None:
        raise CoverError(f"transformers' V-JEPA 2 has an attentive head, this model a linear one; {INSTEAD}")
    if config.version != "2":
        raise CoverError(f"transformers has V-JEPA 2, and this is V-JEPA {config.version}; {INSTEAD}")
    if config.pooler.num_heads != config.num_heads:
        raise CoverError(
            f"in transformers, pooler and encoder have the same number of attention heads, in this model "
            f"{config.pooler.num_heads} and {config.num_heads}; {INSTEAD}"
        )
    if config.pooler.depth > MOST_NAMED_BLOCKS:
        raise CoverError(f"the pooler has {config.pooler.depth} blocks, more than {MOST_NAMED_BLOCKS}; {INSTEAD}")
    return config.pooler


def transformers_config(config: VJEPA2Config, head: str) -> dict[str, Any]:
    """Return the settings of a transformers VJEPA2Config.

    Args:
        config: The configuration of the model, with a pooler.
        head: The dataset with the head that becomes the classifier.
    """
    assert config.pooler is not None
    return {
        "model_type": "vjepa2",
        "architectures": ["VJEPA2ForVideoClassification"],
        "frames_per_clip": max(config.num_frames, config.tubelet_size),
        "tubelet_size": config.tubelet_size,
        "crop_size": config.image_size_px,
        "patch_size": config.patch_size_px,
        "in_chans": 3,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "mlp_ratio": config.mlp_width / config.width,
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "num_pooler_layers": config.pooler.depth,
        **label_settings(config, head),
    }
