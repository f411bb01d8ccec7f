from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cover.evaluation.confusion import confused_labels, confusion_shares, count_pairs, most_confused
from cover.evaluation.result import DatasetResult, Predictions

MakeResult = Callable[..., DatasetResult]
NAMES = ("push", "pull", "lift", "drop")
COUNTS = ((9, 1, 0, 0), (4, 6, 0, 0), (0, 0, 2, 4), (0, 0, 0, 10))


def by_predictions(result: DatasetResult, counts: tuple[tuple[int, ...], ...]) -> DatasetResult:
    pairs = [
        (label, predicted)
        for label, row in enumerate(counts)
        for predicted, count in enumerate(row)
        for _ in range(count)
    ]
    labels, predicted = zip(*pairs, strict=True)
    ids = tuple(map(str, range(len(pairs))))
    return replace(result, predictions=Predictions(ids, labels, predicted, (0.5,) * len(pairs)), confusion=None)


@pytest.fixture(params=["predictions", "the matrix of an older version"])
def result(request: pytest.FixtureRequest, make_result: MakeResult) -> DatasetResult:
    result = replace(make_result(), class_names=NAMES)
    if request.param == "predictions":
        return by_predictions(result, COUNTS)
    return replace(result, predictions=None, confusion=COUNTS)


def test_the_most_frequent_confusions_come_first(result: DatasetResult) -> None:
    found = [(each.true_class, each.predicted_class, each.count, each.num_samples) for each in most_confused(result, 9)]
    assert found == [("lift", "drop", 4, 6), ("pull", "push", 4, 10), ("push", "pull", 1, 10)]
    assert most_confused(result, 1)[0].share == pytest.approx(2 / 3)


def test_the_most_confused_classes_are_whole_pairs(result: DatasetResult) -> None:
    pairs = count_pairs(result)
    assert confused_labels(pairs, 4) == [0, 1, 2, 3]
    assert confused_labels(pairs, 3) == [2, 3]


def test_the_matrix_of_some_classes_has_all_others_in_its_last_column(result: DatasetResult) -> None:
    pairs = count_pairs(result)
    assert np.allclose(confusion_shares(pairs, [0, 1, 2, 3])[:, :-1], np.array(COUNTS) / [[10], [10], [6], [10]])
    assert np.allclose(confusion_shares(pairs, [1, 2]), [[0.6, 0, 0.4], [0, 1 / 3, 2 / 3]])


def test_who_confuses_nothing_has_no_confusions(make_result: MakeResult) -> None:
    perfect = by_predictions(make_result(), ((1, 0), (0, 1)))
    assert most_confused(perfect, 9) == [] and confused_labels(count_pairs(perfect), 9) == []
