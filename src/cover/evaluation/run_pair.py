"""Two runs on one dataset, class by class and sample by sample: which classes did the other training help?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cover.evaluation.intervals import Estimate, difference, share
from cover.evaluation.result import DatasetResult, Predictions

NUM_EXAMPLES = 4
"""Number of example samples, each of another class."""


@dataclass(frozen=True)
class ClassChange:
    """One class under two runs, over the samples that both were evaluated on; at least one.

    Attributes:
        first_top1, second_top1: The share of the samples that a run gets right.
        only_first, only_second: The number of samples that only one run gets right.
    """

    class_name: str
    num_samples: int
    first_top1: float
    second_top1: float
    only_first: int
    only_second: int

    @property
    def difference(self) -> Estimate:
        """The second run's top-1 minus the first run's."""
        return difference(share(self.first_top1, self.num_samples), share(self.second_top1, self.num_samples))


@dataclass(frozen=True)
class Answer:
    """The most probable class of a sample, and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True)
class Disagreement:
    """A sample that exactly one of two runs gets right."""

    sample_id: str
    true_class: str
    first: Answer
    second: Answer

    @property
    def second_is_right(self) -> bool:
        """Whether the second run gets it right."""
        return self.second.class_name == self.true_class


@dataclass(frozen=True)
class RunPair:
    """Two runs on one dataset.

    Attributes:
        changes: The classes that have samples, from the largest gain of the second run to its largest loss.
        disagreements: Samples that exactly one run gets right, by class. The runs are surest about the first ones: the
            sum of their probabilities is largest.
    """

    dataset: str
    split: str
    first_run: str
    second_run: str
    changes: list[ClassChange]
    disagreements: dict[str, list[Disagreement]]

    def helped(self, count: int) -> list[ClassChange]:
        """The `count` classes with the largest gains of the second run."""
        return [change for change in self.changes if change.second_top1 > change.first_top1][:count]

    def hurt(self, count: int) -> list[ClassChange]:
        """The `count` classes with the largest losses of the second run, the largest first."""
        return [change for change in reversed(self.changes) if change.second_top1 < change.first_top1][:count]

    @property
    def helped_examples(self) -> list[Disagreement]:
        """A sample of each of the most helped classes, which only the second run gets right."""
        return [self._example(change, second_is_right=True) for change in self.helped(NUM_EXAMPLES)]

    @property
    def hurt_examples(self) -> list[Disagreement]:
        """A sample of each of the most hurt classes, which only the first run gets right."""
        return [self._example(change, second_is_right=False) for change in self.hurt(NUM_EXAMPLES)]

    def _example(self, change: ClassChange, *, second_is_right: bool) -> Disagreement:
        samples = self.disagreements[change.class_name]
        return next(sample for sample in samples if sample.second_is_right == second_is_right)


def pair_runs(first_run: str, first: DatasetResult, second_run: str, second: DatasetResult) -> RunPair | None:
    """Compare two results on the same split, over the samples that have the same id and label in both.

    Args:
        first_run, second_run: Names of the runs.
        first, second: Their results.

    Returns:
        None if a result has no predictions, or if the results have different classes or no common samples.
    """
    if first.predictions is None or second.predictions is None or first.class_names != second.class_names:
        return None
    shared = _Shared(first, second)
    if not shared.sample_ids:
        return None
    changes = shared.changes()
    changes.sort(key=lambda change: change.first_top1 - change.second_top1)
    return RunPair(first.dataset, first.split, first_run, second_run, changes, shared.disagreements())


class _Shared:
    """The S samples that two results have in common.

    Attributes:
        labels: [S].
        predicted, probabilities, right: [2, S].
    """

    def __init__(self, first: DatasetResult, second: DatasetResult) -> None:
        assert first.predictions is not None and second.predictions is not None
        self.class_names = first.class_names
        rows = {sample: row for row, sample in enumerate(_samples(second.predictions))}
        places = [(row, rows[sample]) for row, sample in enumerate(_samples(first.predictions)) if sample in rows]
        in_first, in_second = np.array(places, int).reshape(-1, 2).T
        self.sample_ids = [first.predictions.sample_ids[row] for row in in_first]
        self.labels = np.array(first.predictions.labels)[in_first]
        both = ((first.predictions, in_first), (second.predictions, in_second))
        self.predicted = np.stack([np.array(one.predicted)[chosen] for one, chosen in both])
        self.probabilities = np.stack([np.array(one.probabilities)[chosen] for one, chosen in both])
        self.right = self.predicted == self.labels

    def changes(self) -> list[ClassChange]:
        """The change of each class that has samples, in label order."""
        first, second = self.right
        sizes, *rights = (
            np.bincount(self.labels[chosen], minlength=len(self.class_names))
            for chosen in (slice(None), first, second, first & ~second, second & ~first)
        )
        return [
            ClassChange(self.class_names[label], size, in_first / size, in_second / size, only_first, only_second)
            for label, (size, in_first, in_second, only_first, only_second) in enumerate(
                zip(sizes.tolist(), *(counts.tolist() for counts in rights), strict=True)
            )
            if size
        ]

    def disagreements(self) -> dict[str, list[Disagreement]]:
        """The disagreements by class; those about which the runs are surest come first."""
        differing = np.flatnonzero(self.right[0] != self.right[1])
        surest_first = np.argsort(-self.probabilities[:, differing].sum(0), kind="stable")
        found: dict[str, list[Disagreement]] = {self.class_names[label]: [] for label in np.unique(self.labels)}
        for sample in differing[surest_first].tolist():
            disagreement = self._disagreement(sample)
            found[disagreement.true_class].append(disagreement)
        return found

    def _disagreement(self, sample: int) -> Disagreement:
        first, second = (
            Answer(self.class_names[predicted], float(probability))
            for predicted, probability in zip(self.predicted[:, sample], self.probabilities[:, sample], strict=True)
        )
        return Disagreement(self.sample_ids[sample], self.class_names[self.labels[sample]], first, second)


def _samples(predictions: Predictions) -> Iterator[tuple[str, int]]:
    """The id and label of each sample."""
    return zip(predictions.sample_ids, predictions.labels, strict=True)
