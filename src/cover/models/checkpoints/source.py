"""Weights on disk as one of our models, whatever code base has written them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cover.errors import CheckpointError
from cover.models.checkpoints.tensor_files import brief
from cover.models.checkpoints.tensor_view import View
from cover.models.config import ModelConfig

OWN_FORMAT = "cover"


@dataclass(frozen=True)
class Source:
    """Weights on disk, presented as one of our models.

    Attributes:
        path: The file or folder.
        format: The name of the format.
        config: Architecture, heads and normalisation. A head without a name is called "head".
        shapes: The shape of each tensor, by our names.
        unused: Tensors that our model does not have, by the file's names.
        view: Reads the tensors.
        not_stated: Fields of `config` that the source does not state. `WeightFormat.read_config` sets their values.
        taken: The key of this model, if the file has several models.
        others: The keys of the other models in the file. "#key" after the path chooses one.
        origin: The code base, in words for people.
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
        """Which of several models this is, and how to choose another, in a sentence for people."""
        others = " or ".join(f"#{key}" for key in self.others)
        taken = self.taken or "the one at the top level"
        return f"{taken}, one of several in the file; for another, add {others} to the path"

    def tensor(self, name: str) -> Tensor:
        """Read a tensor.

        Args:
            name: Our name of the tensor.

        Returns:
            The tensor in our layout.

        Raises:
            CheckpointError: The file is damaged.
        """
        try:
            return self.view.read(name)
        except Exception as error:  # the kind depends on the format and on the damage
            raise CheckpointError(f"{self.path}: {name} cannot be read ({brief(error)}); use another copy") from None
