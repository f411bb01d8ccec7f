from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.runs.tiny import SECTIONS, quiet

import cover
from cover.config.recipe import parse_recipe
from cover.datasets.layouts.class_folders import index_folder
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


def test_a_run_makes_a_timeline_and_watches(run: Path, write_video: WriteMedia, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=20)
    timeline = cover.timeline(run, video, window_seconds=0.4)
    assert timeline.duration_seconds == pytest.approx(0.8)
    assert timeline.stride_seconds == pytest.approx(0.1)
    assert {segment.label for segment in timeline.segments} <= {"cat", "dog"}
    change, *_ = cover.watch(run, str(video), window_seconds=0.2, threshold=1.0)
    assert (change.head, change.label) == ("pets", None)
