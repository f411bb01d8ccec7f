"""What a validation or evaluation counts for one head, and the number that chooses the best checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from cover.config.training_sections import MEASURE_NAMES, BestSection
from cover.errors import DecodeError, RecipeError
from cover.training.loss import head_losses
from cover.training.packed_batch import ONE_CLASS, HeadLoss, Targets

MIN_TOP5_CLASSES = 6
"""With fewer classes, top-5 is always or nearly always right."""


class ScoreSums:
    """Sums over the samples of one head. Those of batches and processes add up.

    Args:
        num_classes: C.
        head: Of the loss; and whether samples have several classes. Then the scores of all samples are kept.

    Attributes:
        sums: Float64 [2 + 2·C]: the summed loss, samples whose class is among the first five; then for each class its
            samples, and those of them that are right. Of several classes of a sample, the one with the largest logit
            counts.
        kept: Of multi-label samples, logits float32 [B, C] and whether each class applies, bool [B, C].
    """

    def __init__(self, num_classes: int, head: HeadLoss = ONE_CLASS) -> None:
        self.num_classes = num_classes
        self.head = head
        self.sums = torch.zeros(2 + 2 * num_classes, dtype=torch.float64)
        self.kept: list[tuple[Tensor, Tensor]] = []

    def add(self, logits_BC: Tensor, labels_B: Tensor, classes_BC: Tensor | None = None) -> None:
        """Count samples.

        Args:
            logits_BC: Float [B, C]. A sample whose logits are not finite is wrong.
            labels_B: int64 [B].
            classes_BC: Float [B, C], how much each class applies, of multi-label samples.
        """
        logits, labels = logits_BC.double().cpu(), labels_B.cpu()
        loss, top5, by_class = self.sums[:1], self.sums[1:2], self.sums[2:].unflatten(0, (2, -1))
        loss += head_losses(logits, Targets(labels, classes=classes_BC), self.head).sum()
        if classes_BC is not None:
            labels = answered_labels(logits, classes_BC)
            self.kept.append((logits_BC.float().cpu(), classes_BC >= 0.5))
        ranks = _ranks(logits, labels)
        top5 += (ranks < 5).sum()
        by_class[0] += labels.bincount(minlength=self.num_classes)
        by_class[1] += labels[ranks == 0].bincount(minlength=self.num_classes)

    @property
    def num_samples(self) -> int:
        """Samples counted so far."""
        return int(self.sums[2 : 2 + self.num_classes].sum())

    def scores(self) -> dict[str, float]:
        """The scores so far, over at least one sample.

        Returns:
            Shares "top1", "top5" (only of 6 classes or more), "mean_class" or, of multi-label samples, "map", and the
            mean "loss" in nats.
        """
        loss, top5 = self.sums[:2].tolist()
        samples, right = self.sums[2:].unflatten(0, (2, -1))
        seen, num_samples = samples > 0, self.num_samples
        top5_score = {"top5": top5 / num_samples} if self.num_classes >= MIN_TOP5_CLASSES else {}
        return {
            "top1": float(right.sum()) / num_samples,
            **top5_score,
            **self._class_score(right[seen] / samples[seen]),
            "loss": loss / num_samples,
        }

    def _class_score(self, accuracies: Tensor) -> dict[str, float]:
        if not self.kept:
            return {"mean_class": float(accuracies.mean())}
        logits, applies = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        return {"map": mean_average_precision(logits, applies)}


def validation_scores(counted: Mapping[str, ScoreSums]) -> dict[str, dict[str, float]]:
    """The scores of each dataset. Raises DecodeError if no sample of one was counted."""
    for name, sums in counted.items():
        if not sums.num_samples:
            raise DecodeError(f"no validation sample of {name} can be decoded; `cover check` its manifest")
    return {name: sums.scores() for name, sums in counted.items()}


def answered_labels(logits_BC: Tensor, classes_BC: Tensor) -> Tensor:
    """Of the classes of each sample, the one with the largest logit: int64 [B]."""
    return logits_BC.where(classes_BC > 0, -torch.inf).argmax(1)


def mean_average_precision(scores_NC: Tensor, applies_NC: Tensor) -> float:
    """The mean over classes of their average precision, Σ_n (R_n − R_{n−1}) · P_n over falling thresholds.

    Samples of equal score share a threshold, as in scikit-learn's average_precision_score. Classes without a sample do
    not count.

    Args:
        scores_NC: Float [N, C].
        applies_NC: Bool [N, C].
    """
    precisions = []
    for scores, applies in zip(scores_NC.T.contiguous(), applies_NC.T, strict=True):
        if not applies.any():
            continue
        falling, order = scores.sort(descending=True)
        right = applies[order].double().cumsum(0)
        ends = torch.cat([falling[1:] != falling[:-1], torch.ones(1, dtype=torch.bool)]).nonzero()[:, 0]
        precision, recall = right[ends] / (ends + 1), right[ends] / right[-1]
        precisions.append(float((recall.diff(prepend=recall.new_zeros(1)) * precision).sum()))
    return sum(precisions) / len(precisions) if precisions else 0.0


def _ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Count the classes that come before the true one, int64 [B].

    Of equal logits, the smaller label comes first, as in argmax, so the top-5 of constant logits is not above chance.
    """
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return torch.where(logits.isfinite().all(1), ranks, logits.shape[1])


def best_score(scores: Mapping[str, Mapping[str, float]], section: BestSection) -> float:
    """The number by which checkpoints are compared; the highest is the best.

    Args:
        scores: Of a validation, by dataset and measure.
        section: Which measure, and the weights of the datasets.
    """
    weights = section.weights or dict.fromkeys(scores, 1.0)
    mean = sum(weight * scores[name][section.measure] for name, weight in weights.items()) / sum(weights.values())
    return -mean if section.measure == "loss" else mean


def shown_scores(scores: Mapping[str, Mapping[str, float]], measure: str) -> str:
    """One measure of each dataset in one line, such as "top-1 %: k400 71.2, ssv2 50.0"."""
    if measure == "loss":
        return "loss: " + ", ".join(f"{name} {row[measure]:.3f}" for name, row in scores.items())
    shown = (f"{name} {100 * row[measure]:.1f}" for name, row in scores.items() if measure in row)
    return f"{MEASURE_NAMES[measure]} %: {', '.join(shown)}"


def check_best(section: BestSection, num_classes: Mapping[str, int], multi_label: Collection[str]) -> None:
    """Check that each dataset that counts has the measure that chooses the best checkpoint.

    Args:
        section: The measure, and the weights of the datasets.
        num_classes: Of the datasets that have a validation split.
        multi_label: The datasets whose samples have several classes.

    Raises:
        RecipeError: One does not.
    """
    for name in section.weights or num_classes:
        if section.measure == "top5" and num_classes[name] < MIN_TOP5_CLASSES:
            raise RecipeError(
                f"training.best.measure = 'top5', and {name} has only {num_classes[name]} classes; choose another "
                "measure, or give training.best.weights to other datasets alone"
            )
        if section.measure == ("mean_class" if name in multi_label else "map"):
            kind = "several classes" if name in multi_label else "one class"
            raise RecipeError(
                f"training.best.measure = {section.measure!r}, and samples of {name} have {kind}; choose another "
                "measure, or give training.best.weights to other datasets alone"
            )
