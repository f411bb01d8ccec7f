"""A run finds its data from any folder, after moves, and never takes other data for them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cover.config.recipe_files import read_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.datasets.manifest import Manifest
from cover.errors import CheckpointError, CoverError
from cover.runs.folder import RunFolder, parse_moves, run_of


@pytest.fixture
def project(tmp_path: Path, video_manifest: Manifest) -> Path:
    """PROJECT/data/clips-train.arrow and its clips, PROJECT/runs/a trained on them."""
    project = tmp_path / "project"
    (project / "runs" / "a").mkdir(parents=True)
    shutil.copytree(tmp_path / "clips", project / "data" / "clips")
    (manifest,) = index_folder(project / "data" / "clips", kind="video", out=project / "data")
    text = 'policy = "standard"\n[datasets.clips]\ntrain = "data/clips-train.arrow"\ntest = "data/clips-test.arrow"\n'
    (project / "clips.toml").write_text(text)
    recipe = read_recipe(project / "clips.toml")
    RunFolder(project / "runs" / "a").write(recipe, {"train": {"clips": manifest}, "test": {}})
    return project


def opened(run: RunFolder, split: str = "train") -> Path:
    """The manifest that the run opens, whose files are where it says."""
    manifest = run.open_manifest(run.read_recipe(), "clips", split)
    assert all(row.file.is_file() for row in manifest)
    return manifest.path


def test_a_run_is_used_from_any_folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert opened(RunFolder(Path("../project/runs/a"))) == project / "data" / "clips-train.arrow"


def test_run_and_data_move_together(project: Path, tmp_path: Path) -> None:
    project.rename(tmp_path / "moved")
    assert opened(RunFolder(tmp_path / "moved" / "runs" / "a")) == tmp_path / "moved" / "data" / "clips-train.arrow"


def test_a_run_that_moves_alone_finds_the_data_where_they_were(project: Path, tmp_path: Path) -> None:
    run = (project / "runs" / "a").rename(tmp_path / "a")
    assert opened(RunFolder(run)) == project / "data" / "clips-train.arrow"


def test_a_run_that_moves_alone_is_trained_on_with_its_data_and_never_with_others_than_named(
    project: Path, tmp_path: Path
) -> None:
    run = RunFolder((project / "runs" / "a").rename(tmp_path / "a"))
    clips = run.recipe_to_train().datasets["clips"]
    assert clips.train == project / "data" / "clips-train.arrow"
    assert clips.test == tmp_path.parent / "data" / "clips-test.arrow"  # it never existed
    other = run.recipe_to_train([f"datasets.clips.train={tmp_path / 'absent.arrow'}"])
    assert other.datasets["clips"].train == tmp_path / "absent.arrow"


def test_a_run_is_known_by_its_folder_and_its_recipe(project: Path) -> None:
    run = project / "runs" / "a"
    for path in (run, run / "recipe.toml"):
        found = run_of(path)
        assert found and found.path == run
    shutil.copy(project / "clips.toml", project / "recipe.toml")  # a recipe of the user's that has this name
    for path in (project / "recipe.toml", project, run / "manifests.json", project / "absent"):
        assert run_of(path) is None


def test_data_that_move_alone_are_named_and_found_with_moves(project: Path, tmp_path: Path) -> None:
    (project / "data").rename(tmp_path / "disk")
    with pytest.raises(
        CheckpointError,
        match=re.escape(
            f"the train manifest of clips is not at {project / 'data' / 'clips-train.arrow'}; if it has moved to "
            f"FOLDER, pass --data {project / 'data'}=FOLDER"
        ),
    ):
        opened(RunFolder(project / "runs" / "a"))
    moves = parse_moves([f"{project / 'data'}={tmp_path / 'disk'}"])
    assert opened(RunFolder(project / "runs" / "a", moves)) == tmp_path / "disk" / "clips-train.arrow"


def test_other_data_in_the_place_of_the_runs_are_refused_unless_allowed(project: Path) -> None:
    clips = project / "data" / "clips"
    next((clips / "jump").iterdir()).unlink()
    index_folder(clips, kind="video", out=project / "data")
    run = project / "runs" / "a"
    with pytest.raises(
        CheckpointError,
        match=re.escape(
            f"clips-train.arrow is not the train manifest of clips that {run} was trained with: its samples, labels or "
            "classes differ (5 samples, 6 then); restore it, or train a new run; train, evaluate and compare accept it "
            "with --allow-changed-data"
        ),
    ):
        opened(RunFolder(run))
    assert opened(RunFolder(run, allow_changed_data=True)) == project / "data" / "clips-train.arrow"


def test_a_split_that_is_indexed_after_training_is_accepted(project: Path) -> None:
    shutil.copy(project / "data" / "clips-train.arrow", project / "data" / "clips-test.arrow")
    assert opened(RunFolder(project / "runs" / "a"), "test") == project / "data" / "clips-test.arrow"


def test_paths_of_a_run_of_an_older_version_start_from_the_current_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project / "runs" / "a"
    (run / "manifests.json").unlink()
    shutil.copy(project / "clips.toml", run / "recipe.toml")
    monkeypatch.chdir(project)
    assert opened(RunFolder(run)) == project / "data" / "clips-train.arrow"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"an older version trained .*, and its paths start from the folder it"):
        opened(RunFolder(run))


@pytest.mark.parametrize("text", ["[]", '{"clips": {"train": {"path": 3}}}', "{", '{"clips": null}'])
def test_damaged_records_are_named(project: Path, text: str) -> None:
    run = project / "runs" / "a"
    (run / "manifests.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifests\.json is damaged \(.*\); restore it from a copy of the run"):
        opened(RunFolder(run))


@pytest.mark.parametrize("text", ["/old", "=/new", "/old="])
def test_moves_have_an_old_and_a_new_folder(text: str) -> None:
    with pytest.raises(CoverError, match=r"--data '.*' is not of the form OLD=NEW; write --data /old/folder=/new/fold"):
        parse_moves([text])


def test_data_move_to_a_folder_that_exists(tmp_path: Path) -> None:
    with pytest.raises(
        CoverError, match=r"--data /old=.*: .*/new is not a folder; name the folder that the data are in"
    ):
        parse_moves([f"/old={tmp_path / 'new'}"])
