"""Recipes that are probably not meant, each named in one line with the value, the rule and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cover.config.recipe_files import parse_recipe
from cover.datasets.manifest import write_manifest
from cover.datasets.names import Kind
from cover.runs.plan import plan


def warnings(
    folder: Path,
    classes: Sequence[str] = ("run", "swim"),
    labels: Sequence[int] = (0, 1) * 8,
    dataset: Mapping[str, Any] = {},
    kind: Kind = "video",
    **sections: Any,
) -> list[str]:
    """What is warned of in a recipe of one dataset, "moves", with 4 steps an epoch and 20 epochs unless changed."""
    rows = [{"sample_id": str(row), "path": f"{row}.mp4", "label": label} for row, label in enumerate(labels)]
    file = folder / "moves.arrow"
    write_manifest(file, rows, name="moves", kind=kind, split="train", class_names=list(classes), root=folder)
    values: dict[str, Any] = {"model": {"variant": "timesformer_tiny", "depth": 1}} | sections
    values["data"] = {"batch_size": 4} | values.get("data", {})
    values |= {"datasets": {"moves": {"train": str(file), **dataset}}}
    return list(plan(parse_recipe({"policy": "cotrain" if kind == "image" else "standard"} | values, "test")).warnings)


def test_an_ordinary_recipe_has_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, classes=("rightly bright", "cleft")) == []


def test_classes_that_mirroring_swaps_are_named(tmp_path: Path) -> None:
    classes = ("Pulling something from left to right", "turn_Left", "run", "swim", "jump-right", "to the right")
    labels = list(range(6)) * 2
    assert warnings(tmp_path, classes, labels) == [
        "datasets.moves.horizontal_flip = true mirrors half of the clips, and 4 classes name left or right ('Pulling "
        "something from left to right', 'turn_Left', 'jump-right', …); set it to false, or set mirror_pairs"
    ]
    assert warnings(tmp_path, classes, labels, dataset={"horizontal_flip": False}) == []
    pairs = [["turn_Left", "jump-right"], [classes[0], "to the right"]]
    assert warnings(tmp_path, classes, labels, dataset={"mirror_pairs": pairs}) == []
    (warning,) = warnings(tmp_path, classes, labels, dataset={"mirror_pairs": pairs[:1]})
    assert "2 classes name left or right ('Pulling something from left to right', 'to the right')" in warning


def test_a_probe_on_kept_features_mirrors_nothing(tmp_path: Path) -> None:
    probe: dict[str, Any] = {"policy": "probe", "init": "weights"}
    assert warnings(tmp_path, ("left", "right"), **probe) == []
    (warning,) = warnings(tmp_path, ("left", "right"), data={"cache_features": False}, **probe)
    assert "mirrors half of the clips" in warning


def test_classes_without_a_sample_and_heads_of_one_class_are_named(tmp_path: Path) -> None:
    assert warnings(tmp_path, ("run", "swim", "fly"), [0, 1] * 4) == [
        "datasets.moves: 1 of 3 classes have no training sample ('fly'), so they are never predicted; check "
        "data.exclude, or index the dataset without them"
    ]
    assert warnings(tmp_path, ("run",), [0] * 8) == [
        "datasets.moves has one class, 'run', so its loss is always 0 and its head learns nothing; leave it out, or "
        "index it with more classes"
    ]


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_steps_that_cut_the_schedule_off_are_named(tmp_path: Path, schedule: str) -> None:
    last = {"step": "0.005", "cosine": "0.0043"}[schedule]
    assert warnings(tmp_path, training={"max_steps": 20}, optimizer={"schedule": schedule}) == [
        "training.max_steps = 20 ends the run after 5 of 20 epochs and does not shorten the schedule, so the learning "
        f"rate ends at {last}; set training.epochs = 5 to shorten both"
    ]
    assert warnings(tmp_path, training={"max_steps": 80}, optimizer={"schedule": schedule}) == []


def test_drops_after_the_end_are_named(tmp_path: Path) -> None:
    drops = {"drop_epochs": [2, 10, 14.5]}
    assert warnings(tmp_path, training={"epochs": 10}, optimizer=drops) == [
        "optimizer.drop_epochs has 10, 14.5, and training.epochs = 10, so the learning rate never drops there; leave "
        "drop_epochs out, or set it to earlier epochs"
    ]
    assert warnings(tmp_path, training={"epochs": 10}, optimizer=drops | {"schedule": "cosine"}) == [
        "optimizer.drop_epochs belongs to schedule 'step', and optimizer.schedule = 'cosine' has none; leave "
        "drop_epochs out, or change the schedule"
    ]
    assert warnings(tmp_path, training={"epochs": 10}) == []


VIT = {"depth": 1, "width": 32, "num_heads": 2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"family": "videomae", **VIT}}, 'model.temporal_init = "random" has no effect: no layer of a'),
        ({"model": {"family": "vjepa2", **VIT}}, 'model.temporal_init = "random" has no effect: no layer of a'),
        ({"model": {"family": "video_swin"}}, 'model.temporal_init = "random" has no effect: no layer of a'),
        ({"model": {"family": "mvit"}}, 'model.temporal_init = "random" has no effect: without init, all weights'),
        ({"model": {"family": "vivit", **VIT}}, 'has no effect: no layer of attention = "joint" starts so'),
        ({"model": {"family": "vivit", "attention": "factorised_attention", **VIT}}, None),
        ({"model": {"attention": "joint", "image_temporal": "skip"}}, 'model.image_temporal = "skip" has no effect'),
        ({"model": {"attention": "space_only"}}, 'model.temporal_init = "random" has no effect: attention ='),
        ({"model": {"pooler_depth": 1}}, "model.pooler_depth = 1 has no effect: only a pooler has it, which head ="),
        ({"model": {"pooler_heads": 3}}, "model.pooler_heads = 3 has no effect"),
        ({"model": {"pooler_heads": 3, "head": "attentive"}}, None),
        ({"optimizer": {"name": "adamw", "momentum": 0.5}}, "optimizer.momentum = 0.5 has no effect: AdamW has betas"),
        ({"optimizer": {"schedule": "cosine", "drop_factor": 0.5}}, "optimizer.drop_factor = 0.5 has no effect: a"),
        ({"optimizer": {"weight_decay": 0.0, "decay_all": True}}, "optimizer.decay_all = true has no effect: weight_"),
        ({"optimizer": {"backbone_rate": 0.0, "layer_decay": 0.5}}, "optimizer.layer_decay = 0.5 has no effect: the b"),
        ({"optimizer": {"lora": {}, "layer_decay": 0.5}}, "optimizer.layer_decay = 0.5 has no effect: the backbone le"),
        ({"optimizer": {"lora": {}, "backbone_rate": 0.5}}, "optimizer.backbone_rate = 0.5 has no effect: the backbo"),
        ({"optimizer": {"lora": {"train": ["norm.*"]}, "layer_decay": 0.5}}, None),
        (
            {"optimizer": {"backbone_rate": 0.0}, "training": {"activation_checkpointing": 1}},
            "training.activation_checkpointing = 1 has no effect: the backbone is frozen",
        ),
        ({"training": {"evaluate_every_epochs": 2}}, "training.evaluate_every_epochs = 2.0 has no effect: no dataset"),
        ({"training": {"reduction": "pooled"}}, 'training.reduction = "pooled" has no effect: there is one dataset'),
        ({"data": {"rates": "sqrt"}}, 'data.rates = "sqrt" has no effect: there is one dataset; leave it out'),
        ({"dataset": {"rate": 2.0}}, "datasets.moves.rate = 2.0 has no effect: there is one dataset"),
        ({"data": {"cached_per_frame": 4}}, "data.cached_per_frame = 4 has no effect: cache_frames is off"),
        ({"dataset": {"cached_per_frame": 4}}, "datasets.moves.cached_per_frame = 4 has no effect"),
        ({"data": {"cached_per_frame": 4, "cache_frames": True}}, None),
        (
            {"data": {"scale_jitter": "inverse_uniform"}, "augmentation": {"random_resized_crop": [0.5, 1.0]}},
            'data.scale_jitter = "inverse_uniform" has no effect: random_resized_crop replaces short_side',
        ),
        (
            {"augmentation": {"randaugment": {"magnitude": 5.0}}},
            "augmentation.randaugment = { magnitude = 5.0 } has no effect: num_ops is 0",
        ),
        ({"fresh_heads": True}, "fresh_heads = true has no effect: there is no init"),
    ],
)
def test_keys_without_an_effect_are_named(tmp_path: Path, changes: dict[str, Any], expected: str | None) -> None:
    model = {"variant": "timesformer_tiny", "depth": 1} if "family" not in changes.get("model", {}) else {}
    sections = changes | {"model": model | {"temporal_init": "random"} | changes.get("model", {})}
    found = [line for line in warnings(tmp_path, **sections) if "has no effect" in line]
    if expected is None:
        assert found == []
    else:
        (line,) = found
        assert expected in line and line.endswith("; leave it out")


def test_keys_about_frames_have_no_effect_on_images(tmp_path: Path) -> None:
    options = {"num_frames": 4, "temporal_jitter": True, "sampling": {"stride_frames": 2}}
    assert [line.partition(" has")[0] for line in warnings(tmp_path, dataset=options, kind="image")] == [
        "datasets.moves.num_frames = 4",
        "datasets.moves.temporal_jitter = true",
        "datasets.moves.sampling = { stride_frames = 2 }",
    ]
    assert warnings(tmp_path, data={"temporal_jitter": True}, kind="image") == []  # for all datasets
