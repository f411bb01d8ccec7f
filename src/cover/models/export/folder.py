"""Folders that an export writes, and which library it is for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cover.core.atomic_files import whole_folder
from cover.errors import CheckpointError, CoverError
from cover.models.classifier import VideoClassifier, save_model
from cover.models.config import ModelConfig
from cover.models.family import family_of


def export_safetensors(model: VideoClassifier, folder: Path) -> None:
    """Write our config.json and model.safetensors, with every head. Raises CoverError where `folder` holds files."""
    with new_folder(folder) as aside:
        save_model(model, aside)


def export_for(library: str, model: VideoClassifier, folder: Path, head: str | None = None) -> None:
    """Write what another library loads as a model of its own.

    Args:
        library: Such as "transformers".
        model: Of a family that the library has.
        folder: A new one.
        head: The dataset whose head becomes the classifier; None where there is only one.

    Raises:
        CoverError: `folder` holds files, or the library cannot express the model.
    """
    exporters = family_of(model.config).exporters
    if library not in exporters:
        raise CoverError(
            f"{library} has no model of the family {model.config.family}; export with --to safetensors, onnx or torch"
        )
    exporters[library](model, folder, head)


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


def choose_head(config: ModelConfig, head: str | None) -> str:
    """The head for a library that takes one. Raises CheckpointError where none or an unknown one is named."""
    names = list(config.heads)
    if head is None and len(names) == 1:
        return names[0]
    if head not in names:
        given = "no head is named" if head is None else f"there is no head {head!r}"
        raise CheckpointError(f"{given}, and transformers takes one; give --head, one of {', '.join(names)}")
    return head
