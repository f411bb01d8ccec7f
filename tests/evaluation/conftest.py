"""Run folders as a trainer would leave them, with invented figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cover.evaluation.result import DatasetResult, Predictions
from cover.evaluation.sample_views import FrameOrder


def _result(
    dataset: str = "moves",
    top1: float = 0.5,
    order: FrameOrder = "normal",
    split: str = "test",
    pair_accuracy: float | None = None,
    num_samples: int = 100,
    predictions: bool = True,
    views: str = "1x3",
    checkpoint: str = "step-20",
    image_size_px: int | None = 64,
    manifest_digest: str | None = "3f2a9c01" * 8,
    finished: str = "2025-01-31T12:00:00+00:00",
) -> DatasetResult:
    num_right = round(top1 * num_samples / 2)
    num_wrong = num_samples // 2 - num_right
    confusion = ((num_right, num_wrong), (num_wrong, num_right))
    return DatasetResult(
        dataset=dataset,
        kind="video",
        split=split,
        order=order,
        views=views,
        num_frames=8,
        num_samples=num_samples,
        num_unreadable=0,
        chance=0.5,
        top1=top1,
        top5=None,
        pair_accuracy=pair_accuracy,
        num_pair_samples=num_samples if pair_accuracy is not None else 0,
        seconds=1.5,
        checkpoint=checkpoint,
        image_size_px=image_size_px,
        manifest_digest=manifest_digest,
        finished=finished,
        class_names=("in < $1", "out > $2"),
        confusion=None if predictions else confusion,
        unreadable={},
        predictions=_predictions(confusion) if predictions else None,
    )


def _predictions(confusion: tuple[tuple[int, int], ...]) -> Predictions:
    """Sample k of class c is called "c/k"; the first ones are right, with probability 0.8, the others with 0.6."""
    rows = [
        (f"{label}/{number}", label, label if number < row[label] else 1 - label)
        for label, row in enumerate(confusion)
        for number in range(sum(row))
    ]
    ids, labels, predicted = zip(*rows, strict=True)
    return Predictions(ids, labels, predicted, tuple(0.8 if a == b else 0.6 for _, a, b in rows))


@pytest.fixture
def make_result() -> Callable[..., DatasetResult]:
    """make_result(dataset, top1, order, …): an invented result over two classes."""
    return _result


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name, policy, datasets, results) → a run folder."""

    def make_run(name: str, policy: str, datasets: list[str], results: list[DatasetResult]) -> Path:
        run = tmp_path / name
        run.mkdir()
        model = 'variant = "timesformer_tiny"\nnum_frames = 8\nimage_size = 64\n'
        tables = "".join(f'[datasets.{json.dumps(dataset)}]\ntrain = "train.arrow"\n' for dataset in datasets)
        (run / "recipe.toml").write_text(f'policy = "{policy}"\n[model]\n{model}{tables}')
        (run / "mixture.json").write_text(json.dumps([{"dataset": name, "num_clips": 1200} for name in datasets]))
        losses = {dataset: {"loss": 2.0, "top1": 0.3, "clips": 4, "unreadable": 0} for dataset in datasets}
        lines: list[dict[str, object]] = [
            {"step": step, "epoch": step / 10, "seconds": 61.0 * step, "loss": 2.0, "datasets": losses}
            for step in range(1, 21)
        ]
        lines.append({"step": 20, "epoch": 2.0, "val": {dataset: {"top1": 0.4} for dataset in datasets}})
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "best").write_text("step-20\n")
        (run / "checkpoints" / "step-20").mkdir(parents=True)
        (run / "checkpoints" / "step-20" / "config.json").write_text("{}")
        for result in results:
            result.save(run / "evaluation")
        return run

    return make_run
