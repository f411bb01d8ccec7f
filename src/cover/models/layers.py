"""Layers that several families share: the MLP of a block, and patch embeddings that normalise uint8 frames."""

from __future__ import annotations

from torch import Tensor, nn

from cover.models.kernels.backend import compute_dtype
from cover.models.kernels.mlp import Approximate, mlp
from cover.models.kernels.products import Input
from cover.models.linear import Linear, after_norm, in_dtype

MIDDLE_GREY = 128
"""Subtracted from pixels of 0 to 255. The results are small whole numbers, which are exact in bfloat16."""


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
