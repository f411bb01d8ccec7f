"""Layers that several families share: the MLP of a block, the norm before the blocks, and patch embeddings of uint8."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cover.models.backbone import Backbone
from cover.models.config import Activation, ViTConfig
from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.mlp import Approximate, mlp
from cover.models.kernels.products import Input
from cover.models.kernels.residual import Residual, Tokens, plain_add_normalise
from cover.models.linear import Linear, after_norm, in_dtype
from cover.models.packing import Group

MIDDLE_GREY = 128
"""Subtracted from pixels of 0 to 255. The results are small whole numbers, which are exact in bfloat16."""


APPROXIMATE: dict[Activation | None, Approximate] = {
    None: "none",
    "gelu": "none",
    "gelu_tanh": "tanh",
    "quick_gelu": "sigmoid",
}
"""What `Mlp` takes for each activation of a configuration."""


class Mlp(nn.Module):
    """Two linear layers with a GELU between them. The second bias is added with the residual.

    Args:
        width: The size of a token, D.
        hidden: The features between the two layers.
        approximate: Which GELU.
        out_width: The size of a token at the output; None for D.
    """

    def __init__(
        self, width: int, hidden: int, approximate: Approximate = "none", out_width: int | None = None
    ) -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, out_width or width)

    def forward(self, normed_FND: Input, norm: nn.LayerNorm) -> Tensor:
        """Return the values of the residual, [F, N, …], from normalised tokens without the affine part of `norm`."""
        dtype = compute_dtype(normed_FND.exact)
        weight1, bias1 = after_norm(norm, self.fc1, dtype)
        return mlp(normed_FND, weight1, bias1, in_dtype(self.fc2, dtype), self.approximate)


def pre_norm(config: ViTConfig, like: Tensor | None = None) -> nn.LayerNorm | None:
    """Return the norm between embeddings and blocks, or None if the model has none.

    Args:
        config: The configuration of the model.
        like: A tensor with the device and type of the weights.
    """
    if not config.norm_pre:
        return None
    norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
    return norm if like is None else norm.to(like)


def normalise_tokens(
    norm: nn.LayerNorm, tokens: Tokens, residual: Residual, groups: tuple[Group, ...]
) -> tuple[Tokens, Residual]:
    """Add a residual to tokens and apply a whole layer norm to the sums.

    Args:
        norm: The layer norm.
        tokens: The tokens [F, N, D].
        residual: What to add to them.
        groups: The layout of the frames.

    Returns:
        The normalised tokens, and a residual of zero for the first block.
    """
    _, normed_FND = plain_add_normalise(tokens, residual, groups, norm.eps)
    values_FND = residual.values
    tokens = Tokens.of(normed_FND * norm.weight + norm.bias, values_FND.dtype)
    return tokens, Residual(torch.zeros_like(values_FND), torch.zeros_like(norm.bias), None, "all")


def follow_weights(backbone: Backbone, config: ViTConfig) -> None:
    """Give a backbone the activation of a configuration, and the norm before the blocks or none.

    Args:
        backbone: A backbone with blocks of `Mlp`s and a module `norm_pre`. A norm that it gains has fresh weights.
        config: Its new configuration.
    """
    for module in backbone.modules():
        if isinstance(module, Mlp):
            module.approximate = APPROXIMATE[config.activation]
    if (backbone.norm_pre is not None) != config.norm_pre:
        backbone.register_module("norm_pre", pre_norm(config, next(backbone.parameters())))


def for_uint8(weight_DCYX: Tensor, bias_D: Tensor, mean_C11: Tensor, std_C11: Tensor) -> tuple[Tensor, Tensor]:
    """Change a patch embedding W x + b so that it takes x - MIDDLE_GREY for the pixels x of uint8 frames.

    The result equals that of the embedding for normalised frames: W (x / 255 - mean) / std + b.

    Args:
        weight_DCYX: W. A kernel over several frames has them along Y.
        bias_D: b.
        mean_C11: The mean of RGB in 0..1.
        std_C11: Its standard deviation.

    Returns:
        The changed weight and bias.
    """
    bias_D = bias_D + (weight_DCYX * ((MIDDLE_GREY / 255 - mean_C11) / std_C11)).sum((1, 2, 3))
    return weight_DCYX / (255 * std_C11), bias_D
