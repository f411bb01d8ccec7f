"""A comparison as JSON, for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from cover.evaluation.calibration import calibrate
from cover.evaluation.classes import RunPair
from cover.evaluation.comparison import Comparison, PolicyRow
from cover.evaluation.confusion import most_confused
from cover.evaluation.intervals import Estimate
from cover.evaluation.record import RunRecord
from cover.evaluation.result import DatasetResult

NUM_CONFUSIONS = 100


def comparison_json(comparison: Comparison) -> str:
    """{"runs": {run: …}, "datasets": {dataset: {"split", "results": {run: …}, "class_changes": […]}}}.

    Every share is a fraction, and every interval a 95 % one. "results" have the accuracies in each frame order, and of
    the normal order calibration and the most frequent confusions; "class_changes" have every class of two runs, and the
    samples that one gets right and the other wrong. null: not known.
    """
    values = {
        "runs": {record.name: _run(record) for record in comparison.records},
        "datasets": {row.dataset: _dataset(row, comparison) for row in comparison.policy_rows},
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _run(record: RunRecord) -> dict[str, Any]:
    return {"folder": str(record.folder), "policy": record.policy, "datasets": record.datasets}


def _dataset(row: PolicyRow, comparison: Comparison) -> dict[str, Any]:
    split = next(iter(row.by_run.values())).split
    records = {record.name: record for record in comparison.records}
    return {
        "split": split,
        "standard_run": row.standard_run,
        "results": {run: _result(result, records[run]) for run, result in row.by_run.items()},
        "class_changes": [_pair(pair) for pair in row.pairs],
    }


def _result(result: DatasetResult, record: RunRecord) -> dict[str, Any]:
    in_order = [each for each in record.results if (each.dataset, each.split) == (result.dataset, result.split)]
    return {
        "num_samples": result.num_samples,
        "num_unreadable": result.num_unreadable,
        "num_classes": len(result.class_names),
        "chance": result.chance,
        "views": result.views,
        "checkpoint": result.checkpoint,
        "top1": {each.order: _estimate(each.top1_estimate) for each in in_order},
        "top5": {each.order: each.top5 for each in in_order},
        "pair_accuracy": {each.order: each.pair_estimate and _estimate(each.pair_estimate) for each in in_order},
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
