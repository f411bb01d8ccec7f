from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.evaluation.evaluate import Predict, Processes, evaluate_dataset
from cover.evaluation.result import DatasetResult
from cover.media.reader import ClipReader


def reader_of(manifest: Manifest) -> ClipReader:
    return ClipReader(manifest, num_frames=4, crop_px=32, short_side_px=(36, 45), horizontal_flip=False)


def times_of(frames_tbcyx: Tensor) -> Tensor:
    """[T,B]: numbers that grow with time within every clip of the manifest (bits in a 4 × 4 grid, low bits first)."""
    grid = frames_tbcyx[:, :, 0, 4::8, 4::8].flatten(2)[..., :15] > 127
    return (grid * 2 ** torch.arange(15)).sum(-1).float()


def rises(clips: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model that calls clips whose number rises class 0, others class 1."""
    logits = {}
    for name, frames in clips.items():
        times = times_of(frames)
        logits[name] = torch.stack([times[-1] - times[0], times[0] - times[-1]], dim=1)
    return logits


def predicted(result: DatasetResult) -> list[int]:
    assert result.predictions is not None
    return list(result.predictions.predicted)


def test_every_sample_counts_once_whatever_the_batches(video_manifest: Manifest) -> None:
    results = [
        evaluate_dataset(rises, reader_of(video_manifest), name="clips", batch_size=size, num_workers=workers)
        for size, workers in ((1, 0), (4, 2), (6, 0))
    ]
    for result in results:
        assert result.num_samples == 6
        assert result.top1 == pytest.approx(0.5)  # all rise, half of them are of class 0
        assert predicted(result) == [0] * 6
        assert (result.chance, result.views, result.split, result.num_frames) == (0.5, "1x3", "train", 4)
        assert (result.image_size_px, result.manifest_digest) == (32, video_manifest.digest)


def test_reversal_turns_pair_accuracy_round(video_manifest: Manifest) -> None:
    accuracies = {}
    for order in ("normal", "reversed"):
        result = evaluate_dataset(
            always_right_about_direction(video_manifest),
            reader_of(video_manifest),
            name="clips",
            order=order,
            batch_size=6,
            reversal_pairs=[("jump", "run")],
        )
        accuracies[order] = result.pair_accuracy
    assert accuracies == {"normal": 1.0, "reversed": 0.0}


def always_right_about_direction(manifest: Manifest) -> Predict:
    """A model that tells a clip's class when time rises, and its partner when it falls."""

    def predict(clips: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = rises(clips)["clips"]
        labels = torch.from_numpy(np.repeat(manifest.labels, 3)).bool()
        return {"clips": torch.where(labels[:, None], logits.flip(1), logits)}

    return predict


def test_logits_not_decisions_are_averaged_over_views(video_manifest: Manifest) -> None:
    def two_weak_votes_against_a_strong_one(clips: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"clips": torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).repeat(2, 1)}

    reader = reader_of(video_manifest)
    result = evaluate_dataset(two_weak_votes_against_a_strong_one, reader, name="clips", batch_size=2)
    assert predicted(result) == [0] * 6


def test_views_multiply(image_manifest: Manifest) -> None:
    shapes = []

    def predict(clips: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes.append(tuple(clips["pictures"].shape))
        return {"pictures": torch.zeros(clips["pictures"].shape[1], 2)}

    result = evaluate_dataset(
        predict, reader_of(image_manifest), name="pictures", num_clips=2, num_crops=1, batch_size=4
    )
    assert shapes == [(1, 8, 3, 32, 32), (1, 2, 3, 32, 32)]
    assert (result.num_frames, result.views) == (1, "2x1")


def test_unreadable_samples_are_named_and_in_no_accuracy(video_manifest: Manifest) -> None:
    broken = video_manifest[0]
    broken.file.write_bytes(b"no video")
    result = evaluate_dataset(rises, reader_of(video_manifest), name="clips", batch_size=1)
    assert (result.num_samples, result.num_unreadable) == (5, 1)
    assert list(result.unreadable) == [broken.sample_id]
    assert str(broken.file) in result.unreadable[broken.sample_id]


def test_nothing_readable_is_an_error_not_an_accuracy(image_manifest: Manifest) -> None:
    for index in range(len(image_manifest)):
        image_manifest[index].file.write_bytes(b"no image")
    with pytest.raises(DecodeError, match="pictures: none of the 5 train samples can be decoded; check"):
        evaluate_dataset(rises, reader_of(image_manifest), name="pictures")


def test_processes_that_share_an_evaluation_each_get_the_result_of_one(video_manifest: Manifest) -> None:
    """Threads stand for processes. Of three batches the second process has one."""
    video_manifest[1].file.write_bytes(b"no video")
    barrier, lists = Barrier(2), {}

    def shared(rank: int) -> DatasetResult:
        def gather(own: list[Any]) -> list[Any]:
            lists[rank] = own
            barrier.wait(timeout=60)
            joined = [*lists[0], *lists[1]]
            barrier.wait(timeout=60)
            return joined

        return evaluate_dataset(
            rises, reader_of(video_manifest), name="clips", batch_size=2, processes=Processes(rank, 2, gather)
        )

    one = evaluate_dataset(rises, reader_of(video_manifest), name="clips", batch_size=2)
    with ThreadPoolExecutor(2) as threads:
        for result in threads.map(shared, (0, 1)):
            assert replace(result, seconds=0.0, finished="") == replace(one, seconds=0.0, finished="")


def test_kept_logits_are_those_of_the_predictions(video_manifest: Manifest, tmp_path: Path) -> None:
    result = evaluate_dataset(rises, reader_of(video_manifest), name="clips", batch_size=4, logits_folder=tmp_path)
    table = pq.read_table(tmp_path / result.logits_name)
    assert table.column_names == ["sample", "dataset", "label", "logits"]
    assert result.predictions is not None
    assert tuple(table["sample"].to_pylist()) == result.predictions.sample_ids
    assert tuple(table["label"].to_pylist()) == result.predictions.labels
    logits = torch.tensor(table["logits"].to_pylist())
    assert logits.argmax(1).tolist() == predicted(result)
    assert result.loss == pytest.approx(float(F.cross_entropy(logits, torch.tensor(result.predictions.labels))))
    about = json.loads(table.schema.metadata[b"cover"])
    assert (about["class_names"], about["dataset"]) == (list(video_manifest.class_names), "clips")
