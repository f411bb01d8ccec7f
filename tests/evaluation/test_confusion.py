from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cover.evaluation.confusion import confused_labels, most_confused
from cover.evaluation.result import DatasetResult

NAMES = ("push", "pull", "lift", "drop")
COUNTS = ((9, 1, 0, 0), (4, 6, 0, 0), (0, 0, 2, 4), (0, 0, 0, 10))


@pytest.fixture
def result(make_result: Callable[..., DatasetResult]) -> DatasetResult:
    return replace(make_result(), class_names=NAMES, confusion=COUNTS)


def test_the_most_frequent_confusions_come_first(result: DatasetResult) -> None:
    found = [(each.true_class, each.predicted_class, each.count, each.num_samples) for each in most_confused(result, 9)]
    assert found == [("lift", "drop", 4, 6), ("pull", "push", 4, 10), ("push", "pull", 1, 10)]
    assert most_confused(result, 1)[0].share == pytest.approx(2 / 3)


def test_the_most_confused_classes_are_whole_pairs(result: DatasetResult) -> None:
    assert confused_labels(result, 4) == [0, 1, 2, 3]
    assert confused_labels(result, 3) == [2, 3]


def test_who_confuses_nothing_has_no_confusions(result: DatasetResult) -> None:
    perfect = replace(result, confusion=((1, 0), (0, 1)), class_names=NAMES[:2])
    assert most_confused(perfect, 9) == [] and confused_labels(perfect, 9) == []
