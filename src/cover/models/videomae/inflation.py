"""Start a VideoMAE from a plain image ViT, of any format that another family of the library reads."""

from __future__ import annotations

from dataclasses import fields, replace

from torch import Tensor

from cover.models.checkpoints.source import Source
from cover.models.checkpoints.tensor_view import View
from cover.models.classifier import empty_model
from cover.models.config import ViTConfig
from cover.models.videomae.config import VideoMAEConfig

ORIGINS = {"attn.q_bias": "attn.qkv.bias", "attn.v_bias": "attn.qkv.bias", "fc_norm": "norm"}
"""{our module: that of a ViT}, by timm's names."""
POSITIONS = {"cls_token", "pos_embed"}
"""What a VideoMAE has no use for."""


def inflated(source: Source, config: VideoMAEConfig) -> Source | None:
    """Present an image ViT as a VideoMAE.

    The patch kernel is repeated over the frames of a tubelet and divided by their number, so an image embeds as before.
    Blocks compute the same; the bias of keys, which softmax cancels, is left out. The norm of the class token becomes
    that of the mean token. Class token and learned positions have no use.

    Args:
        source: The weights, by timm's names.
        config: The configuration of the model.

    Returns:
        The weights by our names; None if they are no image ViT.
    """
    image, hidden = source.config, source.shapes.get("blocks.0.mlp.fc1.weight")
    if hidden is None or not isinstance(image, ViTConfig):
        return None
    ours = VideoMAEConfig(
        **{field.name: getattr(image, field.name) for field in fields(ViTConfig) if field.name != "num_frames"},
        mlp_width=hidden[0],
        tubelet_size=config.tubelet_size,
        num_frames=1,
        fc_norm_eps=image.layer_norm_eps,
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in empty_model(ours).state_dict().items()}
    left = source.shapes.keys() - {origin(name) for name in shapes}
    if not left <= POSITIONS:  # it is a model of videos
        return None
    unused = (*source.unused, *(part for name in left for part in source.view.used(name)))
    view = InflatedView(source.view, config.tubelet_size)
    return replace(source, config=ours, shapes=shapes, view=view, unused=tuple(sorted(unused)))


def origin(name: str) -> str:
    """Return the tensor of a ViT that our tensor comes from.

    >>> origin("blocks.3.attn.q_bias"), origin("fc_norm.weight")
    ('blocks.3.attn.qkv.bias', 'norm.weight')
    """
    for ours, theirs in ORIGINS.items():
        if name.endswith(ours) or name.startswith(f"{ours}."):
            return name.replace(ours, theirs)
    return name


class InflatedView(View):
    """The tensors of an image ViT as those of a VideoMAE.

    Args:
        image: The tensors of the ViT.
        tubelet_size: Frames of a tubelet.
    """

    def __init__(self, image: View, tubelet_size: int) -> None:
        super().__init__(image.file, image.naming, image.root)
        self.tubelet_size = tubelet_size

    def parts(self, name: str) -> list[str]:
        """See View."""
        return super().parts(origin(name))

    def read(self, name: str) -> Tensor:
        """See View."""
        tensor = super().read(origin(name))
        if name.endswith(("attn.q_bias", "attn.v_bias")):
            return tensor.chunk(3)[0 if name.endswith("q_bias") else 2]
        if name == "patch_embed.proj.weight":
            return tensor[:, :, None].expand(-1, -1, self.tubelet_size, -1, -1) / self.tubelet_size
        return tensor
