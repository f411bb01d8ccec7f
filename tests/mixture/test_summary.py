from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from tests.terminal import printed

from cover.datasets.manifest import Manifest
from cover.mixture.mixture import Dataset, Mixture
from cover.mixture.schedule import Reduction
from cover.mixture.summary import mixture_rows, mixture_table, mixture_warnings


@pytest.fixture
def mixture(video_manifest: Manifest, image_manifest: Manifest) -> Mixture:
    """Six videos and five images, three times as many images as videos in a batch of 16."""
    datasets = [
        Dataset(video_manifest, name="freedoom_moves", num_frames=4, rate=0.25),
        Dataset(image_manifest, name="freedoom_objects", loss_weight=0.5, rate=0.75),
    ]
    return Mixture(datasets, batch_size=16, image_size=32)


def test_rows_say_how_each_dataset_takes_part(mixture: Mixture) -> None:
    videos, images = mixture_rows(mixture)
    assert (videos.kind, videos.num_frames, videos.num_clips, videos.num_classes) == ("video", 4, 6, 2)
    assert (images.kind, images.num_frames, images.share, images.clips_per_batch) == ("image", 1, 0.75, 12)
    assert (videos.sample_weight, images.sample_weight) == (1 / 4, 0.5 / 12)
    assert videos.epochs_per_epoch == pytest.approx(0.25 * 11 / 6)
    assert json.loads(json.dumps(asdict(images)))["dataset"] == "freedoom_objects"


def test_pooled_samples_weigh_their_share_of_the_batch(mixture: Mixture) -> None:
    assert [row.sample_weight for row in mixture_rows(mixture, reduction="pooled")] == [1 / 16, 0.5 / 16]


def test_the_table_fits_a_terminal(mixture: Mixture) -> None:
    shown = printed(mixture_table(mixture_rows(mixture)), width=80)
    for word in ("freedoom_objects", "video", "75%", "0.0417", "1.65", "sample   epochs", "weight  / epoch"):
        assert word in shown


def test_shares_follow_the_temperature_and_even_classes_are_named(
    video_manifest: Manifest, image_manifest: Manifest
) -> None:
    datasets = [Dataset(video_manifest, name="moves", class_balanced=True), Dataset(image_manifest, name="objects")]
    for temperature, share in ((1, 6 / 11), (2, 6**0.5 / (6**0.5 + 5**0.5)), (math.inf, 0.5)):
        rows = mixture_rows(Mixture(datasets, batch_size=16, image_size=32, temperature=temperature))
        assert rows[0].share == pytest.approx(share, abs=1e-9)
    assert "classes equally often: moves" in printed(mixture_table(rows), width=80)


def test_heads_that_will_learn_nothing_are_named(video_manifest: Manifest, image_manifest: Manifest) -> None:
    datasets = [
        Dataset(video_manifest, name="moves", rate=0.999, loss_weight=0.0),
        Dataset(image_manifest, name="objects", rate=0.001),
    ]
    rows = mixture_rows(Mixture(datasets, batch_size=16, image_size=32))
    weightless, absent = mixture_warnings(rows, num_steps=50)
    assert weightless.startswith("datasets.moves.loss_weight = 0: its clips are decoded but its head learns nothing")
    assert absent.startswith("datasets.objects has 0.016 clips a batch, so 50 steps may contain none of them")
    assert mixture_warnings(rows, num_steps=100) == [weightless]


@pytest.mark.parametrize(
    ("reduction", "weight", "ratio"), [("dataset_mean", "1", "15.5"), ("expected_mean", "2", "31"), ("pooled", "", "")]
)
def test_a_clip_that_outweighs_others_is_warned_of(
    video_manifest: Manifest, image_manifest: Manifest, reduction: Reduction, weight: str, ratio: str
) -> None:
    """Half a video and 15.5 images a batch."""
    datasets = [Dataset(video_manifest, name="moves", rate=1), Dataset(image_manifest, name="objects", rate=31)]
    rows = mixture_rows(Mixture(datasets, batch_size=16, image_size=32), reduction)
    warnings = mixture_warnings(rows, num_steps=100)
    assert [warning.partition(";")[0] for warning in warnings] == [
        f"one clip of moves weighs {weight} in the loss, {ratio} times one of objects (0.0645)" for _ in warnings
    ]
    assert len(warnings) == (reduction != "pooled")
