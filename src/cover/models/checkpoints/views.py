"""Which tensors of a file are a model, and how they are seen by our names and in our layout.

A file may hold several models: student and teacher, the last weights and their average. Each has the names that some
code base gives, behind a root ("backbone.", "model.net."), in a dictionary of the file or at its top.
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
"""Of one code base that are looked for in one dictionary of a file."""
AVERAGED = re.compile(r"(?<![a-z])(ema|teacher|averaged?|swa)(?![a-z])", re.IGNORECASE)
"""In the key of a model: its weights are an average over the training, which is what its authors evaluate."""


class View:
    """The tensors behind one root of a file, by our names and in our layout."""

    def __init__(self, file: TensorFile, naming: Naming, root: str = "") -> None:
        self.file, self.naming, self.root = file, naming, root
        tidied = {name: naming.tidied(name) for name in file.shapes}
        self.names = {other.removeprefix(root): name for name, other in tidied.items() if other.startswith(root)}
        counts = Counter(tidied.values())
        self.doubled = [name for name in self.names if counts[root + name] > 1]

    def parts(self, name: str) -> list[str]:
        """The file's names of what makes up our tensor `name`; empty where any of it is missing."""
        theirs = self.naming.theirs(name)
        return [self.names[other] for other in theirs] if self.names.keys() >= set(theirs) else []

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of our tensor `name`, None where the file lacks it."""
        parts = [self._laid_out(name, self.file.shapes[part]) for part in self.parts(name)]
        return (sum(rows for rows, *_ in parts), *parts[0][1:]) if parts and all(parts) else None

    def _laid_out(self, name: str, size: tuple[int, ...]) -> tuple[int, ...]:
        if self.naming.layout is None:
            return size
        try:
            return tuple(self.naming.layout(name, torch.empty(size, device="meta")).shape)
        except (IndexError, RuntimeError, TypeError, ValueError):  # it has not even the dimensions of the layout
            return size

    def read(self, name: str) -> Tensor:
        """Read our tensor `name`."""
        first, *others = self.parts(name)
        tensor = self._read(name, first)
        if not others:
            return tensor
        joined = tensor.new_empty(self.shape(name) or ())
        for part, rows in zip([first, *others], joined.chunk(1 + len(others)), strict=True):
            rows.copy_(self._read(name, part))  # in place, for only one to be in memory
        return joined

    def _read(self, name: str, part: str) -> Tensor:
        tensor = self.file.read(part)
        return self.naming.layout(name, tensor) if self.naming.layout else tensor


@dataclass(frozen=True)
class WeightFormat:
    """Weights as another code base saves them, which a family can take over.

    Attributes:
        name: How reports call the format.
        origin: The code base, for people.
        namings: The names that its files use; more than one where versions differ.
        read_config: (tensors, folder) → the model that the weights belong to, and the fields of its configuration that
            the source does not state. Raises CoverError where they fit no model.
        claims: (tensors, their key in the file) → whether a model with these names is of this format and not of
            another one that uses the same names.
    """

    name: str
    origin: str
    namings: tuple[Naming, ...]
    read_config: Callable[[View, Path], tuple[ModelConfig, frozenset[str]]]
    claims: Callable[[View, str], bool]


@dataclass(frozen=True)
class Candidate:
    """A model in a file.

    Attributes:
        key: What leads to it there, such as "teacher.backbone"; "" for the top.
        view: Its tensors.
        format: Whose it is; None stands for this library.
    """

    key: str
    view: View
    format: WeightFormat | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it has an input; a decoder has only blocks."""
        return all(self.view.parts(name) for name in self.view.naming.input)

    def unused(self, names: Iterable[str], others: Iterable[Candidate]) -> set[str]:
        """The file's names of tensors that are neither of our `names` nor of another complete model."""
        own = {*self.view.names.values()}
        elsewhere: set[str] = set()
        for other in others:
            if other.is_complete and other.view.file is self.view.file:
                inside = other.view.root.startswith(self.view.root)
                elsewhere |= {*other.view.names.values()} - (set() if inside else own)
        used = {part for name in names for part in self.view.parts(name)}
        return self.view.file.shapes.keys() - used - elsewhere


def find_candidates(files: Mapping[str, TensorFile], formats: Sequence[WeightFormat]) -> list[Candidate]:
    """The models in a file, those that are complete before others, averaged weights before others, else in order."""
    found = []
    for container, file in files.items():
        for format, naming in [(each, naming) for each in formats for naming in each.namings]:
            for root in naming.roots(map(naming.tidied, file.shapes))[:MAX_MODELS]:
                view = View(file, naming, root)
                if format.claims(view, container):
                    key = ".".join(filter(None, (container, root.strip("./"))))
                    found.append(Candidate(key, view, format))
    return sorted(found, key=lambda model: (not model.is_complete, not AVERAGED.search(model.key)))


def choose(path: Path, models: Sequence[Candidate], key: str | None) -> Candidate:
    """The model that a key names, or else the first.

    key: all that leads to a model, or a part of it: "teacher" for "teacher.backbone". Raises CheckpointError, with the
    choices, where no model or more than one is meant.
    """
    if key is None:
        return models[0]
    exact = [model for model in models if model.key == key]
    meant = exact or [model for model in models if f".{key}." in f".{model.key}."]
    if len(meant) != 1:
        choices = ", ".join(f"'{path}#{model.key}'" for model in models[:MAX_MODELS])
        raise CheckpointError(f"{path} has {'no' if not meant else 'several'} weights under {key!r}; take {choices}")
    return meant[0]
