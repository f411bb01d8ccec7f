"""Which patches of which frames contributed to a class, and where the model looked.

**Class relevance** shows which patches contributed to a class. All nonlinear parts of the model are held at their
values for the clip (plain_forward.py), so the score is linear in the embedded patches x. The contribution of a patch is
what it adds compared with the mean patch of the clip, x̄:

    relevance[t, n] = max(0, Σ_d (x[t, n, d] - x̄[d]) · ∂score/∂x[t, n, d])
    score = logit of the class - Σ_k q_k · logit_k      k: the other classes, q: their softmax, also held

This follows Ali et al. 2022, "XAI for Transformers: Better Explanations through Conservative Propagation", which has no
x̄. Before the max, the contributions sum to the difference between the score and the score of a clip of mean patches.
The gradient at the logits is that of the log-odds log(p / (1 - p)). docs/using.md compares it with other methods.

**Attention rollout** (Abnar & Zuidema 2020) shows where the model looked, whatever class it predicted. Each attention
layer is one step of a random walk over the tokens, ½ (I + A), where A is the mean over heads and I is the residual
connection. With divided attention, the tokens of a clip are one class token c and the patches (t, n), and a block is
two steps:

    temporal   (t, n) → ½ (t, n) + ½ Σ_s A_n[t, s] · (s, n)                     A_n: temporal attention at patch n
               c → c                                                           no temporal attention
    spatial    (t, n) → ½ (t, n) + ½ (A_t[n, c] · c + Σ_m A_t[n, m] · (t, m))   A_t: spatial attention in frame t
               c → ½ c + ½ · 1/T Σ_t (A_t[c, c] · c + Σ_m A_t[c, m] · (t, m))   its residual is the mean over frames

All rows sum to one. Only the class token's row of the product of all steps is needed. It is a vector that is multiplied
by one step after another, from the last block to the first, so no matrix of T·N by T·N is ever formed. As in the model,
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
    """Compute class relevance and attention rollout of one clip.

    Args:
        backbone: A TimeSformer, with any kind of attention.
        frames_TCYX: Normalised frames. An image is a clip of one frame.
        score: feature [D] → the number to explain.

    Returns:
        The share of each patch. The relevance is all zero if no patch contributed to the class.
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
    """Compute the class token's row of the attention rollout.

    Args:
        blocks: The attention of each block, from the first to the last.
        one_class_token: Whether the class tokens of all frames are copies of one, as with divided attention.

    Returns:
        The weight of each patch, [T, N]; with joint attention, [1, T·N].
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
