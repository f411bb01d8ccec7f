"""Every ViViT of `cover train` learns; keys that do not fit are refused. tests/test_families.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.family_runs import WriteMedia, recipe_of, section_of, write_mixture
from tests.terminal import Cover, terminal


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    """A recipe for a factorised encoder, beside manifests of videos and images."""
    work = write_mixture(tmp_path_factory.mktemp("vivit"), "", write_video, write_image)
    recipe_of(work, section_of("vivit"), max_steps=1).write(work / "recipe.toml")
    return work


@pytest.mark.parametrize("attention", ["joint", "factorised_attention", "factorised_heads"])
def test_the_other_models_train(cover: Cover, work: Path, tmp_path: Path, attention: str) -> None:
    sets = (f"model.attention={attention}", "model.temporal_depth=4")
    overrides = [part for change in sets for part in ("--set", change)]
    answer = cover("train", work / "recipe.toml", "--out", tmp_path / "run", *overrides)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.num_frames=3", "num_frames 3 is not a multiple of 2, the frames of a ViViT's tubelet; use 2 or 4"),
        ("model.attention=divided", "model.attention"),
        ("model.attention=joint", "temporal_depth is 2, but joint has no temporal blocks; remove it"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(cover: Cover, work: Path, change: str, message: str) -> None:
    answer = cover("train", work / "recipe.toml", "--out", work / "none", "--dry-run", "--set", change)
    assert answer.code == 2 and message in answer.err
