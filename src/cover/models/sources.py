"""Where weights come from: files of several code bases, recognised by content and seen as one of our models.

    format                    what it is
    cover                     a run, a checkpoint or an export of ours
    timesformer               the published TimeSformer (.pyth)
    transformers-timesformer  transformers' TimeSformer
    transformers-vit          transformers' ViT
    timm-vit                  timm's ViT
    jax-vit                   the original ViT and AugReg (.npz)

Opening reads names and shapes only. The whole architecture must be there: a source that lacks a tensor, or has one in
its blocks that ours have no place for, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cover.errors import CheckpointError, CoverError
from cover.models.architecture import read_architecture, read_json
from cover.models.config import ModelConfig
from cover.models.names import (
    JAX_VIT,
    OURS,
    PUBLISHED,
    TRANSFORMERS_TIMESFORMER,
    TRANSFORMERS_VIT,
    Naming,
)
from cover.models.tensor_files import TensorFile, brief, open_tensors
from cover.models.timesformer import TimeSformer
from cover.models.weights import CONFIG_FILE, LATEST, MODEL_TYPE, find_checkpoint, read_config

NAMINGS = {
    "cover": OURS,
    "timesformer": PUBLISHED,
    "timm-vit": PUBLISHED,
    "transformers-timesformer": TRANSFORMERS_TIMESFORMER,
    "transformers-vit": TRANSFORMERS_VIT,
    "jax-vit": JAX_VIT,
}
READABLE = "a model of cover, a TimeSformer (published or transformers) and a plain ViT (transformers, timm or JAX)"
HUB = "hf://"


@dataclass(frozen=True)
class Source:
    """Weights on disk, seen as a model of ours.

    config: architecture, heads and normalisation as far as the source tells; its one nameless head is called "head".
    shapes: our names of its tensors, and their shapes. unused: the file's names of tensors without a place in ours.
    """

    path: Path
    format: str
    config: ModelConfig
    shapes: Mapping[str, tuple[int, ...]]
    unused: tuple[str, ...]
    view: View

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, by our name, in our layout. Raises CheckpointError where the file is damaged."""
        try:
            tensor = self.view.read(name)
        except Exception as error:  # what is raised depends on the format and on what is damaged
            raise CheckpointError(f"{self.path}: {name} cannot be read ({brief(error)}); take another copy") from None
        if not tensor.is_floating_point():
            raise CheckpointError(f"{self.path}: {name} holds {tensor.dtype}; take weights that are not quantised")
        return tensor


class View:
    """A file's tensors by our names and in our layout."""

    def __init__(self, file: TensorFile, naming: Naming) -> None:
        self.file, self.naming = file, naming
        self.names = {naming.tidied(name): name for name in file.shapes}

    def parts(self, name: str) -> list[str]:
        """The file's names of what makes up our tensor `name`; empty where any of it is missing."""
        theirs = self.naming.theirs(name)
        return [self.names[other] for other in theirs] if self.names.keys() >= set(theirs) else []

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of our tensor `name`, None where the file lacks it."""
        sizes = [self.file.shapes[part] for part in self.parts(name)]
        try:
            parts = [tuple(self.naming.layout(name, torch.empty(size, device="meta")).shape) for size in sizes]
        except (IndexError, RuntimeError):  # it has not even the dimensions of the layout
            parts = sizes[:1]
        return (sum(rows for rows, *_ in parts), *parts[0][1:]) if parts and all(parts) else None

    def read(self, name: str) -> Tensor:
        """Read our tensor `name`."""
        first, *others = self.parts(name)
        tensor = self.naming.layout(name, self.file.read(first))
        if not others:
            return tensor
        joined = tensor.new_empty(self.shape(name) or ())
        for part, rows in zip([first, *others], joined.chunk(1 + len(others)), strict=True):
            rows.copy_(self.naming.layout(name, self.file.read(part)))  # in place, for only one to be in memory
        return joined


def open_source(source: str | Path) -> Source:
    """Recognise a file or folder of weights.

    source: a path, or "hf://owner/name" for a repository of the Hugging Face hub, the only case in which anything is
    downloaded. Raises CheckpointError for what is damaged, unknown or not of this architecture.
    """
    path = _download(str(source)) if str(source).startswith(HUB) else Path(source)
    path = find_checkpoint(path) if (path / LATEST).exists() else path
    folder = path if path.is_dir() else path.parent
    file = open_tensors(path)
    format = _recognise(path, folder, file)
    view = View(file, NAMINGS[format])
    config = read_config(folder) if format == "cover" else _architecture(path, format, view, folder)
    shapes = _check_complete(path, format, config, view)
    used = {part for name in shapes for part in view.parts(name)}
    _check_nothing_left(path, format, view, used)
    return Source(path, format, config, shapes, tuple(sorted(file.shapes.keys() - used)), view)


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


def _recognise(path: Path, folder: Path, file: TensorFile) -> str:
    """The format, by the names of the first block's attention weights."""
    settings = read_json(folder / CONFIG_FILE)
    if settings.get("model_type") == MODEL_TYPE:
        return "cover"
    formats = [
        format
        for format, naming in NAMINGS.items()
        if format != "cover" and View(file, naming).parts("blocks.0.attn.qkv.weight")
    ]
    if not formats:
        kind = settings.get("model_type") or settings.get("architecture")
        looks = f"a {kind!r} model" if kind else f"{len(file.shapes)} tensors, {', '.join([*file.shapes][:2])}, …"
        raise CheckpointError(
            f"{path} looks like {looks if file.shapes else 'no tensors'}; what can be read is {READABLE}"
        )
    if formats[0] == "timesformer":  # timm's names are the same
        temporal = any("time_embed" in name or "temporal" in name for name in file.shapes)
        return "timesformer" if temporal or file.wrapper == "model_state" else "timm-vit"
    return formats[0]


def _architecture(path: Path, format: str, view: View, folder: Path) -> ModelConfig:
    has_head = not any("pre_logits" in name for name in view.names)  # a layer between features and classifier
    try:
        return read_architecture(format, view.shape, folder, has_head=has_head)
    except (CoverError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} looks like {format}, but its shapes fit no model ({error}); take another"
        ) from None


def _check_complete(path: Path, format: str, config: ModelConfig, view: View) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's tensors. Raises CheckpointError naming the first that is absent or of another shape."""
    with torch.device("meta"):
        model = TimeSformer(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, want in expected.items():
        if (have := view.shape(name)) != want:
            raise CheckpointError(
                f"{path} looks like {format} of depth {config.depth} and width {config.width}, but {name} is "
                f"{list(have) if have else 'absent'} instead of {list(want)}; what can be read is {READABLE}"
            )
    return expected


def _check_nothing_left(path: Path, format: str, view: View, used: set[str]) -> None:
    """Raise CheckpointError for tensors in the blocks, or tokens, without which the features would not be the same."""
    block = NAMINGS[format].block.split("{}")[0]
    for tidied, name in view.names.items():
        vital = tidied.startswith(block) or ("token" in tidied and "mask_token" not in tidied)
        if vital and name not in used:
            raise CheckpointError(
                f"{path} looks like {format}, but {name} has no place in a TimeSformer; what can be read is {READABLE}"
            )
