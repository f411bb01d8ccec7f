"""The folders that exports write, for this library and for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from cover.core.atomic_files import whole_folder
from cover.core.run_files import CONFIG_FILE, WEIGHTS_FILE
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.config_files import PREPROCESSOR_FILE
from cover.models.checkpoints.naming import HEAD
from cover.models.classifier import VideoClassifier, head_of, save_model
from cover.models.config import ModelConfig, ViTConfig
from cover.models.export import INSTEAD
from cover.models.family import family_of
from cover.models.weights import save_tensors

BILINEAR = 2
"""Pillow's number of the filter that media/augment.py resizes clips with."""


def export_safetensors(model: VideoClassifier, folder: Path) -> None:
    """Write our config.json and model.safetensors, with every head.

    Args:
        model: The model.
        folder: A new or empty folder.

    Raises:
        CoverError: `folder` is not empty.
    """
    with new_folder(folder) as aside:
        save_model(model, aside)


def export_for(library: str, model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write a folder that another library loads as one of its own models.

    Args:
        library: The library, such as "transformers".
        model: The model.
        folder: A new or empty folder.
        head: The dataset with the head that becomes the classifier. None if the model has only one head.

    Raises:
        CoverError: `folder` is not empty, or the library cannot express the model.
    """
    family = family_of(model.config)
    exporters = family.exporters
    if model.config.pooler is not None and library not in family.attentive_exporters:
        raise CoverError(f"{library} has no {family.name} with an attentive head; {INSTEAD}")
    if library not in exporters:
        raise CoverError(f"{library} has no model of the family {model.config.family}; {INSTEAD}")
    exporters[library](model, folder, head)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Create a folder under a temporary name, and rename it when the `with` block ends without an error.

    Args:
        folder: A new or empty folder.

    Yields:
        The folder to write into.

    Raises:
        CoverError: `folder` is not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CoverError(f"{folder} exists already; name a new folder")
    with whole_folder(folder) as aside:
        yield aside


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON, with characters other than ASCII as they are."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_model(
    folder: Path, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], processor: Mapping[str, Any] | None = None
) -> None:
    """Write a folder as other libraries read it: config.json, model.safetensors, and the image processor's settings.

    Args:
        folder: A new or empty folder.
        settings: The contents of config.json.
        tensors: The weights by the library's names.
        processor: The contents of preprocessor_config.json, which transformers reads.

    Raises:
        CoverError: `folder` is not empty.
    """
    with new_folder(folder) as aside:
        write_json(aside / CONFIG_FILE, settings)
        if processor is not None:
            write_json(aside / PREPROCESSOR_FILE, processor)
        save_tensors(tensors, aside / WEIGHTS_FILE, {"format": "pt"})


def tensors_of(model: VideoClassifier, head: str, theirs: Callable[[str], Sequence[str]]) -> dict[str, Tensor]:
    """Return the tensors of the backbone and of one head, by another library's names.

    Args:
        model: The model.
        head: The dataset with the head.
        theirs: Our name, with HEAD in place of the dataset → the library's; if there are several, each gets a part.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if head_of(name) not in ("", head):
            continue
        first, *others = theirs(name.replace(f"heads.{head}.", f"heads.{HEAD}."))
        parts = [part.clone() for part in tensor.chunk(1 + len(others))] if others else [tensor.contiguous()]
        tensors |= dict(zip([first, *others], parts, strict=True))
    return tensors


def choose_head(config: ModelConfig, head: str | None) -> str:
    """Choose the head for a library with one head per model.

    Args:
        config: The configuration of the model.
        head: The dataset of the head. None if the model has only one head.

    Raises:
        CheckpointError: There is no such head, or `head` is None and the model has several heads or none.
    """
    names = list(config.heads)
    if head is None and len(names) == 1:
        return names[0]
    if head not in names:
        given = "no head is named" if head is None else f"there is no head {head!r}"
        raise CheckpointError(f"{given}, and the format takes one; give --head, one of {', '.join(names)}")
    return head


def label_settings(config: ModelConfig, head: str) -> dict[str, Any]:
    """Return the settings of transformers' classifiers that belong to a head.

    Args:
        config: The configuration of the model.
        head: The dataset with the head that becomes the classifier.
    """
    settings: dict[str, Any] = {
        "id2label": {str(index): name for index, name in enumerate(config.heads[head])},
        "label2id": {name: index for index, name in enumerate(config.heads[head])},
    }
    # Pipelines then take sigmoids.
    return settings | ({"problem_type": "multi_label_classification"} if head in config.sigmoid_heads else {})


def input_and_classes(config: ModelConfig, head: str) -> dict[str, Any]:
    """Return what a user of exported weights must know beside the architecture: input, classes, and probabilities."""
    return {
        "num_frames": config.num_frames,
        "image_size": config.image_size_px,
        "mean": list(config.mean),
        "std": list(config.std),
        "classes": list(config.heads[head]),
        "probabilities": config.probability_function(head),
    }


def hidden_act(config: ViTConfig) -> str:
    """Return transformers' name of a model's activation.

    Args:
        config: The configuration of the model.

    Raises:
        CheckpointError: The model has a norm before its blocks, which transformers' video models lack.
    """
    if config.norm_pre:
        raise CheckpointError(
            f"transformers' {config.family} has no norm between embeddings and blocks, and this model has one, from "
            f"CLIP; {INSTEAD}"
        )
    return {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}[config.activation or "gelu"]


def preprocessor_config(config: ModelConfig) -> dict[str, Any]:
    """Return the settings of transformers' image processor for videos: our centre crop and normalisation."""
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
