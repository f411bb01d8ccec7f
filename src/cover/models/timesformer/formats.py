"""The files of other code bases that a TimeSformer takes its weights from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cover.models.checkpoints.naming import Naming
from cover.models.checkpoints.views import View, WeightFormat
from cover.models.timesformer.architecture import read_architecture
from cover.models.timesformer.names import (
    JAX_VIT,
    PUBLISHED,
    TRANSFORMERS_TIMESFORMER,
    TRANSFORMERS_VIT,
    TRANSFORMERS_VIT_IN_MEMORY,
)


def _is_timesformer(view: View, container: str) -> bool:
    """Tell the published TimeSformer from a ViT of timm, whose names it took."""
    return container == "model_state" or any("time_embed" in name or "temporal" in name for name in view.names)


def _is_vit(view: View, container: str) -> bool:
    return not _is_timesformer(view, container)


def _any(view: View, container: str) -> bool:
    return True


def _format(name: str, origin: str, *namings: Naming, claims: Callable[[View, str], bool] = _any) -> WeightFormat:
    return WeightFormat(name, origin, namings, partial(read_architecture, name), claims)


FORMATS = (
    _format("timesformer", "the published TimeSformer", PUBLISHED, claims=_is_timesformer),
    _format("timm-vit", "timm's ViT", PUBLISHED, claims=_is_vit),
    _format("transformers-timesformer", "transformers' TimeSformer", TRANSFORMERS_TIMESFORMER),
    _format("transformers-vit", "transformers' ViT", TRANSFORMERS_VIT, TRANSFORMERS_VIT_IN_MEMORY),
    _format("jax-vit", "the original ViT (JAX)", JAX_VIT),
)
