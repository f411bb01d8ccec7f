from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests.studies.miniature import RATE, STUDY, Known, study_of

from cover.datasets.manifest import Manifest, ManifestRow, write_manifest
from cover.studies.planning import NotYetKnown, Planner, write_subset
from cover.studies.records import Record
from cover.studies.study_file import read_study


def key_of(arm: str = "both", seed: int = 0, out: Path = Path(), **changes: Any) -> str:
    return Planner(study_of(**changes), {}, out).finals(arm)[seed].key


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"version": 2},
        {"share": 0.5},
        {"recipe": {"optimizer": {"momentum": 0.8}}},
        {"arms": {"both": {"recipe": {"datasets": {"moves": {"loss_weight": 0.5}}}}}},
        {"tune": {RATE: [0.3]}},
        {"init": "scenes", "arms": {"scenes": {"init": ""}}},
    ],
    ids=str,
)
def test_a_key_changes_with_what_is_trained(changes: dict[str, Any]) -> None:
    assert key_of(**changes) != key_of()


@pytest.mark.parametrize(
    "changes",
    [
        {"out": Path("elsewhere")},
        {"title": "Other words", "columns": ["moves reversed"]},
        {"recipe": {"data": {"num_workers": 2}}},
        {"datasets": {"moves": {"train": "/data/train.arrow", "val": "/data/val.arrow", "test": "/data/test.arrow"}}},
        {"arms": {"both": {"seeds": [0, 5]}}},
    ],
    ids=str,
)
def test_a_key_stays_with_places_and_with_what_is_shown(changes: dict[str, Any]) -> None:
    assert key_of(**changes) == key_of()


def test_a_key_stays_with_where_frames_are_kept() -> None:
    cached = {"cache_frames": True}
    assert key_of(recipe={"data": cached | {"cache_folder": "frames"}}) == key_of(recipe={"data": cached})


def test_a_key_changes_with_the_weights_that_training_starts_from() -> None:
    arms = {"scenes": {"init": ""}}
    other = {"scenes": {"init": "", "recipe": {"optimizer": {"momentum": 0.8}}}}
    assert key_of(init="scenes", arms=arms) != key_of(init="scenes", arms=other)


def test_recipes_have_the_arms_datasets_and_policy_and_lie_below_the_folder() -> None:
    study = study_of(
        version=3, init="scenes", arms={"scenes": {"init": "", "policy": "pretrain"}, "both": {"share": 0.1}}
    )
    planner = Planner(study, {}, Path("work"))
    scenes, both = planner.finals("scenes")[2], planner.finals("both")[2]
    assert (scenes.recipe.policy, scenes.recipe.init, scenes.recipe.seed) == ("pretrain", None, 2)
    assert (both.recipe.policy, both.recipe.init) == ("cotrain", f"work/runs/{scenes.key}")
    assert both.init_key == scenes.key
    assert both.recipe.datasets["moves"].train == Path("work/manifests/moves-v3-10-percent.arrow")
    assert scenes.recipe.datasets["scenes"].train == Path("world/scenes-train.arrow")
    assert Planner(study, {}).finals("moves")[0].recipe.policy == "standard"


def test_settings_are_those_of_the_best_mean_validation() -> None:
    known = Known()
    planner = Planner(study_of(tune={RATE: [0.1, 0.2, 0.3]}), known)
    candidates = planner.candidates("both")
    assert [(run.seed, run.recipe.optimizer.learning_rate) for run in candidates] == [(0, 0.1), (0, 0.2), (0, 0.3)]
    with pytest.raises(NotYetKnown):
        planner.chosen("both")
    for run, scenes in zip(candidates, (0.6, 0.9, 0.8), strict=True):
        known[run.key] = Record(run.key, val={"scenes": scenes, "moves": 1 - scenes / 2})
    known[candidates[1].key] = Record(candidates[1].key, failed="the loss is nan")
    assert planner.chosen("both") == {RATE: 0.3}
    finals = planner.finals("both")
    assert [run.recipe.optimizer.learning_rate for run in finals.values()] == [0.3, 0.3, 0.3]
    assert finals[0].key == candidates[2].key  # the first seed was trained for the choice already


def test_an_arm_tuned_as_another_has_no_candidates() -> None:
    known = Known()
    planner = Planner(study_of(tune={RATE: [0.1, 0.2]}, arms={"moves": {"tuned_as": "scenes"}}), known)
    for run, val in zip(planner.candidates("scenes"), (0.5, 0.6), strict=True):
        known.tried(run, val)
    assert planner.candidates("moves") == []
    assert planner.finals("moves")[0].settings == {RATE: 0.2}


def test_weights_come_from_the_same_seed_or_else_the_first() -> None:
    study = study_of(arms={"scenes": {"seeds": [1, 2]}, "moves": {"init": "scenes"}})
    planner = Planner(study, {})
    starts = {seed: planner.init_run("moves", seed) for seed in (0, 1, 2)}
    assert {seed: run.seed for seed, run in starts.items() if run} == {0: 1, 1: 1, 2: 2}
    assert planner.init_run("scenes", 1) is None


def test_a_key_stays_with_the_place_of_an_exclusion_list(tmp_path: Path) -> None:
    def key(folder: str, name: str) -> str:
        file = tmp_path / folder / "two.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(tomli_w.dumps(STUDY | {"recipe": {"data": {"exclude": [name]}}}))
        return Planner(read_study(file), {}).finals("both")[0].key

    assert key("here", "leaks.csv") == key("there", "leaks.csv") != key("there", "others.csv")


@pytest.fixture
def whole(tmp_path: Path) -> Manifest:
    """Two classes, of 40 and 3 samples."""
    rows = [ManifestRow(f"{i}", f"{i}.mp4", label=int(i >= 40)) for i in range(43)]
    return write_manifest(
        tmp_path / "whole.arrow",
        rows,
        name="clips",
        kind="video",
        split="train",
        class_names=["run", "jump"],
        root=tmp_path / "media",
    )


def test_a_share_has_as_much_of_each_class_and_at_least_one(whole: Manifest, tmp_path: Path) -> None:
    part = write_subset(whole, 0.1, tmp_path / "parts" / "tenth.arrow")
    assert Counter(row.label for row in part) == {0: 4, 1: 1}
    assert (part.name, part.split, part.class_names) == (whole.name, whole.split, whole.class_names)
    assert part[0].file == tmp_path / "media" / part[0].path


def test_shares_are_nested_and_the_same_every_time(whole: Manifest, tmp_path: Path) -> None:
    shares = [write_subset(whole, share, tmp_path / f"{share}.arrow") for share in (0.1, 0.25, 0.5, 1.0)]
    ids = [{row.sample_id for row in part} for part in shares]
    assert ids[0] < ids[1] < ids[2] < ids[3]
    assert shares[3].digest == whole.digest
    assert write_subset(whole, 0.25, tmp_path / "again.arrow").digest == shares[1].digest
