"""What of a study has to go together: names that are there, rows and columns that can be told apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cover.config.layers import nested
from cover.studies.measure import PAIRS, measure_of

if TYPE_CHECKING:
    from cover.studies.arm import Arm
    from cover.studies.spec import Row, Study


def check_study(study: Study) -> None:
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
