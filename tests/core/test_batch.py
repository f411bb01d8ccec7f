from __future__ import annotations

from typing import Any

import pytest
import torch

from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch


def clip_batch(**changes: Any) -> ClipBatch:
    fields: dict[str, Any] = {
        "dataset": "k400",
        "frames": torch.zeros(8, 2, 3, 16, 24, dtype=torch.uint8),
        "labels": torch.tensor([4, UNREADABLE]),
        "sample_ids": ("a", "b"),
        "seeds": torch.tensor([1, 2]),
    }
    return ClipBatch(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": torch.zeros(8, 2, 3, 16, 24)}, "float32 [8, 2, 3, 16, 24]; a ClipBatch takes uint8 [T,B,C,Y,X]"),
        ({"frames": torch.zeros(2, 3, 16, 24, dtype=torch.uint8)}, "uint8 [2, 3, 16, 24]; a ClipBatch takes uint8"),
        ({"labels": torch.tensor([4])}, "labels are int64 [1]; 2 clips take int64 [2]"),
        ({"labels": torch.tensor([4.0, 1.0])}, "labels are float32 [2]; 2 clips take int64 [2]"),
        ({"seeds": torch.tensor([1, 2, 3])}, "seeds are int64 [3]; 2 clips take int64 [2]"),
        ({"sample_ids": ("a",)}, "1 sample ids for 2 clips"),
        (
            {"partner_labels": torch.tensor([4]), "label_weights": torch.ones(2)},
            "partner_labels are int64 [1]; 2 clips take int64 [2]",
        ),
        (
            {"partner_labels": torch.tensor([4, 1]), "label_weights": torch.ones(2, dtype=torch.float64)},
            "label_weights are float64 [2]; 2 clips take float32 [2]",
        ),
        ({"label_weights": torch.ones(2)}, "partner_labels and label_weights come together or not at all"),
    ],
)
def test_shapes_and_types_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        clip_batch(**changes)
    assert message in str(caught.value)


def test_all_tensors_go_to_another_device_together() -> None:
    mixed = clip_batch(partner_labels=torch.tensor([1, 2]), label_weights=torch.ones(2))
    for batch in (clip_batch(), mixed):
        moved = batch.to(torch.device("meta"))
        devices = {name: value.device.type for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
        assert set(devices.values()) == {"meta"} and len(devices) == (5 if batch is mixed else 3)


def test_a_mixed_batch_checks_names_and_counts() -> None:
    with pytest.raises(ValueError, match="the clips under 'ssv2' belong to dataset 'k400'"):
        MixedBatch({"ssv2": clip_batch()}, {"ssv2": 2}, step=0)
    with pytest.raises(ValueError, match="no count for dataset 'k400'; counts name \\['ssv2'\\]"):
        MixedBatch({"k400": clip_batch()}, {"ssv2": 2}, step=0)


def test_a_batch_prints_its_shapes() -> None:
    readable = clip_batch(labels=torch.tensor([4, 1]))
    batch = MixedBatch({"k400": readable}, {"k400": 2, "ssv2": 0.5}, step=7)
    assert repr(batch) == "MixedBatch(step 7: ClipBatch(k400, frames uint8 [8, 2, 3, 16, 24]))"
    assert repr(clip_batch()) == "ClipBatch(k400, frames uint8 [8, 2, 3, 16, 24], 1 unreadable)"
    assert (batch.num_clips, readable.num_clips, readable.num_frames) == (2, 2, 8)
    assert dict(batch) == {"k400": readable} and "ssv2" not in batch
