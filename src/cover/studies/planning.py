"""From a study and what is known so far to runs: which there are, which settings are best, which recipe each has."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cover.config.layers import map_path, map_paths, nested, overlaid
from cover.config.recipe import Recipe, parse_recipe
from cover.evaluation.sample_views import FrameOrder
from cover.studies.records import Record
from cover.studies.spec import Settings, Study

ELSEWHERE: dict[str, Any] = {
    "init": True,
    "data": {"cache_folder", "num_workers"},
    "datasets": {"__all__": {"train", "val", "test"}},
}
"""What of a recipe says where something is, or how fast it goes, and not what is trained."""


class NotYetKnown(Exception):
    """The settings of an arm are still to be chosen."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of an arm.

    key: of what is trained: what of the recipe is not a default, without paths, the share of the samples, and init_key:
    the key of the run it starts from, or the path of weights from elsewhere, whose content is not looked at. recipe:
    an init that is a run, and manifests of shares, lie below the folder that the study works in. tests: frame orders
    to test it in, by dataset.
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

    records: what is known by now, by key; runs are planned with whatever is in there when they are asked for.
    out: folder that the study works in: OUT/runs/KEY, OUT/manifests.
    """

    def __init__(self, study: Study, records: dict[str, Record], out: Path = Path()) -> None:
        self.study = study
        self.records = records
        self.out = out

    def drafts(self, arm: str) -> list[Recipe]:
        """A recipe for each of the settings that an arm's are chosen from; what they start from is not there yet."""
        init = self.study.init_of(arm)
        if name := self.study.init_arm(arm):
            init = str(self.run_folder(f"of-{name}"))
        seed = self.study.seeds_of(arm)[0]
        return [self._recipe(arm, seed, settings, init) for settings in self.study.grid(arm)]

    def candidates(self, arm: str) -> list[PlannedRun]:
        """The runs that an arm's settings are chosen by; none where there is no choice.

        Raises NotYetKnown as `chosen` does, of an arm that this one builds on.
        """
        grid = self.study.grid(arm)
        if self.study.arms[arm].tuned_as or len(grid) == 1:
            return []
        return [self._run(arm, self.study.seeds_of(arm)[0], settings) for settings in grid]

    def chosen(self, arm: str) -> Settings:
        """The settings with the highest mean validation top-1. Raises NotYetKnown while a candidate has no record."""
        if other := self.study.arms[arm].tuned_as:
            return self.chosen(other)
        candidates = self.candidates(arm)
        if not candidates:
            return self.study.grid(arm)[0]
        if any(run.key not in self.records for run in candidates):
            raise NotYetKnown(arm)
        return max(candidates, key=lambda run: self.records[run.key].mean_val).settings

    def finals(self, arm: str) -> dict[int, PlannedRun]:
        """An arm's runs with the chosen settings, by seed. Raises NotYetKnown as `chosen` does."""
        settings = self.chosen(arm)
        return {seed: self._run(arm, seed, settings) for seed in self.study.seeds_of(arm)}

    def recorded(self, arm: str) -> list[Record]:
        """What is known of an arm's runs by now, each once."""
        keys: dict[str, None] = {}
        with suppress(NotYetKnown):
            keys |= dict.fromkeys(run.key for run in self.candidates(arm))
            keys |= dict.fromkeys(run.key for run in self.finals(arm).values())
        return [self.records[key] for key in keys if key in self.records]

    def all_recorded(self) -> list[Record]:
        """What is known of the study's runs by now, each once."""
        records = {record.key: record for arm in self.study.needed_arms() for record in self.recorded(arm)}
        return list(records.values())

    def init_run(self, arm: str, seed: int) -> PlannedRun | None:
        """The run that an arm's run with that seed starts from. Raises NotYetKnown as `chosen` does."""
        name = self.study.init_arm(arm)
        if not name:
            return None
        finals = self.finals(name)
        return finals.get(seed) or next(iter(finals.values()))

    def _run(self, arm: str, seed: int, settings: Settings) -> PlannedRun:
        init, elsewhere = self.init_run(arm, seed), self.study.init_of(arm)
        folder = self.study.results.parent  # so that keys are the same in each copy of the study and its weights

        def relative(path: str) -> str:
            return os.path.relpath(path, folder)

        init_key = init.key if init else map_path(elsewhere, relative)
        share = self.study.share_of(arm)
        recipe = self._recipe(arm, seed, settings, str(self.run_folder(init.key)) if init else elsewhere)
        sections = recipe.model_dump(mode="json", exclude=ELSEWHERE, exclude_defaults=True)
        sections = map_paths(sections, ["data.exclude"], relative)
        what = {
            "recipe": {name: section for name, section in sections.items() if section != {}},  # {}: all excluded
            "share": share,
            "init": init_key,
            "version": self.study.version,
        }
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        tests = self.study.orders_of(arm)
        return PlannedRun(key, arm, seed, settings, share, recipe, init_key, tests)

    def _recipe(self, arm: str, seed: int, settings: Settings, init: str) -> Recipe:
        spec = self.study.arms[arm]
        values = overlaid(self.study.recipe, spec.recipe)
        for key, value in settings.items():
            values = overlaid(values, nested(key, value))
        own = values.get("datasets", {})
        datasets: dict[str, Any] = {}
        for name in spec.datasets:
            datasets[name] = overlaid(self.study.datasets[name], own.get(name, {}))
            if (share := self.study.share_of(arm)) < 1:
                datasets[name]["train"] = self.subset_file(name, share)
        values |= {"datasets": datasets, "seed": seed}
        values["policy"] = spec.policy or ("standard" if len(datasets) == 1 else "cotrain")
        if init:
            values["init"] = init
        return parse_recipe(values, f"study {self.study.title!r}, arm {arm}")

    def run_folder(self, key: str) -> Path:
        """Where a run lies."""
        return self.out / "runs" / key

    def subset_file(self, dataset: str, share: float) -> Path:
        """Where the manifest of a share of a dataset's training samples lies; another version of them has its own."""
        return self.out / "manifests" / f"{dataset}-v{self.study.version}-{100 * share:g}-percent.arrow"
