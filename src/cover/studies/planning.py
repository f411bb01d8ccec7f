"""From a study and the results so far to its runs: which there are, with which settings, by which recipes.

Before the first run is trained, `check_inputs` and `check_runs` look for whatever would end one, and `write_subsets`
writes the manifests of arms that train on a share of the samples.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cover.config.layers import map_path, map_paths, nested, overlaid
from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.datasets.manifest import Manifest, write_manifest
from cover.errors import CoverError, RecipeError
from cover.evaluation.sample_views import FrameOrder
from cover.models.loading import check_fits
from cover.models.sources import HUB, open_source, split_key
from cover.runs.data import training_manifests
from cover.runs.plan import plan
from cover.studies.records import Record
from cover.studies.spec import Settings, Study

LOCATION_KEYS: dict[str, Any] = {
    "init": True,
    "data": {"cache_folder", "num_workers"},
    "datasets": {"__all__": {"train", "val", "test"}},
}
"""Keys of a recipe that say where something is or how fast it runs, not what is trained."""


class NotYetKnown(Exception):
    """The settings of an arm have not been chosen yet."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of an arm.

    Attributes:
        key: A digest of what is trained: the parts of the recipe that are not defaults, without paths; the share of the
            samples; and `init_key`.
        recipe: An init that is a run, and manifests of shares, lie below the folder that the study works in.
        init_key: The key of the run that it starts from, or the path of other weights, whose content is not read.
        tests: The frame orders to test it in, by dataset.
    """

    key: str
    arm: str
    seed: int
    settings: Settings
    share: float
    recipe: Recipe
    init_key: str
    tests: Mapping[str, tuple[FrameOrder, ...]]


class Planner:
    """The runs of a study.

    Args:
        study: The study.
        records: The results so far, by key. Runs are planned with what is in it at the time of the call.
        out: The folder that the study works in: OUT/runs/KEY, OUT/manifests.
    """

    def __init__(self, study: Study, records: dict[str, Record], out: Path = Path()) -> None:
        self.study = study
        self.records = records
        self.out = out

    def drafts(self, arm: str) -> list[Recipe]:
        """A recipe for each of the settings to choose an arm's from; its initial weights need not exist yet."""
        init = self.study.init_of(arm)
        if name := self.study.init_arm(arm):
            init = str(self.run_folder(f"of-{name}"))
        seed = self.study.seeds_of(arm)[0]
        return [self._recipe(arm, seed, settings, init) for settings in self.study.grid(arm)]

    def candidates(self, arm: str) -> list[PlannedRun]:
        """The runs that choose an arm's settings; none if there is nothing to choose.

        Raises:
            NotYetKnown: Settings of an arm that this one depends on are not chosen yet.
        """
        grid = self.study.grid(arm)
        if self.study.arms[arm].tuned_as or len(grid) == 1:
            return []
        return [self._run(arm, self.study.seeds_of(arm)[0], settings) for settings in grid]

    def chosen(self, arm: str) -> Settings:
        """The settings with the highest mean validation top-1.

        Raises:
            NotYetKnown: A candidate has no record yet.
        """
        if other := self.study.arms[arm].tuned_as:
            return self.chosen(other)
        candidates = self.candidates(arm)
        if not candidates:
            return self.study.grid(arm)[0]
        if any(run.key not in self.records for run in candidates):
            raise NotYetKnown(arm)
        return max(candidates, key=lambda run: self.records[run.key].mean_val).settings

    def finals(self, arm: str) -> dict[int, PlannedRun]:
        """An arm's runs with the chosen settings, by seed.

        Raises:
            NotYetKnown: A candidate has no record yet.
        """
        settings = self.chosen(arm)
        return {seed: self._run(arm, seed, settings) for seed in self.study.seeds_of(arm)}

    def recorded(self, arm: str) -> list[Record]:
        """The records of an arm's runs so far, each once."""
        keys: dict[str, None] = {}
        with suppress(NotYetKnown):
            keys |= dict.fromkeys(run.key for run in self.candidates(arm))
            keys |= dict.fromkeys(run.key for run in self.finals(arm).values())
        return [self.records[key] for key in keys if key in self.records]

    def all_recorded(self) -> list[Record]:
        """The records of the study's runs so far, each once."""
        records = {record.key: record for arm in self.study.needed_arms() for record in self.recorded(arm)}
        return list(records.values())

    def init_run(self, arm: str, seed: int) -> PlannedRun | None:
        """The run that an arm's run with this seed starts from; None if it starts from no run.

        Raises:
            NotYetKnown: A candidate of the other arm has no record yet.
        """
        name = self.study.init_arm(arm)
        if not name:
            return None
        finals = self.finals(name)
        return finals.get(seed) or next(iter(finals.values()))

    def run_folder(self, key: str) -> Path:
        """The folder of a run."""
        return self.out / "runs" / key

    def subset_file(self, dataset: str, share: float) -> Path:
        """The manifest of a share of a dataset's training samples; each version of the datasets has its own."""
        return self.out / "manifests" / f"{dataset}-v{self.study.version}-{100 * share:g}-percent.arrow"

    def _run(self, arm: str, seed: int, settings: Settings) -> PlannedRun:
        init, path = self.init_run(arm, seed), self.study.init_of(arm)
        recipe = self._recipe(arm, seed, settings, str(self.run_folder(init.key)) if init else path)
        init_key = init.key if init else map_path(path, self._relative)
        share = self.study.share_of(arm)
        key = self._key(recipe, share, init_key)
        return PlannedRun(key, arm, seed, settings, share, recipe, init_key, self.study.orders_of(arm))

    def _key(self, recipe: Recipe, share: float, init_key: str) -> str:
        sections = recipe.without_repeats().model_dump(mode="json", exclude=LOCATION_KEYS, exclude_defaults=True)
        sections = map_paths(sections, ["data.exclude"], self._relative)
        what = {
            "recipe": {name: section for name, section in sections.items() if section != {}},  # {}: all excluded
            "share": share,
            "init": init_key,
            "version": self.study.version,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]

    def _relative(self, path: str) -> str:
        """A path from the study's folder, so that every copy of the study and its weights has the same keys."""
        return os.path.relpath(path, self.study.results.parent)

    def _recipe(self, arm: str, seed: int, settings: Settings, init: str) -> Recipe:
        variant = self.study.arms[arm]
        values = overlaid(self.study.recipe, variant.recipe)
        for key, value in settings.items():
            values = overlaid(values, nested(key, value))
        own = values.get("datasets", {})
        datasets: dict[str, Any] = {}
        for name in variant.datasets:
            datasets[name] = overlaid(self.study.datasets[name], own.get(name, {}))
            if (share := self.study.share_of(arm)) < 1:
                datasets[name]["train"] = self.subset_file(name, share)
        values |= {"datasets": datasets, "seed": seed}
        values["policy"] = variant.policy or ("standard" if len(datasets) == 1 else "cotrain")
        if init:
            values["init"] = init
        return parse_recipe(values, f"study {self.study.title!r}, arm {arm}")


def check_inputs(study: Study) -> None:
    """Check that all weights and manifests exist that a study will read.

    Raises:
        CoverError: One is missing or damaged.
    """
    for arm in study.needed_arms():
        if "/" in (init := study.init_of(arm)) and not init.startswith(HUB) and not Path(init).exists():
            raise RecipeError(f"arm {arm}: init = {init!r} does not exist; put the weights there, or name an arm")
        for dataset in study.arms[arm].datasets:
            for split in ("train", "val", "test") if dataset in study.orders_of(arm) else ("train", "val"):
                if not (path := study.datasets[dataset].get(split)):
                    raise RecipeError(f"datasets.{dataset} has no {split}, which arm {arm} needs; name a manifest")
                Manifest.open(path)


def check_runs(planner: Planner) -> None:
    """Check that every arm can be trained on its manifests, and that its records come from the same samples.

    Raises:
        CoverError: A run would end with this error, as far as that can be known before training.
    """
    for arm in planner.study.needed_arms():
        draft, *_ = planner.drafts(arm)  # the others differ in numbers only, which making their recipes has checked
        try:
            planned = plan(draft)
            if draft.init and Path(split_key(draft.init)[0]).exists():  # the run of another arm may be yet to come
                check_fits(open_source(draft.init), planned.config)
        except CoverError as error:
            raise CoverError(f"arm {arm}: {error}") from None
        _check_records(planner, arm, draft)


def _check_records(planner: Planner, arm: str, recipe: Recipe) -> None:
    records = planner.recorded(arm)
    if not records:  # digests of millions of rows take seconds
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


def write_subsets(planner: Planner) -> None:
    """Write the manifests of all shares of training samples that the study's arms see."""
    study = planner.study
    shares = {(dataset, study.share_of(arm)) for arm in study.needed_arms() for dataset in study.arms[arm].datasets}
    for dataset, share in sorted(shares):
        if share < 1:
            write_subset(Manifest.open(study.datasets[dataset]["train"]), share, planner.subset_file(dataset, share))


def write_subset(whole: Manifest, share: float, path: Path) -> Manifest:
    """Write a manifest of a share of each class's samples, at least one of each class.

    The choice depends only on the number of samples and their classes, so a larger share contains every smaller one.

    Args:
        whole: The samples to choose from.
        share: Above 0, below 1.
        path: The manifest to write.
    """
    labels = whole.labels
    rng = np.random.default_rng(0)
    kept: list[int] = []
    for label in range(len(whole.class_names)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        kept += rows[: max(round(share * len(rows)), 1)].tolist()
    return write_manifest(
        path,
        (whole[index] for index in sorted(kept)),
        name=whole.name,
        kind=whole.kind,
        split=whole.split,
        class_names=whole.class_names,
        root=whole.root,
    )
