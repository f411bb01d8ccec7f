"""What a study is: the runs to compare, and the table that they fill.

    extends = ["parts/world.toml"]      # datasets, arms and settings that several studies share
    title = "More datasets"
    columns = ["scenes", "moves", "moves reversed"]

    [arms.scenes]                       # trained alone
    datasets = ["scenes"]

    [arms.both]                         # co-trained
    datasets = ["scenes", "moves"]

    [[rows]]
    name = "co-trained"
    arms = ["both"]

An arm names a `Variant`, one way to train: a recipe without its seed and without the values that are tuned. A row shows
the test results of one arm, or of several arms that train on different datasets.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from cover.config.layers import Section, Share, nested
from cover.evaluation.sample_views import FRAME_ORDERS, FrameOrder

PAIRS: Literal["pairs"] = "pairs"
VALIDATION: Literal["val"] = "val"
Measure = FrameOrder | Literal["pairs", "val"]
MEASURES: tuple[Measure, ...] = (*FRAME_ORDERS, PAIRS, VALIDATION)
_Values = TypeVar("_Values", bound=tuple[Any, ...])


def _each_once(values: _Values) -> _Values:
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise ValueError(f"{twice[0]!r} appears twice; name it once")
    return values


Settings = dict[str, float]
"""Values of recipe keys, such as {"optimizer.learning_rate": 0.1}."""
Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_each_once)]
Tune = dict[str, Annotated[tuple[int | float, ...], Field(min_length=1), AfterValidator(_each_once)]]
"""The values to try for each setting."""


class Variant(Section):
    """One way to train."""

    like: str | None = None
    """An arm to inherit from. Keys stated here override its keys; the two recipes are merged."""
    datasets: Names
    """Names of datasets of the study."""
    policy: Literal["pretrain", "standard", "cotrain", "probe"] | None = None
    """By default "standard" for one dataset, "cotrain" for several."""
    init: str | None = None
    """Initial weights, instead of the study's: an arm, whose run of the same seed is taken, or else that of its first
    seed; a path with a "/", or "hf://", as in a recipe; "" for none."""
    share: Annotated[Share, Field(gt=0)] | None = None
    """Share of each class's training samples, instead of the study's."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Changes to the study's recipe."""
    tune: Tune | None = None
    """Values to choose from by validation top-1 with the first seed, by recipe key, instead of the study's."""
    tuned_as: str | None = None
    """An arm whose chosen settings are used instead."""
    seeds: Seeds | None = None
    """Seeds, instead of the study's."""


class Row(Section):
    """One row of the table."""

    name: str
    """First cell of the row."""
    arms: Names
    """The arms whose test results it shows, one for each dataset."""
    paper: dict[str, float] = Field(default_factory=dict)
    """What the paper reports, in %, by paper_columns."""
    against: Annotated[tuple[str, ...], AfterValidator(_each_once)] = ()
    """The rows that it is compared with, seed by seed."""
    paper_difference: dict[str, float] = Field(default_factory=dict)
    """The paper's difference to the first of these rows, in points, if it reports nothing else."""


class Study(Section):
    """Runs and the table that they fill."""

    title: str
    """Title of the table."""
    question: str = ""
    """What the table answers, in a sentence or two."""
    version: int = 1
    """Version of the datasets. Another version makes all runs new ones."""
    seeds: Seeds = (0, 1, 2)
    """Seeds of each arm's runs."""
    init: str = ""
    """Initial weights: an arm, a path with a "/", "hf://", or "" for none."""
    share: Annotated[Share, Field(gt=0)] = 1.0
    """Share of each class's training samples."""
    tune: Tune = Field(default_factory=dict)
    """Values to choose from, by recipe key."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """What all runs share: a recipe without policy, seed, init and datasets."""
    datasets: dict[str, dict[str, Any]]
    """Sections of a recipe, by name."""
    arms: dict[str, Variant]
    columns: Names
    """The column "DATASET" or "DATASET ORDER" is the test top-1 with frames in normal, reversed, shuffled or single
    order; "DATASET pairs" the reversal accuracy; "DATASET val" the validation top-1."""
    paper_columns: Annotated[tuple[str, ...], AfterValidator(_each_once)] = ()
    """Columns of the paper's table."""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    results: Path = Path("results.jsonl")
    """File with the results of all runs, beside the study's file."""

    @model_validator(mode="after")
    def _check(self) -> Study:
        _check_study(self)
        self.needed_arms()
        return self

    def init_of(self, arm: str) -> str:
        """The initial weights of an arm: another arm, a path, or ""."""
        own = self.arms[arm].init
        return self.init if own is None else own

    def init_arm(self, arm: str) -> str:
        """The arm whose weights an arm starts from, or ""."""
        return arm_named(self.init_of(arm))

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm."""
        return self.arms[arm].seeds or self.seeds

    def share_of(self, arm: str) -> float:
        """The share of the training samples that an arm sees."""
        return self.arms[arm].share or self.share

    def grid(self, arm: str) -> list[Settings]:
        """The settings to choose an arm's from, or those of the arm that it is tuned as.

        There is one entry, which may be empty, if there is nothing to choose.
        """
        if other := self.arms[arm].tuned_as:
            return self.grid(other)
        own = self.arms[arm].tune
        tune = self.tune if own is None else own
        return [dict(zip(tune, values, strict=True)) for values in product(*tune.values())]

    def needed_arms(self) -> list[str]:
        """The arms of the rows and the arms that they depend on, each after its dependencies."""
        ordered: dict[str, None] = {}

        def add(arm: str, path: tuple[str, ...]) -> None:
            if arm in path:
                raise ValueError(
                    f"arms {' → '.join([*path, arm])} depend on each other in a circle; remove an init or tuned_as"
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
        """The frame orders to test an arm in, by dataset: those of the columns, if a row shows the arm."""
        if not any(arm in row.arms for row in self.rows):
            return {}
        wanted: dict[str, dict[FrameOrder, None]] = {}
        for dataset, measure in map(measure_of, self.columns):
            if dataset in self.arms[arm].datasets and measure != VALIDATION:
                wanted.setdefault(dataset, {}).setdefault("normal" if measure == PAIRS else measure)
        return {dataset: tuple(orders) for dataset, orders in wanted.items()}


def measure_of(column: str) -> tuple[str, Measure]:
    """Split a column into its dataset and its measure: a frame order (test top-1), PAIRS, or VALIDATION.

    Raises:
        ValueError: There is no such measure.
    """
    dataset, _, measure = column.partition(" ")
    for known in MEASURES:
        if known == (measure or "normal"):
            return dataset, known
    raise ValueError(f"column {column!r} shows {measure!r}, which is not a measure; use one of {', '.join(MEASURES)}")


def arm_named(init: str) -> str:
    """The arm that an `init` names; "" if it is a path."""
    return "" if "/" in init else init


def _check_study(study: Study) -> None:
    """Raise ValueError where parts of a study contradict each other."""
    _check_settings(study, study.recipe, study.tune, "")
    _check_known("init", arm_named(study.init), study.arms)
    for name, variant in study.arms.items():
        _check_variant(study, name, variant)
    for column in study.columns:
        dataset, measure = measure_of(column)
        _check_known("columns", dataset, study.datasets)
        if measure == PAIRS and not study.datasets[dataset].get("reversal_pairs"):
            raise ValueError(
                f"column {column!r} needs pairs of reversed classes; list them in datasets.{dataset}.reversal_pairs"
            )
    names = [row.name for row in study.rows]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two rows are named {twice[0]!r}; give each its own name")
    for row in study.rows:
        _check_row(study, row)


def _check_variant(study: Study, name: str, variant: Variant) -> None:
    for dataset in variant.datasets:
        _check_known(f"arms.{name}.datasets", dataset, study.datasets)
    _check_known(f"arms.{name}.init", arm_named(variant.init or ""), study.arms)
    _check_known(f"arms.{name}.tuned_as", variant.tuned_as, study.arms)
    if variant.tuned_as and variant.tune:
        raise ValueError(f"arms.{name} has both tune and tuned_as; remove one of them")
    _check_settings(study, variant.recipe, variant.tune or {}, f"arms.{name}.")


def _check_settings(study: Study, recipe: dict[str, Any], tune: Collection[str], where: str) -> None:
    for part, values in ((f"{where}recipe", recipe), *((f"{where}tune", nested(key, {})) for key in tune)):
        if own := {"policy", "seed", "init"} & values.keys():
            raise ValueError(f"{part} sets {min(own)}; an arm's own keys policy, seeds and init set it")
        datasets = values.get("datasets", {})
        if not isinstance(datasets, dict) or not all(isinstance(section, dict) for section in datasets.values()):
            raise ValueError(f"{part}.datasets = {datasets!r} is not made of tables; write {{ NAME = {{ … }} }}")
        for name, section in datasets.items():
            _check_known(f"{part}.datasets", name, study.datasets)
            if paths := {"train", "val", "test"} & section.keys():
                raise ValueError(f"{part} changes {min(paths)} of {name}; define another dataset for it")


def _check_row(study: Study, row: Row) -> None:
    shown: dict[str, str] = {}
    for arm in row.arms:
        _check_known(f"row {row.name!r}", arm, study.arms)
        for dataset in study.arms[arm].datasets:
            if shown.setdefault(dataset, arm) != arm:
                raise ValueError(
                    f"row {row.name!r} has two arms that train on {dataset}, {shown[dataset]} and {arm}; "
                    "give each its own row"
                )
    for other in row.against:
        _check_known(f"row {row.name!r}: against", other, [row.name for row in study.rows])
    if row.name in row.against:
        raise ValueError(f"row {row.name!r} is compared with itself; name another row in against")
    if row.paper_difference and not row.against:
        raise ValueError(f"row {row.name!r} has a paper_difference but no row to differ from; name it in against")
    for key, columns in (("paper", row.paper), ("paper_difference", row.paper_difference)):
        for column in columns:
            _check_known(f"row {row.name!r}: {key}", column, study.paper_columns)


def _check_known(where: str, name: str | None, known: Collection[str]) -> None:
    if name and name not in known:
        raise ValueError(
            f"{where} names {name!r}, which does not exist; known are {', '.join(map(repr, known)) or 'none'}"
        )
