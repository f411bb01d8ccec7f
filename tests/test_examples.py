"""The examples run as they stand; tests/models/export and tests/test_second_family.py have the others."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from examples import own_head, predict_folder
from tests.terminal import Cover, terminal

from cover.core.run_files import find_checkpoint
from cover.datasets.layouts.class_folders import index_folder

RECIPE = Path(__file__).parents[1] / "examples" / "cotrain.toml"
SMALL = ["model.variant=timesformer_tiny", "model.depth=1", "model.image_size=32", "model.num_frames=2"]
SMALL += ["training.max_steps=2", "data.batch_size=4", "data.num_workers=0"]


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


def test_the_recipe_trains_and_its_run_predicts_and_lends_its_backbone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cover: Cover,
    write_video: Callable[..., Path],
    write_image: Callable[..., Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    for index in range(12):
        place = Path("val" if index % 3 == 2 else "train") / ("left" if index % 2 else "right") / str(index)
        write_video(Path("clips") / place.with_suffix(".mp4"), num_frames=6, width_px=48, height_px=40)
        write_image(Path("photos") / place.with_suffix(".png"), index, width_px=48, height_px=40)
    index_folder(Path("clips"), kind="video", out=Path("manifests"))
    index_folder(Path("photos"), kind="image", out=Path("manifests"))
    Path("cotrain.toml").write_text(RECIPE.read_text())
    overrides = [part for change in SMALL for part in ("--set", change)]
    assert cover("train", "cotrain.toml", *overrides).code == 0

    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    predict_folder.main("runs/cotrain", "clips", "answers.csv")
    rows = list(csv.DictReader(Path("answers.csv").read_text().splitlines()))
    assert len(rows) == 2 * 12 and {row["head"] for row in rows} == {"clips", "photos"}
    assert all(row["class"] in ("left", "right") and 0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert "skipped: clips/broken.mp4" in capsys.readouterr().err

    own_head.main(str(find_checkpoint(Path("runs/cotrain"))), "manifests/clips-train.arrow")
    assert capsys.readouterr().out.startswith("step 0: loss ")
