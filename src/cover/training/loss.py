"""The weighted loss over the datasets of a mixture (paper, §3.3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.mixture.schedule import Reduction, loss_divisor
from cover.training.packed_batch import ONE_CLASS, HeadLoss, Targets, targets_of


def class_weights(labels: npt.NDArray[np.int32], num_classes: int, power: float) -> Tensor:
    """Weights of classes in proportion to their number of samples to the power of -`power`.

    Args:
        labels: Of all training samples.
        num_classes: Classes without a sample get weight 0.
        power: 1 gives the inverse frequencies, 0.5 their square roots.

    Returns:
        Float32 [classes], with a mean of 1 over the samples, so that the loss keeps its size.
    """
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    weights = np.divide(1.0, counts**power, out=np.zeros_like(counts), where=counts > 0)
    return torch.from_numpy(weights * (counts.sum() / (counts * weights).sum())).float()


def clip_losses(logits_BC: Tensor, targets: Targets, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each clip times the weight of its class, 0 if it is unreadable.

    Args:
        logits_BC: [B, classes].
        targets: Of the B clips.
        label_smoothing: Share of each target that is spread over all classes.

    Returns:
        [B].
    """

    def towards(labels_B: Tensor, weights_B: Tensor | None) -> Tensor:
        losses_B = F.cross_entropy(
            logits_BC, labels_B, ignore_index=UNREADABLE, reduction="none", label_smoothing=label_smoothing
        )
        return losses_B if weights_B is None else weights_B * losses_B

    own = towards(targets.labels, targets.class_weights)
    if targets.partner_labels is None or targets.label_weights is None:
        return own
    other = towards(targets.partner_labels, targets.partner_class_weights)
    return targets.label_weights * own + (1 - targets.label_weights) * other


def head_losses(
    logits_BC: Tensor, targets: Targets, head: HeadLoss = ONE_CLASS, label_smoothing: float = 0.0
) -> Tensor:
    """The loss of each clip, 0 if it is unreadable, by a head's own kind of loss.

    A cross-entropy of several classes takes their targets as a distribution: it divides them by their sum. A binary
    cross-entropy is the mean over classes.

    Args:
        logits_BC: [B, classes].
        targets: Of the B clips.
        head: Kind of loss, and whether clips have several classes.
        label_smoothing: Share of each target that is spread over all classes.

    Returns:
        [B].
    """
    if head == ONE_CLASS:
        return clip_losses(logits_BC, targets, label_smoothing)
    num_classes = logits_BC.shape[1]
    if head.num_targets:
        assert targets.classes is not None
        classes_BC = targets.classes[:, :num_classes]
    else:
        classes_BC = _one_hot(targets, num_classes)
    if head.kind == "cross_entropy":
        classes_BC = classes_BC / classes_BC.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    classes_BC = (1 - label_smoothing) * classes_BC + label_smoothing / num_classes
    if head.kind == "bce":
        losses_B = F.binary_cross_entropy_with_logits(logits_BC, classes_BC, reduction="none").mean(1)
    else:
        losses_B = F.cross_entropy(logits_BC, classes_BC, reduction="none")
    return torch.where(targets.labels == UNREADABLE, 0.0, losses_B)


def _one_hot(targets: Targets, num_classes: int) -> Tensor:
    """Targets of clips of one class each, or of two that are mixed: float32 [B, classes]."""
    own = F.one_hot(targets.labels.clamp(min=0), num_classes).float()
    if targets.partner_labels is None or targets.label_weights is None:
        return own
    other = F.one_hot(targets.partner_labels.clamp(min=0), num_classes).float()
    return other.lerp(own, targets.label_weights[:, None])


def _losses_of(logits_BC: Tensor, clips: ClipBatch, class_weights_C: Tensor | None, label_smoothing: float) -> Tensor:
    """The loss of each clip [B], by the default kind of loss of its dataset."""
    head = ONE_CLASS if clips.targets is None else HeadLoss("bce", logits_BC.shape[1])
    return head_losses(logits_BC, targets_of(clips, class_weights_C), head, label_smoothing)


def loss_factors(
    batch: MixedBatch, weights: Mapping[str, float] | None = None, reduction: Reduction = "dataset_mean"
) -> dict[str, float]:
    """What the summed cross-entropy of each dataset is multiplied by in `loss`, w_i / divisor; arguments as there.

    The divisors are those of the whole step (MixedBatch.counts). So the parts of a step add up to the step's loss,
    however it is split into micro-batches and ranks.
    """
    pooled = sum(count for name, count in batch.counts.items() if name not in batch.clips_of)
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
    class_weights: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Compute the co-training loss of a batch: Σ_i w_i · (mean cross-entropy of dataset i) (paper, §3.3.2).

    Each head of a clip with several (`MixedBatch.clips_of`) has its term in the sum. Clips with several classes have a
    binary cross-entropy, as in `head_losses`, and no class weights. Unreadable clips add nothing. The losses of a
    step's micro-batches add up to the loss of the step.

    Args:
        logits: {dataset: [B, classes]}, from the model; an absent dataset has B = 0.
        batch: The clips, with their labels.
        weights: w_i; 1 for a dataset without one.
        reduction: What a dataset's loss is divided by: its clips in the step ("dataset_mean"), the clips expected in a
            step ("expected_mean"), or all clips of the step ("pooled").
        label_smoothing: Share of each target that is spread over all classes of the dataset.
        class_weights: {dataset: [classes]}, the factor of a clip's cross-entropy by its class; 1 for a dataset without.

    Returns:
        A float32 scalar.
    """
    factors = loss_factors(batch, weights, reduction)
    total = next(iter(logits.values())).new_zeros((), dtype=torch.float32)
    for name, logits_BC in logits.items():
        values = logits_BC.float()
        # The zero of an absent dataset stays connected to its head, because DDP waits for every gradient.
        table = (class_weights or {}).get(name)
        losses = _losses_of(values, batch[name], table, label_smoothing) if name in batch else values
        total = total + factors[name] * losses.sum()
    return total
