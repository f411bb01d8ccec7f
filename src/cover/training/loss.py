"""The weighted loss over the datasets of a mixture (paper, §3.3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.mixture.schedule import Reduction, loss_divisor
from cover.training.packed_batch import Targets


def clip_losses(logits_BC: Tensor, clips: ClipBatch | Targets, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each clip, 0 if it is unreadable. logits_BC: [B, classes]. Returns [B]."""

    def towards(labels_B: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_BC, labels_B, ignore_index=UNREADABLE, reduction="none", label_smoothing=label_smoothing
        )

    if clips.partner_labels is None or clips.label_weights is None:
        return towards(clips.labels)
    return clips.label_weights * towards(clips.labels) + (1 - clips.label_weights) * towards(clips.partner_labels)


def loss_factors(
    batch: MixedBatch, weights: Mapping[str, float] | None = None, reduction: Reduction = "dataset_mean"
) -> dict[str, float]:
    """What the summed cross-entropy of each dataset is multiplied by in `loss`, w_i / divisor; arguments as there.

    The divisors are those of the whole step (MixedBatch.counts). So the parts of a step add up to the step's loss,
    however it is split into micro-batches and ranks.
    """
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
    factors = loss_factors(batch, weights, reduction)
    total = next(iter(logits.values())).new_zeros((), dtype=torch.float32)
    for name, logits_BC in logits.items():
        values = logits_BC.float()
        # The zero of an absent dataset stays connected to its head, because DDP waits for every gradient.
        losses = clip_losses(values, batch[name], label_smoothing) if name in batch else values
        total = total + factors[name] * losses.sum()
    return total
