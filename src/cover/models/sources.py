"""Where weights come from: files of several code bases, recognised by content and seen as one of our models.

Our own are a run, a checkpoint or an export. Each family lists the formats of others that it takes over.

Opening reads names, shapes and settings only. The whole architecture must be there, and nothing is guessed: a source
that lacks a tensor, or has a tensor or a setting that would change the features and that ours have no place for, is
refused. What a source does not state is named (`Source.not_stated`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cover.config.families import family_names
from cover.core.run_files import LATEST, WEIGHTS_FILE, find_checkpoint
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.naming import OURS
from cover.models.checkpoints.settings import read_model_type
from cover.models.checkpoints.tensor_files import TensorFile, brief, open_one_file, open_tensors
from cover.models.checkpoints.views import Candidate, View, WeightFormat, choose, find_candidates
from cover.models.classifier import VideoClassifier
from cover.models.config import ModelConfig
from cover.models.family import backbone_family
from cover.models.weights import MODEL_TYPE, check_numbers, read_config

HUB = "hf://"
OWN_FORMAT = "cover"


@dataclass(frozen=True)
class Source:
    """Weights on disk, seen as a model of ours.

    config: architecture, heads and normalisation as far as the source tells; its one nameless head is called "head".
    not_stated: fields of config that the source says nothing about (`read_architecture` tells what they hold then).
    shapes: our names of its tensors, and their shapes. unused: the file's names of tensors without a place in ours.
    taken, others: of a file with several models, the key of this one, and those of the others; `#key` chooses.
    origin: the code base, for people.
    """

    path: Path
    format: str
    config: ModelConfig
    shapes: Mapping[str, tuple[int, ...]]
    unused: tuple[str, ...]
    view: View
    not_stated: frozenset[str] = frozenset()
    taken: str = ""
    others: tuple[str, ...] = ()
    origin: str = OWN_FORMAT

    @property
    def choice(self) -> str:
        """Which of several models was taken, and how to take another."""
        others = " or ".join(f"#{key}" for key in self.others)
        return (
            f"{self.taken or 'the one at the top'}, of several in the file; for another, write {others} after its path"
        )

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, by our name, in our layout. Raises CheckpointError where the file is damaged."""
        try:
            return self.view.read(name)
        except Exception as error:  # what is raised depends on the format and on what is damaged
            raise CheckpointError(f"{self.path}: {name} cannot be read ({brief(error)}); take another copy") from None


def open_source(source: str | Path) -> Source:
    """Recognise a file or folder of weights.

    Args:
        source: A path, or "hf://owner/name" for a repository of the Hugging Face hub, the only case in which anything
            is downloaded. "#key" behind either chooses one of several models in a file: "file.pth#teacher".

    Raises:
        CheckpointError: It is damaged, unknown, not of this architecture, or has no model under that key.
    """
    where, key = split_key(source)
    path = _download(where) if where.startswith(HUB) else Path(where)
    path = find_checkpoint(path) if os.path.lexists(path / LATEST) else path
    folder = path if os.path.isdir(path) else path.parent
    if path in (folder, folder / WEIGHTS_FILE) and _is_ours(folder):
        models = [Candidate("", View(open_one_file(folder / WEIGHTS_FILE), OURS))]
    elif not (models := find_candidates(files := open_tensors(path), known_formats())):
        raise CheckpointError(f"{path} {_unknown(folder, files)}; what can be read is {readable()}")
    model = choose(path, models, key)
    config, not_stated = _architecture(path, folder, model)
    shapes = _shapes(config)
    others = [other for other in models if other is not model]
    opened = Source(
        path=path,
        format=model.format.name if model.format else OWN_FORMAT,
        origin=model.format.origin if model.format else OWN_FORMAT,
        config=config,
        shapes=shapes,
        unused=tuple(sorted(model.unused(shapes, others))),
        view=model.view,
        not_stated=not_stated,
        taken=model.key,
        others=tuple(other.key for other in others if other.is_complete),
    )
    _check(opened)
    return opened


def known_formats() -> list[WeightFormat]:
    """The formats that all families can take over."""
    return [format for name in family_names() for format in backbone_family(name).formats]


def readable() -> str:
    """What can be read, for messages."""
    return ", ".join(["a model of cover", *dict.fromkeys(format.origin for format in known_formats())])


def _is_ours(folder: Path) -> bool:
    return (read_model_type(folder) or "").startswith(MODEL_TYPE)


def _architecture(path: Path, folder: Path, model: Candidate) -> tuple[ModelConfig, frozenset[str]]:
    if model.format is None:
        return read_config(folder), frozenset()
    try:
        return model.format.read_config(model.view, folder)
    except CheckpointError:
        raise
    except CoverError as error:
        raise CheckpointError(
            f"{path} looks like {model.format.name}, but fits no model ({error}); take another"
        ) from None


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of a model by our names."""
    with torch.device("meta"):
        model = VideoClassifier(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def split_key(source: str | Path) -> tuple[str, str | None]:
    """The path or address of a source, and the key behind its "#", None where there is none.

    >>> split_key("dino.pth#teacher")
    ('dino.pth', 'teacher')
    """
    text = str(source)
    if "#" not in text or os.path.exists(text):
        return text, None
    where, _, key = text.rpartition("#")
    return where, key


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name = source.removeprefix(HUB)
    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "pytorch_model*.bin"]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(f"{source} cannot be downloaded ({brief(error)}); check name and connection") from None
    return folder


def _unknown(folder: Path, files: Mapping[str, TensorFile]) -> str:
    """What a source without any model that we know looks like."""
    names = [name for file in files.values() for name in file.shapes]
    if any(re.search(r"\blora_", name) for name in names):
        return "looks like a LoRA adapter, which is merged into its base model first (merge_and_unload of peft)"
    if kind := read_model_type(folder):
        return f"looks like a {kind!r} model"
    return f"looks like {len(names)} tensors, {', '.join(names[:2])}, …" if names else "looks like no tensors"


def _check(source: Source) -> None:
    """Raise CheckpointError for a tensor that is absent, or that changes the features and has no place in ours."""
    view, config = source.view, source.config
    for name, want in source.shapes.items():
        if (have := view.shape(name)) != want:
            raise CheckpointError(
                f"{source.path} looks like {source.format} ({config.describe(source.not_stated)}), but {name} is "
                f"{list(have) if have else 'absent'} instead of {list(want)}; what can be read is {readable()}"
            )
        for part in view.parts(name):
            check_numbers(source.path, part, view.file.types[part])
    if view.doubled:
        raise CheckpointError(f"{source.path} has {min(view.doubled)} with and without a prefix; take another")
    left = {*source.unused}
    for tidied, name in view.names.items():
        if name in left and not view.naming.may_be_idle(tidied):
            raise CheckpointError(
                f"{source.path} looks like {source.format}, but {name} has no place in a model of the family "
                f"{config.family}; what can be read is {readable()}"
            )
