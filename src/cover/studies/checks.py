"""What is seen to before the first run of a study is trained."""

from __future__ import annotations

from pathlib import Path

from cover.config.recipe import Recipe
from cover.datasets.manifest import Manifest
from cover.errors import CoverError, RecipeError
from cover.models.sources import HUB
from cover.runs.plan import plan, training_manifests
from cover.studies.planning import Planner
from cover.studies.spec import Study


def check_files(study: Study) -> None:
    """See to it that all weights and manifests are there that the study will read. Raises CoverError."""
    for arm in study.needed_arms():
        if "/" in (init := study.init_of(arm)) and not init.startswith(HUB) and not Path(init).exists():
            raise RecipeError(f"arm {arm}: init = {init!r} does not exist; put the weights there, or name an arm")
        for dataset in study.arms[arm].datasets:
            for split in ("train", "val", "test") if dataset in study.orders_of(arm) else ("train", "val"):
                if not (path := study.datasets[dataset].get(split)):
                    raise RecipeError(f"datasets.{dataset} has no {split}, which arm {arm} takes; name a manifest")
                Manifest.open(path)


def check_runs(planner: Planner) -> None:
    """See to it that every arm can be trained on its manifests, and that what is known of its runs is of those.

    Raises the CoverError that a run would end with, as far as it can be known before one is trained.
    """
    for arm in planner.study.needed_arms():
        draft, *_ = planner.drafts(arm)  # the others differ in numbers, which making a recipe has checked
        try:
            plan(draft)
        except CoverError as error:
            raise CoverError(f"arm {arm}: {error}") from None
        _check_records(planner, arm, draft)


def _check_records(planner: Planner, arm: str, recipe: Recipe) -> None:
    records = planner.recorded(arm)
    if not records:  # digests take seconds where there are millions of rows
        return
    trained = {name: manifest.digest for name, manifest in training_manifests(recipe).items()}
    study = planner.study
    tested = {name: Manifest.open(study.datasets[name]["test"]).digest for name in study.orders_of(arm)}
    for record in records:
        for split, known, digests in (("training", record.digests, trained), ("test", record.test_digests, tested)):
            if others := [name for name in digests if known.get(name, digests[name]) != digests[name]]:
                raise CoverError(
                    f"the {split} samples of {others[0]} are not those of seed {record.seed} of arm {arm} in "
                    f"{study.results}; restore the manifest and data.exclude, or give the study another version"
                )
