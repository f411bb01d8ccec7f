"""Start a video model from a plain image ViT, of any format that another family of the library reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from cover.models.checkpoints.source import Source
from cover.models.checkpoints.tensor_view import View
from cover.models.classifier import empty_model
from cover.models.config import ModelConfig, ViTConfig


def inflated(
    source: Source,
    create: Callable[[dict[str, Any]], ModelConfig],
    origin: Callable[[str], str | None],
    inflate: Callable[[str, Tensor], Tensor],
    idle: Collection[str],
) -> Source | None:
    """Present an image ViT as a video model.

    Args:
        source: The weights, by timm's names.
        create: Completes the fields that both configurations have, and the MLP's width, to that of the video model.
        origin: Our name of a tensor → that of a ViT, or None if a ViT has nothing like it.
        inflate: (our name, tensor of the ViT) → our tensor.
        idle: Tensors of a ViT that the video model may have no use for.

    Returns:
        The weights by our names; None if they are no image ViT.
    """
    image, hidden = source.config, source.shapes.get("blocks.0.mlp.fc1.weight")
    kernel = source.shapes.get("patch_embed.proj.weight", ())
    if hidden is None or len(kernel) != 4 or not isinstance(image, ViTConfig):
        return None
    shared = {field.name: getattr(image, field.name) for field in fields(ViTConfig) if field.name != "num_frames"}
    ours = create(shared | {"mlp_width": hidden[0]})
    tensors = empty_model(ours).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if origin(name)}
    left = source.shapes.keys() - {origin(name) for name in shapes}
    if not left <= {*idle}:  # it is a model of videos
        return None
    unused = (*source.unused, *(part for name in left for part in source.view.used(name)))
    view = InflatedView(source.view, origin, inflate)
    return replace(source, config=ours, shapes=shapes, view=view, unused=tuple(sorted(unused)))


class InflatedView(View):
    """The tensors of an image ViT as those of a video model.

    Args:
        image: The tensors of the ViT.
        origin: As for `inflated`.
        inflate: As for `inflated`.
    """

    def __init__(
        self, image: View, origin: Callable[[str], str | None], inflate: Callable[[str, Tensor], Tensor]
    ) -> None:
        super().__init__(image.file, image.naming, image.root)
        self.origin, self.inflate = origin, inflate

    def parts(self, name: str) -> list[str]:
        """See View."""
        return super().parts(self.origin(name) or name)

    def read(self, name: str) -> Tensor:
        """See View."""
        return self.inflate(name, super().read(self.origin(name) or name))
