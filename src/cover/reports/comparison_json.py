"""A comparison as JSON, for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cover.evaluation.calibration import calibrate
from cover.evaluation.comparison import Comparison, Difference, OrderRow, PolicyRow
from cover.evaluation.confusion import most_confused
from cover.evaluation.intervals import Estimate
from cover.evaluation.result import DatasetResult
from cover.evaluation.run_pair import RunPair
from cover.evaluation.run_record import RunRecord

NUM_CONFUSIONS = 100


def comparison_json(comparison: Comparison) -> str:
    """Write a comparison as JSON.

        {"runs": {run: …}, "datasets": {dataset: {"split", "differences", "results": {run: …}, "class_changes"}}}

    Shares are fractions, and intervals are 95 % intervals. "results" has the accuracies in each frame order, and the
    calibration and most frequent confusions in normal order. "class_changes" has every class of two runs, and the
    samples that exactly one of them gets right. "differences" has the settings in which results differ. null means
    unknown. "pair_accuracy" is the reversal accuracy.
    """
    values = {
        "runs": {record.name: _run(record, comparison) for record in comparison.records},
        "datasets": {row.dataset: _dataset(row, comparison) for row in comparison.policy_rows},
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _run(record: RunRecord, comparison: Comparison) -> dict[str, Any]:
    return {
        "folder": str(record.folder),
        "policy": record.policy,
        "datasets": record.datasets,
        "checkpoint": record.checkpoint,
        "views": record.views,
        "has_results": record not in comparison.without_results,
    }


def _dataset(row: PolicyRow, comparison: Comparison) -> dict[str, Any]:
    orders = {order_row.run: order_row for order_row in comparison.order_rows if order_row.dataset == row.dataset}
    return {
        "split": row.split,
        "standard_run": row.standard_run,
        "differences": [_difference(difference) for difference in row.differences],
        "results": {run: _result(result, orders.get(run)) for run, result in row.by_run.items()},
        "class_changes": [_pair(pair) for pair in row.pairs],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {"setting": difference.setting, "values": difference.values}


def _result(result: DatasetResult, orders: OrderRow | None) -> dict[str, Any]:
    in_order = orders.results if orders else {result.order: result}
    return {
        "num_samples": result.num_samples,
        "num_unreadable": result.num_unreadable,
        "num_classes": len(result.class_names),
        "chance": result.chance,
        "views": result.views,
        "num_frames": result.num_frames,
        "image_size_px": result.image_size_px,
        "checkpoint": result.checkpoint,
        "manifest_digest": result.manifest_digest,
        "order_differences": [_difference(difference) for difference in orders.differences] if orders else [],
        "top1": {order: _estimate(each.top1_estimate) for order, each in in_order.items()},
        "top5": {order: each.top5 for order, each in in_order.items()},
        "mean_class": {order: each.mean_class for order, each in in_order.items()},
        "mean_average_precision": {order: each.mean_average_precision for order, each in in_order.items()},
        "loss": {order: each.loss for order, each in in_order.items()},
        "pair_accuracy": {
            order: each.pair_estimate and _estimate(each.pair_estimate) for order, each in in_order.items()
        },
        "calibration": asdict(calibrate(result.predictions)) if result.predictions else None,
        "most_confused": [asdict(confusion) for confusion in most_confused(result, NUM_CONFUSIONS)],
    }


def _pair(pair: RunPair) -> dict[str, Any]:
    return {
        "first_run": pair.first_run,
        "second_run": pair.second_run,
        "classes": [
            asdict(change)
            | {"difference": _estimate(change.difference)}
            | {"disagreements": [asdict(sample) for sample in pair.disagreements[change.class_name]]}
            for change in pair.changes
        ],
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
