"""Models for other tools: the folder of transformers' TimesformerForVideoClassification, or our own without the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cover.core.atomic_files import whole_folder
from cover.core.run_files import CONFIG_FILE, WEIGHTS_FILE
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.naming import transformers_name
from cover.models.config import ModelConfig
from cover.models.timesformer.model import TimeSformer
from cover.models.timesformer.settings import PREPROCESSOR_FILE
from cover.models.weights import save_model

BILINEAR = 2
"""Pillow's number of the filter with which clips are resized in media/augment.py."""


def export_safetensors(model: TimeSformer, folder: Path) -> None:
    """Write our config.json and model.safetensors, with every head. Raises CoverError where `folder` holds files."""
    with new_folder(folder) as aside:
        save_model(model, aside)


def export_transformers(model: TimeSformer, folder: Path, head: str | None = None) -> None:
    """Write a folder for transformers' TimesformerForVideoClassification.from_pretrained, which gives equal logits.

    head: the dataset whose head becomes the classifier and whose classes become the labels; may be left out where
    there is but one. Raises CoverError where `folder` holds files or transformers cannot express the model.
    """
    head = _choose_head(model.config, head)
    _check_expressible(model.config)
    tensors = {
        transformers_name(name, head): tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("heads.") or name.startswith(f"heads.{head}.")
    }
    with new_folder(folder) as aside:
        write_json(aside / CONFIG_FILE, transformers_config(model.config, head))
        write_json(aside / PREPROCESSOR_FILE, preprocessor_config(model.config))
        save_file(tensors, aside / WEIGHTS_FILE, metadata={"format": "pt"})


def transformers_config(config: ModelConfig, head: str) -> dict[str, Any]:
    """The settings of a TimesformerConfig.

    Drop path is left out: transformers drops single tubes and frames, which is another regularisation. A space-only
    model of transformers answers every frame by itself, so it is given clips of one frame.
    """
    names = config.heads[head]
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
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0,
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def preprocessor_config(config: ModelConfig) -> dict[str, Any]:
    """The settings of the image processor that transformers uses for TimeSformer: our centre crop and normalisation."""
    size_px = config.image_size_px
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size_px},
        "resample": BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": size_px, "width": size_px},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when all is written. Raises CoverError where files are already."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CoverError(f"{folder} exists already; name a new folder")
    with whole_folder(folder) as aside:
        yield aside


def write_json(path: Path, values: dict[str, Any]) -> None:
    """JSON as people read it."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _choose_head(config: ModelConfig, head: str | None) -> str:
    names = list(config.heads)
    if head is None and len(names) == 1:
        return names[0]
    if head not in names:
        given = "no head is named" if head is None else f"there is no head {head!r}"
        raise CheckpointError(f"{given}, and transformers takes one; give --head, one of {', '.join(names)}")
    return head


def _check_expressible(config: ModelConfig) -> None:
    if config.attention == "divided" and config.image_temporal == "skip" and config.num_frames == 1:
        raise CheckpointError(
            'image_temporal = "skip" at num_frames 1 is unknown to transformers; export with --to safetensors'
        )
