"""The weighted loss over the datasets of a mixture (paper, §3.3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.mixture.schedule import Reduction, loss_divisor
from cover.training.packed_batch import Targets


def dataset_losses(logits: Mapping[str, Tensor], batch: MixedBatch, label_smoothing: float = 0.0) -> dict[str, Tensor]:
    """Sum the cross-entropy of each dataset's clips.

    Args:
        logits: {dataset: [B, classes]}.
        batch: The clips. Mixed clips count towards both labels, by their weights.
        label_smoothing: Share of each target that is spread evenly over all classes.

    Returns:
        {dataset: float32 scalar}. Unreadable clips add nothing. An absent dataset gets a zero that stays connected to
        its head.
    """
    return {
        name: clip_losses(values.float(), batch[name], label_smoothing).sum() if name in batch else values.float().sum()
        for name, values in logits.items()
    }


def clip_losses(logits_BC: Tensor, clips: ClipBatch | Targets, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each clip, 0 if it is unreadable. logits_BC: [B, classes]. Returns [B]."""

    def towards(labels_B: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_BC, labels_B, ignore_index=UNREADABLE, reduction="none", label_smoothing=label_smoothing
        )

    if clips.partner_labels is None or clips.label_weights is None:
        return towards(clips.labels)
    return clips.label_weights * towards(clips.labels) + (1 - clips.label_weights) * towards(clips.partner_labels)


def weighted_sum(
    losses: Mapping[str, Tensor],
    batch: MixedBatch,
    weights: Mapping[str, float] | None = None,
    reduction: Reduction = "dataset_mean",
) -> Tensor:
    """Σ_i w_i · (mean cross-entropy of dataset i), as a scalar (paper, §3.3.2, with ℓ as a mean).

    The divisors are those of the whole step (MixedBatch.counts). So the parts of a step add up to the step's loss,
    however it is split into micro-batches and ranks.

    Args:
        losses: Summed cross-entropy of each dataset, from `dataset_losses`.
        batch: The clips that these losses belong to.
        weights: w_i; 1 for a dataset without one.
        reduction: See `loss_divisor`.
    """
    total = next(iter(losses.values())).new_zeros(())
    factors = loss_factors(batch, weights, reduction)
    for name, value in losses.items():
        total = total + factors[name] * value
    return total


def loss_factors(
    batch: MixedBatch, weights: Mapping[str, float] | None = None, reduction: Reduction = "dataset_mean"
) -> dict[str, float]:
    """What the summed cross-entropy of each dataset of the mixture is multiplied by, w_i / divisor; as above."""
    pooled = sum(batch.counts.values())
    return {
        name: (1.0 if weights is None else weights.get(name, 1.0))
        / loss_divisor(count, reduction, pooled=pooled, repeats=batch.repeats)
        for name, count in batch.counts.items()
    }


def loss(
    logits: Mapping[str, Tensor],
    batch: MixedBatch,
    weights: Mapping[str, float] | None = None,
    reduction: Reduction = "dataset_mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Compute the co-training loss of a batch: Σ_i w_i · (mean cross-entropy of dataset i) (paper, §3.3.2).

    Unreadable clips add nothing. The losses of a step's micro-batches add up to the loss of the step.

    Args:
        logits: {dataset: [B, classes]}, from the model; an absent dataset has B = 0.
        batch: The clips, with their labels.
        weights: w_i; 1 for a dataset without one.
        reduction: What a dataset's loss is divided by: its clips in the step ("dataset_mean"), the clips expected in a
            step ("expected_mean"), or all clips of the step ("pooled").
        label_smoothing: Share of each target that is spread over all classes of the dataset.

    Returns:
        A float32 scalar.
    """
    return weighted_sum(dataset_losses(logits, batch, label_smoothing), batch, weights, reduction)
