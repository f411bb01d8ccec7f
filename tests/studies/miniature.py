"""A study of two datasets and what its runs came to, without training anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cover.config.layers import checked, overlaid
from cover.studies.planning import PlannedRun, Planner
from cover.studies.records import Record
from cover.studies.spec import Study

RATE = "optimizer.learning_rate"
STUDY: dict[str, Any] = {
    "title": "Two datasets",
    "question": "Does the other one help?",
    "datasets": {
        "scenes": {"train": "world/scenes-train.arrow", "val": "world/scenes-val.arrow", "test": "scenes-test.arrow"},
        "moves": {
            "train": "world/moves-train.arrow",
            "val": "world/moves-val.arrow",
            "test": "moves-test.arrow",
            "reversal_pairs": [["left", "right"]],
        },
    },
    "arms": {
        "scenes": {"datasets": ["scenes"]},
        "moves": {"datasets": ["moves"]},
        "both": {"datasets": ["scenes", "moves"]},
    },
    "columns": ["scenes", "moves"],
    "paper_columns": ["K400", "SSv2"],
    "rows": [
        {"name": "standard", "arms": ["scenes", "moves"], "paper": {"K400": 80.7, "SSv2": 62.4}},
        {"name": "co-training", "arms": ["both"], "against": ["standard"], "paper": {"K400": 83.1}},
    ],
}


def study_of(**changes: Any) -> Study:
    """The study with changes laid over it."""
    return checked(Study, overlaid(STUDY, changes), "two.toml")


class Known(dict[str, Record]):
    """Records to which results are added by hand."""

    def tried(self, run: PlannedRun, val: float, seconds: float = 60.0) -> None:
        """The run was trained, and has that validation top-1 on all its datasets."""
        by_dataset = dict.fromkeys(run.recipe.datasets, val)
        self[run.key] = Record(run.key, run.arm, run.seed, run.settings, val=by_dataset, seconds=seconds, device="H100")

    def tested(self, planner: Planner, arm: str, top1: Mapping[str, Mapping[int, float]]) -> None:
        """The arm's runs were trained and tested. top1: by dataset and seed."""
        for seed, run in planner.finals(arm).items():
            test = {name: {"normal": {"top1": by_seed[seed]}} for name, by_seed in top1.items() if seed in by_seed}
            self[run.key] = Record(run.key, arm, seed, run.settings, test=test, seconds=60.0, device="H100")


def finished(study: Study) -> Known:
    """Records of `study_of()`: of co-training, one seed is still to come."""
    known = Known()
    planner = Planner(study, known)
    known.tested(planner, "scenes", {"scenes": {0: 0.70, 1: 0.72, 2: 0.74}})
    known.tested(planner, "moves", {"moves": {0: 0.50, 1: 0.50, 2: 0.53}})
    known.tested(planner, "both", {"scenes": {0: 0.73, 1: 0.74, 2: 0.78}, "moves": {0: 0.49, 2: 0.51}})
    return known
