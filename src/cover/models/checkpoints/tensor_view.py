"""The models in a file, with tensors by our names and in our layout.

A file may have several models: student and teacher, or the last weights and their average. The tensors of a model have
the names of some code base after a common root ("backbone.", "model.net."), at the top level or in a dictionary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.checkpoints.naming import Naming
from cover.models.checkpoints.tensor_files import TensorFile
from cover.models.config import ModelConfig

MAX_MODELS = 16
"""The most models of one code base that are searched for in one dictionary of a file."""
AVERAGED = re.compile(r"(?<![a-z])(ema|teacher|target|averaged?|swa)(?![a-z])", re.IGNORECASE)
"""A key with one of these words has weights averaged over training, which are the ones that authors evaluate."""


class View:
    """The tensors of one model in a file, by our names and in our layout.

    Args:
        file: The tensors of the file.
        naming: The names of its code base.
        root: The prefix of the model's names, tidied.

    Attributes:
        names: {name without root, tidied: name in the file}.
        doubled: Names that two tensors of the file share after tidying.
    """

    def __init__(self, file: TensorFile, naming: Naming, root: str = "") -> None:
        self.file, self.naming, self.root = file, naming, root
        tidied = {name: naming.tidied(name) for name in file.shapes}
        self.names = {other.removeprefix(root): name for name, other in tidied.items() if other.startswith(root)}
        counts = Counter(tidied.values())
        self.doubled = [name for name in self.names if counts[root + name] > 1]

    def parts(self, name: str) -> list[str]:
        """Return the file's tensors that make up our tensor `name`; an empty list if any is missing."""
        theirs = self.naming.theirs(name)
        return [self.names[other] for other in theirs] if self.names.keys() >= set(theirs) else []

    def used(self, name: str) -> list[str]:
        """Return the file's tensors that our tensor `name` is computed from."""
        scale = self._scale(name)
        return [*self.parts(name), *([scale] if scale else [])]

    def _scale(self, name: str) -> str | None:
        return self.names.get(self.naming.scale_of(name) or "")

    def is_zero(self, name: str) -> bool:
        """Return whether our tensor `name` is zero because the file has no such bias."""
        return name in self.naming.zeros and not self.parts(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of our tensor `name`, or None if the file lacks it."""
        if self.is_zero(name):
            weight = self.shape(name.replace(".bias", ".weight"))
            return weight[:1] if weight else None
        parts = [self._laid_out(name, self.file.shapes[part]) for part in self.parts(name)]
        return (sum(rows for rows, *_ in parts), *parts[0][1:]) if parts and all(parts) else None

    def _laid_out(self, name: str, size: tuple[int, ...]) -> tuple[int, ...]:
        if self.naming.layout is None:
            return size
        try:
            return tuple(self.naming.layout(name, torch.empty(size, device="meta")).shape)
        except (IndexError, RuntimeError, TypeError, ValueError):  # it lacks the layout's dimensions
            return size

    def read(self, name: str) -> Tensor:
        """Read our tensor `name`."""
        if self.is_zero(name):
            return torch.zeros(self.shape(name) or ())
        tensor, scale = self._joined(name), self._scale(name)
        if scale is None:
            return tensor
        factor = self.file.read(scale).to(torch.promote_types(tensor.dtype, torch.float32))
        return tensor * (factor[:, None] if tensor.ndim == 2 else factor)

    def _joined(self, name: str) -> Tensor:
        first, *others = self.parts(name)
        tensor = self._read(name, first)
        if not others:
            return tensor
        joined = tensor.new_empty(self.shape(name) or ())
        for part, rows in zip([first, *others], joined.chunk(1 + len(others)), strict=True):
            rows.copy_(self._read(name, part))  # in place, so that only one part at a time is in memory
        return joined

    def _read(self, name: str, part: str) -> Tensor:
        tensor = self.file.read(part)
        return self.naming.layout(name, tensor) if self.naming.layout else tensor


@dataclass(frozen=True)
class WeightFormat:
    """Weights as another code base saves them, which models of a family can load.

    Attributes:
        name: The name of the format in reports.
        origin: The code base, in words for people.
        namings: The names in its files. There are several if its versions differ.
        read_config: (tensors, folder) → (configuration of the model, its fields that the source does not state). Raises
            CoverError if the tensors fit no model.
        claims: (tensors, their key in the file) → whether the model has this format, and not another format with the
            same names.
        part: A regular expression for the beginnings of our names of the tensors that such a file has. By default, it
            has a whole model.
    """

    name: str
    origin: str
    namings: tuple[Naming, ...]
    read_config: Callable[[View, Path], tuple[ModelConfig, frozenset[str]]]
    claims: Callable[[View, str], bool]
    part: str = ""


@dataclass(frozen=True)
class Candidate:
    """A model in a file.

    Attributes:
        key: The keys that lead to it, such as "teacher.backbone"; "" for the top level.
        view: Its tensors.
        format: Its format; None for models of this library.
    """

    key: str
    view: View
    format: WeightFormat | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the model has an input. A decoder has only blocks."""
        return all(self.view.parts(name) for name in self.view.naming.input)

    def unused(self, names: Iterable[str], others: Iterable[Candidate]) -> set[str]:
        """Find the tensors of the file that are not used.

        Args:
            names: The tensors of the model, by our names.
            others: The other models of the file.

        Returns:
            The file's names of tensors that belong neither to this model nor to another complete one.
        """
        own = {*self.view.names.values()}
        elsewhere: set[str] = set()
        for other in others:
            if other.is_complete and other.view.file is self.view.file:
                inside = other.view.root.startswith(self.view.root)
                elsewhere |= {*other.view.names.values()} - (set() if inside else own)
        used = {part for name in names for part in self.view.used(name)}
        return self.view.file.shapes.keys() - used - elsewhere


def find_candidates(files: Mapping[str, TensorFile], formats: Sequence[WeightFormat]) -> list[Candidate]:
    """Find the models in a file.

    Args:
        files: The tensors of the file, by key, from `open_tensors`.
        formats: The formats to look for.

    Returns:
        Complete models first; among equals, averaged weights first; otherwise in the order of the file.
    """
    found = []
    for container, file in files.items():
        for format, naming in [(each, naming) for each in formats for naming in each.namings]:
            for root in naming.roots(map(naming.tidied, file.shapes))[:MAX_MODELS]:
                view = View(file, naming, root)
                if format.claims(view, container):
                    key = ".".join(filter(None, (container, root.strip("./"))))
                    found.append(Candidate(key, view, format))
    complete = {model.key for model in found if model.is_complete}
    found = [model for model in found if model.is_complete or model.key not in complete]  # another format is meant
    return sorted(found, key=lambda model: (not model.is_complete, not AVERAGED.search(model.key)))


def choose(path: Path, models: Sequence[Candidate], key: str | None) -> Candidate:
    """Choose a model by its key.

    Args:
        path: The file, for the message.
        models: The models in the file, at least one.
        key: The key of a model, or a part of it: "teacher" for "teacher.backbone". None chooses the first model.

    Raises:
        CheckpointError: The key fits no model, or several. The message lists the choices.
    """
    if key is None:
        return models[0]
    exact = [model for model in models if model.key == key]
    meant = exact or [model for model in models if f".{key}." in f".{model.key}."]
    if len(meant) != 1:
        choices = ", ".join(f"'{path}#{model.key}'" for model in models[:MAX_MODELS])
        raise CheckpointError(f"{path} has {'no' if not meant else 'several'} weights under {key!r}; use {choices}")
    return meant[0]
