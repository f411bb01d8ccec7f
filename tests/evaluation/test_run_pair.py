from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cover.evaluation.result import DatasetResult, Predictions
from cover.evaluation.run_pair import RunPair, pair_runs

MakeResult = Callable[..., DatasetResult]
NAMES = ("jump", "run", "wave")


@pytest.fixture
def result(make_result: MakeResult) -> Callable[..., DatasetResult]:
    """result({"a": ("jump", "run", 0.9)}): of each sample its true class, what was said, and how sure."""

    def result(samples: dict[str, tuple[str, str, float]]) -> DatasetResult:
        true, said, probabilities = zip(*samples.values(), strict=True)
        labels, predicted = (tuple(map(NAMES.index, names)) for names in (true, said))
        return replace(
            make_result(), class_names=NAMES, predictions=Predictions(tuple(samples), labels, predicted, probabilities)
        )

    return result


@pytest.fixture
def pair(result: Callable[..., DatasetResult]) -> RunPair:
    """Two runs of which the second is better at jumps, worse at runs, and equally good at waves."""
    first = {
        "j1": ("jump", "run", 0.5),
        "j2": ("jump", "wave", 0.9),
        "j3": ("jump", "jump", 0.7),
        "r1": ("run", "run", 0.6),
        "w1": ("wave", "wave", 0.6),
        "only the first could read it": ("run", "run", 0.6),
    }
    second = {
        "w1": ("wave", "wave", 0.9),
        "r1": ("run", "wave", 0.4),
        "j3": ("jump", "run", 0.99),
        "j2": ("jump", "jump", 0.9),
        "j1": ("jump", "jump", 0.9),
    }
    pair = pair_runs("std", result(first), "co", result(second))
    assert pair is not None
    return pair


def test_classes_go_from_the_most_helped_to_the_most_hurt_over_shared_samples(pair: RunPair) -> None:
    assert [(each.class_name, each.num_samples, each.only_first, each.only_second) for each in pair.changes] == [
        ("jump", 3, 1, 2),
        ("wave", 1, 0, 0),
        ("run", 1, 1, 0),
    ]
    jump = pair.changes[0]
    assert (jump.first_top1, jump.second_top1) == pytest.approx((1 / 3, 2 / 3))
    assert jump.difference.value == pytest.approx(1 / 3)
    assert jump.difference.lower < 0 < jump.difference.upper
    assert [each.class_name for each in pair.helped(9)] == ["jump"]
    assert [each.class_name for each in pair.hurt(9)] == ["run"]


def test_an_example_is_the_sample_that_only_the_better_run_gets_right_and_both_are_sure_of(pair: RunPair) -> None:
    (helped,), (hurt,) = pair.helped_examples, pair.hurt_examples
    assert (helped.sample_id, helped.first.class_name, helped.second.class_name) == ("j2", "wave", "jump")
    assert (helped.true_class, helped.first.probability) == ("jump", 0.9)
    assert (hurt.sample_id, hurt.first.class_name, hurt.second.class_name) == ("r1", "run", "wave")
    assert [sample.sample_id for sample in pair.disagreements["jump"]] == ["j2", "j3", "j1"]


def test_results_that_cannot_be_set_side_by_side_make_no_pair(make_result: MakeResult) -> None:
    result = make_result()
    assert pair_runs("a", result, "b", replace(result, predictions=None)) is None
    assert pair_runs("a", result, "b", replace(result, class_names=("other", "names"))) is None
    for other in (Predictions(("another/0",), (0,), (0,), (0.8,)), Predictions(("0/0",), (1,), (0,), (0.8,))):
        assert pair_runs("a", result, "b", replace(result, predictions=other)) is None, "of other samples, or labels"
