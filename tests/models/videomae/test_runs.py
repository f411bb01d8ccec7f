"""A VideoMAE starts from an image model; keys that do not fit it are refused. tests/test_families.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.family_runs import WriteMedia, recipe_of, section_of, write_mixture
from tests.models.foreign import create_vit, timm_state
from tests.terminal import Cover, terminal


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A recipe beside manifests of videos and images."""
    work = write_mixture(tmp_path_factory.mktemp("videomae"), "", write_video, write_image)
    recipe_of(work, section_of("videomae"), max_steps=1).write(work / "recipe.toml")
    return work


def test_a_run_starts_from_an_image_model(cover: Cover, work: Path, tmp_path: Path) -> None:
    torch.save(timm_state(create_vit()), tmp_path / "vit.pth")
    sets = (f"init={tmp_path / 'vit.pth'}", "model.width=128")
    overrides = [part for change in sets for part in ("--set", change)]
    assert cover("train", work / "recipe.toml", "--out", tmp_path / "run", "--dry-run", *overrides).code == 0
    answer = cover("train", work / "recipe.toml", "--out", tmp_path / "run", *overrides)
    assert answer.code == 0 and "tensors: 30 loaded, 4 fresh" in answer.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.num_frames=3", "num_frames 3 is not a multiple of 2, the frames of a VideoMAE's tubelet; use 2 or 4"),
        ("model.attention=joint", "model.attention"),
        ("model.variant=timesformer_base", "model.variant"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(cover: Cover, work: Path, change: str, message: str) -> None:
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--dry-run", "--set", change)
    assert answer.code == 2 and message in answer.err
