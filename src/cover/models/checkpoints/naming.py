"""How the tensors of another code base are named and laid out, beside our own.

Heads are "heads.NAME.weight" here. The one nameless head of a source is called "head".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

HEAD = "head"
"""Name of the head of a source that does not name it."""
WRAPPERS = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|module)\.")
"""What torch.compile, FSDP, checkpointing, Lightning and DDP put into a name, anywhere in it."""


@dataclass(frozen=True)
class Naming:
    """The names of one code base.

    Attributes:
        modules: Our modules → theirs, outside the blocks, where they differ. The weights of several modules, separated
            by spaces, are joined into one of ours.
        block_modules: The same inside the blocks.
        block: The prefix of block i.
        tidy: Regular expressions and replacements that remove from a file's names what varies between files, beside
            WRAPPERS.
        layout: (our name, their tensor) → the tensor in our layout, where theirs differs.
        idle: A regular expression for the names of modules that do not affect the features and may be left unused;
            every other tensor is vital.
        anchor: Our name of the tensor by which a model of this code base is recognised.
        input: Our names of the tensors that a complete model has; a decoder lacks them.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    block_modules: Mapping[str, str] = field(default_factory=dict)
    block: str = "blocks.{}."
    tidy: Mapping[str, str] = field(default_factory=dict)
    layout: Callable[[str, Tensor], Tensor] | None = None
    idle: str = ""
    anchor: str = ""
    input: tuple[str, ...] = ()

    def tidied(self, name: str) -> str:
        """A file's name in the form that `theirs` gives."""
        name = WRAPPERS.sub("", name)
        for pattern, replacement in self.tidy.items():
            name = re.sub(pattern, replacement, name)
        return name

    def roots(self, tidied: Iterable[str]) -> list[str]:
        """What stands before the names of each model among these: "" for the names alone, "backbone.", …"""
        names = dict.fromkeys(tidied)
        first, *others = self.theirs(self.anchor)
        roots = [name.removesuffix(first) for name in names if name.endswith(first)]
        return [
            root for root in roots if root[-1:] in ("", ".", "/") and all(root + other in names for other in others)
        ]

    def may_be_idle(self, tidied: str) -> bool:
        """Whether the tensor of this name takes no part in the features."""
        return bool(self.idle and re.match(rf"({self.idle})(\W|$)", tidied))

    def theirs(self, name: str) -> list[str]:
        """Their names of the tensors which, joined along the first dimension, are the one that we call `name`."""
        match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+?)(\.weight|\.bias)?", name)
        assert match
        number, module, kind = match.groups(default="")
        modules, prefix = (self.block_modules, self.block.format(number)) if number else (self.modules, "")
        return [f"{prefix}{other}{kind}" for other in modules.get(module, module).split()]


OURS = Naming()
"""The names of models that this library has saved."""
