"""Families of backbones by name, and the `[model]` section of a recipe that each of them reads.

A family is a package of `cover.models`, a plugin that another distribution offers under the entry point
"cover.families", or one that a program registers itself. Looking one up imports it; nothing else does.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Literal

from pydantic import Field

from cover.config.layers import Section, Share
from cover.errors import RecipeError

BUILT_IN = {
    "timesformer": "cover.models.timesformer",
    "videomae": "cover.models.videomae",
    "video_swin": "cover.models.video_swin",
    "mvit": "cover.models.mvit",
    "vivit": "cover.models.vivit",
    "vjepa2": "cover.models.vjepa2",
}
"""Each of these modules has the family as `FAMILY`."""
DEFAULT = "timesformer"
"""The family of recipes and runs that name none, as all did before there was a second one."""
ENTRY_POINTS = "cover.families"

Positive = Annotated[int, Field(gt=0)]
HeadKind = Literal["linear", "attentive"]
"""A linear layer on the backbone's feature, or on what a learned query pools from all tokens of a clip."""
TemporalInit = Literal["zero", "random"]
"""How layers that mix frames start where the weights have none: without effect, or at random."""


class ModelSection(Section):
    """Architecture and input size. Each family adds its own keys."""

    variant: str
    """A named size of the family."""
    family: str = DEFAULT
    """The kind of backbone."""
    num_frames: Positive = 8
    """Frames per clip. An image always has one."""
    image_size: Positive = 224
    """Side of the square crop, in pixels."""
    drop_path_rate: Share = 0.1
    """Stochastic depth: drop rate of the last block. The rate grows linearly over the blocks."""
    temporal_init: TemporalInit = "zero"
    """How temporal layers start when `init` has none: "zero" keeps the function of the image model. Families without
    such layers ignore it, with a warning."""
    head: HeadKind = "linear"
    """What the linear layer of each dataset reads: the backbone's feature, or ("attentive") all tokens of a clip as
    self-attention and a learned query pool them in V-JEPA 2. All datasets share the pooler."""
    pooler_depth: Annotated[int, Field(ge=0)] = 3
    """With an attentive head: blocks of self-attention before the query reads the tokens."""
    pooler_heads: Positive = 16
    """With an attentive head: attention heads of the pooler."""

    def unused_keys(self, *, has_init: bool) -> dict[str, str]:
        """Return the keys that change nothing beside the others, with the reason. Families add their own.

        Args:
            has_init: Whether the model starts from weights.
        """
        reason = 'only a pooler has it, which head = "attentive" brings'
        return dict.fromkeys(("pooler_depth", "pooler_heads"), reason) if self.head == "linear" else {}


class Family:
    """What a recipe knows of a family; `cover.models.family.BackboneFamily` is the whole of it.

    Attributes:
        name: How recipes and saved models call it.
        section: The keys of `[model]`, all with defaults.
    """

    name: str
    section: type[ModelSection]


_registered: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known by its name, to recipes and to everything that reads models."""
    _registered[family.name] = family


def family_names() -> list[str]:
    """All families that can be looked up."""
    return list(dict.fromkeys([*BUILT_IN, *_registered, *(point.name for point in _plugins())]))


def find_family(name: str) -> Family:
    """Look a family up. Raises RecipeError for an unknown name."""
    if name in BUILT_IN and name not in _registered:
        register(import_module(BUILT_IN[name]).FAMILY)
    if name not in _registered and (plugin := next((point for point in _plugins() if point.name == name), None)):
        register(plugin.load())
    if name not in _registered:
        raise RecipeError(f"unknown model family {name!r}; the families are {', '.join(family_names())}")
    return _registered[name]


@cache
def _plugins() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))
