from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.runs.tiny import SECTIONS, MakeRecipe, quiet

import cover
from cover.config.recipe_files import parse_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.inference.feature_table import FeatureTable
from cover.runs.embed import embed, embed_queries
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun

WriteMedia = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_image: WriteMedia) -> Path:
    """A finished run of one step on pictures."""
    root = tmp_path_factory.mktemp("run")
    for number in range(6):
        write_image(root / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    (manifest,) = index_folder(root / "pets", kind="image", out=root)
    datasets = {"datasets": {"pets": {"train": str(manifest.path)}}}
    sections = SECTIONS | {"augmentation": {}, "training": {"max_steps": 1}}
    assert not train(plan(parse_recipe(sections | datasets | {"policy": "pretrain"}, "test")), root / "run", quiet())
    return root / "run"


def test_a_run_predicts_files_and_folders(run: Path, write_image: WriteMedia, tmp_path: Path) -> None:
    write_image(tmp_path / "pictures" / "a.png", 1)
    write_image(tmp_path / "pictures" / "b.png", 2)
    (tmp_path / "broken.jpg").touch()
    first, second = cover.predict(run, tmp_path / "pictures", top=1)
    assert (first.file.name, first.kind, len(first.heads["pets"])) == ("a.png", "image", 1)
    opened, errors = TrainedRun.open(run), list[cover.CoverError]()
    files: list[str | Path] = [tmp_path / "broken.jpg", str(tmp_path / "pictures" / "b.png")]
    (again,) = cover.predict(opened, files, top=1, on_unreadable=errors.append)
    assert again == second and "broken.jpg" in str(errors[0])
    with pytest.raises(cover.CoverError, match=r"1000000x3 views; give 1 to 1000 times of a video and 1 to 100 crops"):
        cover.predict(opened, files, num_clips=10**6)
    with pytest.raises(cover.CoverError, match=r"0x3 views; give 1 to 1000 times"):
        cover.predict(opened, files, num_clips=0)
    with pytest.raises(cover.CoverError, match="its heads are pets"):
        cover.predict(opened, files, heads=["k400"])


def test_each_head_is_shown_clips_as_in_its_training(
    recipe_of: MakeRecipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Predictions of files are those of an evaluation, whose clips have the length and window of their dataset."""
    options: dict[str, dict[str, object]] = {"jumps": {"sampling": {"stride_frames": 1}}, "turns": {"num_frames": 2}}
    recipe = recipe_of("cotrain", ["jumps", "turns", "pets"], options=options, training={"max_steps": 1})
    assert not train(plan(recipe), tmp_path / "run", quiet())
    opened = TrainedRun.open(tmp_path / "run")
    model = opened.model.get_parameter("backbone.patch_embed.proj.weight")
    model.data.mul_(20)  # so that answers differ from clip to clip
    for num_clips in (1, 3):
        for head in recipe.datasets:
            manifest = opened.manifest(head, "val")
            evaluated = opened.evaluate(head, manifest, "normal", num_clips=num_clips)
            assert evaluated.predictions
            assert evaluated.window == ("stride_frames = 1" if head == "jumps" else None)
            files = [row.file for row in manifest]
            predicted = list(cover.predict(opened, files, heads=[head], num_clips=num_clips))
            together = list(cover.predict(opened, files, num_clips=num_clips))
            shares = [prediction.heads[head][0][1] for prediction in predicted]
            assert shares == pytest.approx(list(evaluated.predictions.probabilities), abs=1e-5)
            assert shares == pytest.approx([prediction.heads[head][0][1] for prediction in together], abs=1e-5)
    assert {head: str(views) for head, views in together[0].views.items()} == {
        "jumps": "3x3 views of 4 frames, stride_frames = 1",
        "turns": "3x3 views of 2 frames, whole video",
        "pets": "3x3 views of 4 frames, whole video",
    }
    video = next(iter(opened.manifest("jumps", "val"))).file
    assert opened.explain(video, "jumps").times_seconds == pytest.approx([0.06, 0.1, 0.14, 0.18])
    assert opened.explain(video, "turns").times_seconds == pytest.approx([0.06, 0.18])

    alone, whole = (embed(opened, [video], [], head=head) for head in ("jumps", None))
    assert isinstance(alone, FeatureTable) and isinstance(whole, FeatureTable)
    assert "clips are of whole videos, because heads differ (jumps: 1x1 views of 4 frames, stride" in caplog.text
    assert not np.allclose(alone.features, whole.features)
    alone.save(tmp_path / "features.npy")
    (query,) = embed_queries(opened, FeatureTable.open(tmp_path / "features.npy"), [video]).values()
    assert np.allclose(query, alone.features[0])


def test_a_run_makes_a_timeline_and_watches(run: Path, write_video: WriteMedia, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=20)
    timeline = cover.timeline(run, video, window_seconds=0.4)
    assert timeline.duration_seconds == pytest.approx(0.8)
    assert timeline.stride_seconds == pytest.approx(0.1)
    assert {segment.class_name for segment in timeline.segments} <= {"cat", "dog"}
    opened = TrainedRun.open(run)
    assert cover.timeline(opened, video).window_seconds == 4
    windows = opened.recipe.data.model_copy(update={"sampling": {"window_seconds": 0.3}})
    trained_on_windows = replace(opened, recipe=opened.recipe.model_copy(update={"data": windows}))
    assert cover.timeline(trained_on_windows, video).window_seconds == 0.3
    change, *_ = cover.watch(run, str(video), window_seconds=0.2, threshold=1.0)
    assert (change.head, change.class_name) == ("pets", None)
