"""Which patches of which frames spoke for a class, and at which the model looked.

**Class relevance** asks what spoke for the class. With all that is not linear held at its value for the clip
(plain_forward.py), the score is linear in the embedded patches x. A patch's part in it is what it adds over the mean
patch of the clip, x̄:

    relevance[t, n] = max(0, Σ_d (x[t, n, d] - x̄[d]) · ∂score/∂x[t, n, d])
    score = logit of the class - Σ_k q_k · logit_k      over the other classes, q being their softmax, held as well

after Ali et al. 2022, "XAI for Transformers: Better Explanations through Conservative Propagation", which has no x̄. The
parts, before max, sum to what the score is more than that of a clip of mean patches. The gradient at the logits is that
of the log-odds log(p / (1 - p)). docs/using.md compares with other methods.

**Attention rollout** (Abnar & Zuidema 2020) asks where the model looked, whatever it then said. Each attention layer is
taken as a step of a random walk over the tokens: ½ (I + A), A being the mean over heads and I the residual connection.
In divided space-time attention a clip's tokens are one class token c and the patches (t, n), and a block is two steps:

    temporal   (t, n) → ½ (t, n) + ½ Σ_s A_n[t, s] · (s, n)                     A_n: temporal attention at patch n
               c → c                                                           it takes no part
    spatial    (t, n) → ½ (t, n) + ½ (A_t[n, c] · c + Σ_m A_t[n, m] · (t, m))   A_t: spatial attention in frame t
               c → ½ c + ½ · 1/T Σ_t (A_t[c, c] · c + Σ_m A_t[c, m] · (t, m))   its residual is the mean over frames

All rows sum to one. Of the product of all steps only the class token's row is asked for, so it is followed from the
last block to the first as a vector: a vector-matrix product a step, and never a matrix of T·N by T·N. As in the model,
each frame has a copy of the class token; a copy has 1/T of its weight.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cover.models.backbone import Attribution, Backbone
from cover.models.timesformer.model import TimeSformer
from cover.models.timesformer.plain_forward import BlockAttention, plain_forward


def attribute(backbone: Backbone, frames_TCYX: Tensor, score: Callable[[Tensor], Tensor]) -> Attribution:
    """Class relevance and attention rollout of one clip, for any kind of attention.

    Args:
        backbone: A TimeSformer.
        frames_TCYX: Normalised; an image is a clip of one frame.
        score: feature [D] → the number to explain.

    Returns:
        Shares of the patches. The relevance is all zero where nothing spoke for the class.
    """
    assert isinstance(backbone, TimeSformer)
    with torch.enable_grad():
        forward = plain_forward(backbone, frames_TCYX)
        explained = score(forward.feature)
    (gradient_TND,) = torch.autograd.grad(explained, forward.patches)
    patches_TND = forward.patches.detach()
    relevance_TN = ((patches_TND - patches_TND.mean((0, 1))) * gradient_TND).sum(-1).clamp(min=0)
    rollout_TN = roll_out(forward.blocks, one_class_token=backbone.config.attention == "divided")
    return Attribution(*(_shares(weights, backbone, frames_TCYX) for weights in (relevance_TN, rollout_TN)))


def roll_out(blocks: tuple[BlockAttention, ...], *, one_class_token: bool) -> Tensor:
    """The class token's row of the rollout, for the patches [T, N] (with joint attention, [1, T·N]).

    one_class_token: whether the class tokens of all frames are copies of one, as with divided attention.
    """
    weights_TN = torch.zeros_like(blocks[-1].spatial[:, 0, 0])
    weights_TN[:, 0] = 1 / len(weights_TN)
    for block in reversed(blocks):
        moved_TN = torch.einsum("tn,tnm->tm", weights_TN, block.spatial.mean(1))
        weights_TN = (weights_TN + moved_TN) / 2
        if one_class_token:
            weights_TN[:, 0] = weights_TN[:, 0].mean()
        if block.temporal is not None:
            moved_TN = torch.einsum("tn,nts->sn", weights_TN[:, 1:], block.temporal.mean(1))
            weights_TN[:, 1:] = (weights_TN[:, 1:] + moved_TN) / 2
    return weights_TN[:, 1:]


def _shares(weights: Tensor, model: TimeSformer, frames_TCYX: Tensor) -> Tensor:
    num_rows, num_columns = (side // model.config.patch_size_px for side in frames_TCYX.shape[2:])
    shares = weights.reshape(len(frames_TCYX), num_rows, num_columns)
    return (shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)).cpu()
