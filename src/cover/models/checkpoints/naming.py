"""The names and layout of another code base's tensors, compared with our own.

Our heads are "heads.NAME.weight". If a source has one head without a name, we call it "head".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

HEAD = "head"
"""The name that we give to a head without a name."""
WRAPPERS = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|module)\.")
"""The parts that torch.compile, FSDP, checkpointing, Lightning and DDP insert anywhere in a name."""


@dataclass(frozen=True)
class Naming:
    """The names of one code base.

    Attributes:
        modules: {our module: theirs} outside the blocks, for names that differ. Theirs may be several modules,
            separated by spaces; their weights are joined into one of ours.
        block_modules: The same inside the blocks.
        block: The prefix of block i, with "{}" in place of i.
        tidy: {regular expression: replacement}, to remove what varies between files from their names. WRAPPERS are
            removed anyway.
        scales: {our module in a block: their tensor} of LayerScale, a factor for each feature that a module returns. It
            is multiplied into the weight and bias of the module if a file has it.
        zeros: Our biases that are zero where a file has none.
        layout: (our name, their tensor) → the tensor in our layout; None if the layouts are equal.
        idle: A regular expression for the names of modules that may stay unused, because they do not affect the
            features. Every other tensor must be used.
        anchor: The tensor that identifies a model of this code base, by our name.
        input: Tensors that every complete model has and a decoder lacks, by our names.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    block_modules: Mapping[str, str] = field(default_factory=dict)
    block: str = "blocks.{}."
    tidy: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, str] = field(default_factory=dict)
    zeros: Collection[str] = ()
    layout: Callable[[str, Tensor], Tensor] | None = None
    idle: str = ""
    anchor: str = ""
    input: tuple[str, ...] = ()

    def tidied(self, name: str) -> str:
        """Return a name from a file in the form that `theirs` returns."""
        name = WRAPPERS.sub("", name)
        for pattern, replacement in self.tidy.items():
            name = re.sub(pattern, replacement, name)
        return name

    def roots(self, tidied: Iterable[str]) -> list[str]:
        """Find the models among the names of a file.

        Args:
            tidied: The names of all tensors, each from `tidied`.

        Returns:
            The prefix of each model's names: "", "backbone.", …
        """
        names = dict.fromkeys(tidied)
        first, *others = self.theirs(self.anchor)
        roots = [name.removesuffix(first) for name in names if name.endswith(first)]
        return [
            root for root in roots if root[-1:] in ("", ".", "/") and all(root + other in names for other in others)
        ]

    def may_be_idle(self, tidied: str) -> bool:
        """Return whether a tensor may stay unused, by its tidied name."""
        return bool(self.idle and re.match(rf"({self.idle})(\W|$)", tidied))

    def theirs(self, name: str) -> list[str]:
        """Return their names for one of our tensors. If there are several, join them along the first dimension.

        Args:
            name: Our name of the tensor.
        """
        number, module, kind = _taken_apart(name)
        modules, prefix = (self.block_modules, self.block.format(number)) if number else (self.modules, "")
        return [f"{prefix}{other}{kind}" for other in modules.get(module, module).split()]

    def scale_of(self, name: str) -> str | None:
        """Return their name of the factor that is multiplied into one of our tensors, if the code base may have one.

        Args:
            name: Our name of the tensor.
        """
        number, module, _ = _taken_apart(name)
        return self.block.format(number) + self.scales[module] if number and module in self.scales else None


def _taken_apart(name: str) -> tuple[str, str, str]:
    """Return the number of the block or "", the module, and ".weight", ".bias" or ""."""
    match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+?)(\.weight|\.bias)?", name)
    assert match
    number, module, kind = match.groups(default="")
    return number, module, kind


OURS = Naming()
"""The names in models that this library has saved."""
