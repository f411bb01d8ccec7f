from __future__ import annotations

import pytest

from cover.evaluation.calibration import calibrate
from cover.evaluation.result import Predictions


def predictions(*samples: tuple[float, bool]) -> Predictions:
    """(probability of the most probable class, whether it is the true one) a sample."""
    ids = tuple(map(str, range(len(samples))))
    return Predictions(
        ids, (0,) * len(ids), tuple(int(not right) for _, right in samples), tuple(p for p, _ in samples)
    )


def test_expected_error_is_the_gap_of_each_bin_weighted_by_its_samples() -> None:
    calibration = calibrate(predictions((0.95, True), (0.85, False), (0.45, True), (0.35, False)), num_bins=2)
    low, high = calibration.bins
    assert (low.num_samples, low.probability, low.top1) == (2, pytest.approx(0.4), 0.5)
    assert (high.num_samples, high.probability, high.top1) == (2, pytest.approx(0.9), 0.5)
    assert calibration.expected_error == pytest.approx((0.1 + 0.4) / 2)  # Guo et al. 2017, Eq. 3
    assert calibration.overconfidence == pytest.approx(0.65 - 0.5)


def test_a_bin_holds_its_upper_edge() -> None:
    bins = calibrate(predictions((0.2, True), (0.4, True), (0.41, True), (1.0, True)), num_bins=5).bins
    assert [each.num_samples for each in bins] == [1, 1, 1, 0, 1]
    assert (bins[3].probability, bins[3].top1) == (None, None)


def test_a_model_as_right_as_it_is_sure_has_no_error() -> None:
    calibration = calibrate(predictions(*[(0.75, number % 4 != 0) for number in range(40)]))
    assert len(calibration.bins) == 15
    assert calibration.expected_error == pytest.approx(0)
    assert calibration.overconfidence == pytest.approx(0)


def test_one_class_is_always_sure_and_right() -> None:
    calibration = calibrate(predictions((1.0, True), (1.0, True)))
    assert (calibration.expected_error, calibration.overconfidence, calibration.bins[-1].num_samples) == (0, 0, 2)
