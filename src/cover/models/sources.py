"""Weights in files of several code bases, recognised by their content and presented as one of our models.

Our own sources are runs, checkpoints and exports. Each family lists the formats of other code bases that it can load.

Opening a source reads only names, shapes and settings. Nothing is guessed: a source is refused if it lacks a tensor, or
has a tensor or setting that changes the features and that our model cannot express. `Source.not_stated` lists what a
source does not state.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cover.config.families import family_names
from cover.core.run_files import CONFIG_FILE, LATEST, WEIGHTS_FILE, RunFiles, find_checkpoint
from cover.errors import CheckpointError, CoverError
from cover.models.checkpoints.config_files import read_model_type
from cover.models.checkpoints.naming import OURS
from cover.models.checkpoints.source import OWN_FORMAT, Source
from cover.models.checkpoints.tensor_files import TensorFile, brief, open_one_file, open_tensors
from cover.models.checkpoints.tensor_view import Candidate, View, WeightFormat, choose, find_candidates
from cover.models.classifier import HEADS, empty_model
from cover.models.config import ModelConfig
from cover.models.family import backbone_family
from cover.models.weights import MODEL_TYPE, check_numbers, read_config

HUB = "hf://"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def open_source(source: str | Path) -> Source:
    """Recognise a file or folder of weights.

    Args:
        source: See `locate`. To choose one of several models in a file, add "#key": "file.pth#teacher".

    Returns:
        The weights, presented as one of our models.

    Raises:
        CheckpointError: The source is damaged, unknown, of an architecture that no family has, or has no such key.
    """
    where, key = split_key(source)
    path = locate(where)
    folder = path if os.path.isdir(path) else path.parent
    if path in (folder, folder / WEIGHTS_FILE) and _is_ours(folder):
        path = folder
        models = [Candidate("", View(open_one_file(folder / WEIGHTS_FILE), OURS))]
    elif not (models := find_candidates(files := open_tensors(path), known_formats())):
        raise CheckpointError(f"{path} {_unknown(folder, files)}; cover loads {readable()}")
    model = choose(path, models, key)
    config, not_stated = _architecture(path, folder, model)
    shapes = _shapes(config, model.format.part if model.format else "")
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


def locate(source: str | Path) -> Path:
    """Find weights on disk.

    Args:
        source: A run, which stands for its best checkpoint; a file or folder of weights; "owner/name" for a repository
            of the Hugging Face hub that is in the local cache; or "hf://owner/name", which is downloaded if it is not.

    Returns:
        The file or folder. It may be anything, or nothing if the source is a path.

    Raises:
        CheckpointError: The run has no checkpoint, or the repository is not there and cannot be downloaded.
    """
    name = str(source)
    if name.startswith(HUB):
        return _download(name)
    path = Path(source)
    if not os.path.lexists(path) and _HUB_NAME.fullmatch(name) and (cached := _cached(name)):
        return cached
    return find_checkpoint(path) if RunFiles(path).is_run or os.path.lexists(path / LATEST) else path


def known_formats() -> list[WeightFormat]:
    """Return the formats of other code bases that the families can load."""
    return [format for name in family_names() for format in backbone_family(name).formats]


def readable() -> str:
    """Return everything that can be loaded, to complete the sentence "cover loads …"."""
    return ", ".join(["its own models", *dict.fromkeys(format.origin for format in known_formats())])


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
            f"{path} looks like {model.format.name}, but fits no model ({error}); use other weights"
        ) from None


def _shapes(config: ModelConfig, part: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors, by our names, for those that begin with `part`."""
    tensors = empty_model(config).state_dict().items()
    return {name: tuple(tensor.shape) for name, tensor in tensors if re.match(part, name)}


def split_key(source: str | Path) -> tuple[str, str | None]:
    """Split a source into its path or address and the key after "#".

    >>> split_key("dino.pth#teacher")
    ('dino.pth', 'teacher')

    Args:
        source: As for `open_source`. The path of an existing file is never split.

    Returns:
        The path or address, and the key or None.
    """
    text = str(source)
    if "#" not in text or os.path.exists(text):
        return text, None
    where, _, key = text.rpartition("#")
    return where, key


def _download(source: str) -> Path:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return _snapshot(source.removeprefix(HUB))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{source} cannot be downloaded ({brief(error)}); check the name and the connection"
        ) from None


def _cached(name: str) -> Path | None:
    """Find a repository of the hub in the local cache."""
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        return _snapshot(name, local_files_only=True)
    except (HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError):
        return None


def _snapshot(name: str, *, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    for weights in ("*.safetensors", "*pytorch_model*.bin"):
        folder = Path(snapshot_download(name, allow_patterns=["*.json", weights], local_files_only=local_files_only))
        if list(folder.glob(weights)):
            break
    return folder


def _unknown(folder: Path, files: Mapping[str, TensorFile]) -> str:
    """Say what a source contains if it has no model that we know."""
    names = [name for file in files.values() for name in file.shapes]
    if any(re.search(r"\blora_", name) for name in names):
        return "looks like a LoRA adapter, which must first be merged into its base model (merge_and_unload of peft)"
    if kind := read_model_type(folder):
        return f"looks like a {kind!r} model"
    return f"has {len(names)} tensors of an unknown model ({', '.join(names[:2])}, …)" if names else "has no tensors"


def _check(source: Source) -> None:
    """Check that a source has all tensors of our model, and no others that change the features.

    Raises:
        CheckpointError: It does not.
    """
    view, config = source.view, source.config
    for name, want in source.shapes.items():
        if (have := view.shape(name)) != want:
            raise CheckpointError(
                f"{source.path} looks like {source.format} ({config.describe(source.not_stated)}), but {name} is "
                f"{list(have) if have else 'absent'} instead of {list(want)}; cover loads {readable()}"
            )
        for part in view.used(name):
            check_numbers(source.path, part, view.file.types[part])
    if view.doubled:
        raise CheckpointError(f"{source.path} has {min(view.doubled)} with and without a prefix; use another file")
    left = {*source.unused}
    if any(name.startswith(HEADS) for name in left):
        raise CheckpointError(f"{source.path} looks like a model of cover without its {CONFIG_FILE}; copy that, too")
    for tidied, name in view.names.items():
        if name in left and not view.naming.may_be_idle(tidied):
            raise CheckpointError(
                f"{source.path} looks like {source.format}, but {name} has no place in a model of the family "
                f"{config.family}; cover loads {readable()}"
            )
