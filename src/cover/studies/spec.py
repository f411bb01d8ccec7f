"""A study: one TOML file that names the runs to be compared and the table they are to fill.

    extends = ["parts/world.toml"]      # datasets, arms and settings that studies share
    title = "More datasets"
    columns = ["scenes", "moves", "moves reversed"]

    [arms.scenes]                       # trained alone
    datasets = ["scenes"]

    [arms.both]                         # co-trained
    datasets = ["scenes", "moves"]

    [[rows]]
    name = "co-trained"
    arms = ["both"]

An arm is a way to train: a recipe but for its seed and the values that are tuned; it may be like another one. A row
shows the test results of one arm, or of several that train on different datasets.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from cover.config.layers import Section, Share, absolute_path, checked, map_paths, nested, read_layers, with_base
from cover.config.recipe import PATH_KEYS
from cover.evaluation.sample_views import FrameOrder
from cover.studies.arm import Arm, Names, Seeds, Settings, Tune, dotted_tune, each_once, whole_arms
from cover.studies.measure import PAIRS, VALIDATION, measure_of

_PATH_KEYS = [f"{part}{key}" for part in ("", "recipe.", "arms.*.recipe.") for key in PATH_KEYS if key != "init"]
"""Keys of a study that hold paths: its datasets, and those of its recipes."""


class Row(Section):
    """One line of the table.

    paper: what the paper reports, by `paper_columns`, in %. against: the rows that its runs are compared with, seed by
    seed. paper_difference: to the first of them, in points, where the paper tells no more.
    """

    name: str
    arms: Names
    paper: dict[str, float] = Field(default_factory=dict)
    against: Annotated[tuple[str, ...], AfterValidator(each_once)] = ()
    paper_difference: dict[str, float] = Field(default_factory=dict)


class Study(Section):
    """Runs and their table.

    question: what the table answers, a sentence or two. version: of the datasets; another one is another study.
    recipe: what all runs share: a recipe without policy, seed, init and datasets. columns: "DATASET" or
    "DATASET ORDER", test top-1 with the frames in the order normal, reversed, shuffled, or single; "DATASET pairs", the
    share of test clips told from their own class reversed in time; "DATASET val", validation top-1. results: file of
    all runs, beside the study's.
    """

    title: str
    question: str = ""
    version: int = 1
    seeds: Seeds = (0, 1, 2)
    init: str = ""
    share: Annotated[Share, Field(gt=0)] = 1.0
    tune: Tune = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    datasets: dict[str, dict[str, Any]]
    arms: dict[str, Arm]
    columns: Names
    paper_columns: Annotated[tuple[str, ...], AfterValidator(each_once)] = ()
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    results: Path = Path("results.jsonl")

    @model_validator(mode="after")
    def _check(self) -> Study:
        _check_study(self)
        self.needed_arms()
        return self

    def init_of(self, arm: str) -> str:
        """What an arm's weights start from: another arm, weights from elsewhere, or ""."""
        own = self.arms[arm].init
        return self.init if own is None else own

    def init_arm(self, arm: str) -> str:
        """The arm that an arm's weights start from, or ""."""
        return arm_named(self.init_of(arm))

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm."""
        return self.arms[arm].seeds or self.seeds

    def share_of(self, arm: str) -> float:
        """The share of the training samples that an arm sees."""
        return self.arms[arm].share or self.share

    def grid(self, arm: str) -> list[Settings]:
        """The settings that an arm's are chosen from, if by another arm, that one's; one, and maybe an empty one, where
        there is no choice."""
        if other := self.arms[arm].tuned_as:
            return self.grid(other)
        own = self.arms[arm].tune
        tune = self.tune if own is None else own
        return [dict(zip(tune, values, strict=True)) for values in product(*tune.values())]

    def needed_arms(self) -> list[str]:
        """Arms of the rows and those that they build on, each after what it builds on."""
        ordered: dict[str, None] = {}

        def add(arm: str, path: tuple[str, ...]) -> None:
            if arm in path:
                raise ValueError(
                    f"arms {' → '.join([*path, arm])} build on each other in a ring, by init or tuned_as; cut it"
                )
            for other in (self.init_arm(arm), self.arms[arm].tuned_as):
                if other:
                    add(other, (*path, arm))
            ordered.setdefault(arm)

        for row in self.rows:
            for arm in row.arms:
                add(arm, ())
        return list(ordered)

    def orders_of(self, arm: str) -> dict[str, tuple[FrameOrder, ...]]:
        """The frame orders in which an arm is tested, by dataset: those of the columns, where a row shows it."""
        if not any(arm in row.arms for row in self.rows):
            return {}
        wanted: dict[str, dict[FrameOrder, None]] = {}
        for dataset, measure in map(measure_of, self.columns):
            if dataset in self.arms[arm].datasets and measure != VALIDATION:
                wanted.setdefault(dataset, {}).setdefault("normal" if measure == PAIRS else measure)
        return {dataset: tuple(orders) for dataset, orders in wanted.items()}


def _with_absolute_paths(values: dict[str, Any], file: Path) -> dict[str, Any]:
    """The values of a file of a study; relative paths in it start from its folder. An init may also name an arm."""

    def absolute(init: str) -> str:
        return absolute_path(init, file.parent) if arm_named(init) != init else init

    return map_paths(with_base(values, _PATH_KEYS, file.parent), ("init", "arms.*.init"), absolute)


def read_study(path: Path) -> Study:
    """Read and check a study. Raises RecipeError naming the key, the value and the rule."""
    values = dotted_tune(read_layers(path, _with_absolute_paths))
    if isinstance(arms := values.get("arms"), dict):
        whole = whole_arms(arms, str(path))
        values["arms"] = {name: dotted_tune(arm) if isinstance(arm, dict) else arm for name, arm in whole.items()}
    study = checked(Study, values, str(path))
    return study.model_copy(update={"results": path.parent / study.results})


def _check_study(study: Study) -> None:
    """Raise ValueError where a study says what cannot be meant."""
    _check_settings(study, study.recipe, study.tune, "")
    _check_known("init", arm_named(study.init), study.arms)
    for name, arm in study.arms.items():
        _check_arm(study, name, arm)
    for column in study.columns:
        dataset, measure = measure_of(column)
        _check_known("columns", dataset, study.datasets)
        if measure == PAIRS and not study.datasets[dataset].get("reversal_pairs"):
            raise ValueError(
                f"column {column!r} is of classes that are each other reversed; name them: "
                f"datasets.{dataset}.reversal_pairs"
            )
    names = [row.name for row in study.rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two rows have the name {twice[0]!r}; give them one each")
    for row in study.rows:
        _check_row(study, row)


def arm_named(init: str) -> str:
    """The arm that an init names, "" where it is a path."""
    return "" if "/" in init else init


def _check_arm(study: Study, name: str, arm: Arm) -> None:
    for dataset in arm.datasets:
        _check_known(f"arms.{name}.datasets", dataset, study.datasets)
    _check_known(f"arms.{name}.init", arm_named(arm.init or ""), study.arms)
    _check_known(f"arms.{name}.tuned_as", arm.tuned_as, study.arms)
    if arm.tuned_as and arm.tune:
        raise ValueError(f"arms.{name} has both tune and tuned_as; settings are chosen by one of them")
    _check_settings(study, arm.recipe, arm.tune or {}, f"arms.{name}.")


def _check_settings(study: Study, recipe: dict[str, Any], tune: Collection[str], where: str) -> None:
    for part, values in ((f"{where}recipe", recipe), *((f"{where}tune", nested(key, {})) for key in tune)):
        if own := {"policy", "seed", "init"} & values.keys():
            raise ValueError(f"{part} says {min(own)}, which is for arms to say; they have policy, seeds and init")
        datasets = values.get("datasets", {})
        if not isinstance(datasets, dict) or not all(isinstance(section, dict) for section in datasets.values()):
            raise ValueError(f"{part}.datasets = {datasets!r} is not made of tables; write {{ NAME = {{ … }} }}")
        for name, section in datasets.items():
            _check_known(f"{part}.datasets", name, study.datasets)
            if paths := {"train", "val", "test"} & section.keys():
                raise ValueError(f"{part} has another {min(paths)} for {name}; give that a dataset of its own")


def _check_row(study: Study, row: Row) -> None:
    shown: dict[str, str] = {}
    for arm in row.arms:
        _check_known(f"row {row.name!r}", arm, study.arms)
        for dataset in study.arms[arm].datasets:
            if shown.setdefault(dataset, arm) != arm:
                raise ValueError(
                    f"row {row.name!r} has two arms that train on {dataset}, {shown[dataset]} and {arm}; "
                    "give each a row"
                )
    for other in row.against:
        _check_known(f"row {row.name!r}: against", other, [row.name for row in study.rows])
    if row.name in row.against:
        raise ValueError(f"row {row.name!r} is compared with itself; name another one: against")
    if row.paper_difference and not row.against:
        raise ValueError(f"row {row.name!r} has a paper_difference and no row to differ from; name it: against")
    for key, columns in (("paper", row.paper), ("paper_difference", row.paper_difference)):
        for column in columns:
            _check_known(f"row {row.name!r}: {key}", column, study.paper_columns)


def _check_known(where: str, name: str | None, known: Collection[str]) -> None:
    if name and name not in known:
        raise ValueError(
            f"{where} names {name!r}, which is not there; known are {', '.join(map(repr, known)) or 'none'}"
        )
