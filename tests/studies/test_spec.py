from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.studies.miniature import RATE, study_of

from cover.errors import RecipeError
from cover.studies.planning import Planner
from cover.studies.spec import Study, measure_of
from cover.studies.study_file import read_study

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_of_the_repository_are_read(file: Path) -> None:
    study = read_study(file)
    assert study.results == file.parent / "results.jsonl"
    assert all(Planner(study, {}).drafts(arm) for arm in study.needed_arms())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ["sights"]}, "columns names 'sights', which does not exist; known are 'scenes', 'moves'"),
        ({"columns": ["moves backwards"]}, "shows 'backwards', which is not a measure; use one of normal, reversed"),
        ({"arms": {"both": {"datasets": ["sights"]}}}, "arms.both.datasets names 'sights', which does not exist"),
        (
            {"arms": {"both": {"init": "pretrain"}}},
            "arms.both.init names 'pretrain', which does not exist; known are 'scenes'",
        ),
        ({"arms": {"both": {"tuned_as": "al"}}}, "arms.both.tuned_as names 'al', which does not exist"),
        (
            {"rows": [{"name": "a", "arms": ["al"]}]},
            "row 'a' names 'al', which does not exist; known are 'scenes', 'moves'",
        ),
        ({"rows": [{"name": "a", "arms": ["both"], "against": ["b"]}]}, "row 'a': against names 'b'"),
        (
            {"rows": [{"name": "a", "arms": ["both"], "paper_difference": {"K400": 1}}]},
            "no row to differ from; name it in against",
        ),
        (
            {"rows": [{"name": "a", "arms": ["both"], "paper": {"MiT": 1.0}}]},
            "paper names 'MiT'.* known are 'K400', 'SSv2'",
        ),
        ({"init": "pretrain"}, "init names 'pretrain', which does not exist"),
        (
            {"arms": {"both": {"init": "moves"}, "moves": {"init": "both"}}},
            "moves → both → moves depend on each other in a circle",
        ),
        ({"arms": {"both": {"share": 0.0}}}, r"arms.both.share = 0.0: input should be greater than 0"),
        ({"columns": ["moves", "scenes", "moves"]}, "columns = .*'moves' appears twice; name it once"),
        ({"columns": ["scenes pairs"]}, "needs pairs of reversed classes; list them in datasets.scenes.reversal_pairs"),
        ({"seeds": [0, 1, 0]}, "seeds = .*0 appears twice; name it once"),
        ({"seeds": []}, "seeds = .*it takes 1 or more"),
        ({"tune": {RATE: []}}, "learning_rate = .*it takes 1 or more"),
        ({"tune": {RATE: 0.1}}, "learning_rate = 0.1: it is a list; write . . around its values"),
        ({"rows": [{"name": "a", "arms": ["both"]}] * 2}, "two rows are named 'a'; give each its own name"),
        ({"rows": [{"name": "a", "arms": ["both"], "against": ["a"]}]}, "row 'a' is compared with itself"),
        ({"rows": [{"name": "a", "arms": ["both", "both"]}]}, "'both' appears twice"),
        ({"arms": {"both": {"tune": {RATE: [0.1]}, "tuned_as": "moves"}}}, "arms.both has both tune and tuned_as"),
        ({"arms": {"both": {"recipe": {"datasets": {"mvoes": {}}}}}}, "arms.both.recipe.datasets names 'mvoes'"),
        (
            {"arms": {"both": {"recipe": {"datasets": {"moves": {"test": "x"}}}}}},
            "recipe changes test of moves; define another dataset",
        ),
        ({"tune": {"datasets.mvoes.loss_weight": [0.1]}}, "tune.datasets names 'mvoes', which does not exist"),
        ({"recipe": {"datasets": 3}}, "recipe.datasets = 3 is not made of tables"),
        (
            {"arms": {"both": {"recipe": {"datasets": {"moves": 3}}}}},
            "both.recipe.datasets = .* is not made of tables",
        ),
        ({"tune": {"seed": [1]}}, "tune sets seed; an arm's own keys policy, seeds and init set it"),
        ({"seeds": [0, -1]}, "seeds.1 = -1: input should be greater than or equal to 0"),
        (
            {"rows": [{"name": "a", "arms": ["both", "moves"]}]},
            "two arms that train on moves, both and moves; giv",
        ),
        (
            {"rows": [{"nam": "a", "arms": ["both"]}]},
            "unknown key 'rows.0.nam'; did you mean 'name'\\? known here: name, arms",
        ),
        ({"colums": ["moves"]}, "unknown key 'colums'; did you mean 'columns'\\? known here: title, question"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^two.toml: .*{message}"):
        study_of(**changes)


def read(folder: Path, arms: str) -> Study:
    """A study of two datasets with these arms."""
    datasets = "datasets = { scenes = {}, moves = {} }"
    rows = 'rows = [{ name = "a", arms = ["scenes"] }]'
    (folder / "x.toml").write_text(f'title = "x"\ncolumns = ["scenes"]\n{rows}\n{datasets}\n{arms}')
    return read_study(folder / "x.toml")


def test_an_arm_is_like_another_but_for_what_it_says(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        """
        [arms.moves]
        like = "scenes"
        datasets = ["moves"]
        recipe = { training = { epochs = 3 } }
        [arms.reseeded]
        like = "moves"
        seeds = [7]
        tune = {}
        [arms.scenes]
        datasets = ["scenes"]
        share = 0.5
        tune = { "optimizer.learning_rate" = [0.1, 0.2] }
        recipe = { training = { epochs = 2, ema_decay = 0.9 } }
        """,
    )
    assert study.arms["moves"].datasets == study.arms["reseeded"].datasets == ("moves",)
    assert study.arms["reseeded"].recipe == {"training": {"epochs": 3, "ema_decay": 0.9}}
    assert len(study.grid("moves")) == 2 and study.grid("reseeded") == [{}]
    assert study.arms["reseeded"].share == 0.5 and study.seeds_of("moves") == (0, 1, 2)


@pytest.mark.parametrize(
    ("likes", "message"),
    [
        ({"scenes": "sights"}, "arms.scenes is like 'sights', which is not an arm; known are scenes"),
        (
            {"scenes": "moves", "moves": "scenes"},
            "arms scenes → moves → scenes are like each other in a circle; remove a like",
        ),
    ],
)
def test_an_arm_that_is_like_none_is_an_error(tmp_path: Path, likes: dict[str, str], message: str) -> None:
    arms = "".join(f'[arms.{name}]\ndatasets = ["scenes"]\nlike = "{other}"\n' for name, other in likes.items())
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, arms)


def test_keys_that_are_tuned_may_be_quoted_or_not(tmp_path: Path) -> None:
    arm = '[arms.scenes]\ndatasets = ["scenes"]\n'
    for tune in (
        f"[tune.optimizer]\nlearning_rate = [0.1]\n{arm}",
        f"{arm}tune.optimizer.learning_rate = [0.1]",
        f'{arm}tune = {{ "optimizer.learning_rate" = [0.1] }}',
    ):
        assert read(tmp_path, tune).grid("scenes") == [{RATE: 0.1}]


def test_weights_from_elsewhere_are_no_arm() -> None:
    study = study_of(init="weights/B_16.npz", arms={"both": {"init": "scenes"}})
    assert (study.init_of("moves"), study.init_arm("moves")) == ("weights/B_16.npz", "")
    assert study.init_arm("both") == "scenes"


def test_a_grid_is_the_product_of_its_values() -> None:
    study = study_of(
        tune={RATE: [0.1, 0.2]},
        arms={"moves": {"tune": {RATE: [1.0], "model.drop_path_rate": [0.0, 0.1]}}, "both": {"tune": {}}},
    )
    assert study.grid("scenes") == [{RATE: 0.1}, {RATE: 0.2}]
    assert study.grid("moves") == [{RATE: 1.0, "model.drop_path_rate": rate} for rate in (0.0, 0.1)]
    assert study.grid("both") == [{}]


def test_arms_have_the_studys_values_unless_they_say_so() -> None:
    study = study_of(init="scenes", share=0.5, arms={"scenes": {"init": ""}, "both": {"share": 1.0, "seeds": [7]}})
    assert (study.init_arm("scenes"), study.init_arm("both")) == ("", "scenes")
    assert (study.share_of("scenes"), study.share_of("both")) == (0.5, 1.0)
    assert (study.seeds_of("scenes"), study.seeds_of("both")) == ((0, 1, 2), (7,))


def test_needed_arms_come_after_those_that_they_build_on() -> None:
    spare = {"datasets": ["moves"]}
    study = study_of(
        arms={"scenes": {"tuned_as": "both"}, "both": {"init": "start"}, "start": spare, "unused": spare},
        rows=[{"name": "scenes", "arms": ["scenes"]}],
    )
    assert study.needed_arms() == ["start", "both", "scenes"]


def test_arms_are_tested_in_the_orders_of_the_columns_that_show_them() -> None:
    columns = ["scenes", "moves reversed", "moves pairs", "moves", "scenes val"]
    study = study_of(columns=columns, arms={"start": {"datasets": ["moves"]}, "moves": {"init": "start"}})
    assert study.orders_of("both") == {"scenes": ("normal",), "moves": ("reversed", "normal")}
    assert study.orders_of("start") == {}


def test_a_column_is_a_dataset_and_a_measure() -> None:
    assert measure_of("moves") == ("moves", "normal")
    assert measure_of("moves pairs") == ("moves", "pairs")
    with pytest.raises(ValueError, match="column 'moves fast' shows 'fast'"):
        measure_of("moves fast")
