"""Runs side by side: training policies (the paper's Table 1), frame orders (its Table 2), and single classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cover.evaluation.intervals import Estimate, difference
from cover.evaluation.result import DatasetResult
from cover.evaluation.run_pair import RunPair, pair_runs
from cover.evaluation.run_record import RunRecord
from cover.evaluation.sample_views import FRAME_ORDERS, FrameOrder

SPLITS = ("test", "val", "train")
"""A dataset is compared on the first of these splits that any run was evaluated on."""
Setting = Literal["checkpoint", "views", "input", "manifest"]


@dataclass(frozen=True)
class Wanted:
    """The checkpoint, by folder name, and the views, such as "1x3", that a result should have."""

    checkpoint: str
    views: str


@dataclass(frozen=True)
class Difference:
    """A setting in which results side by side differ from each other, or from what is wanted.

    Attributes:
        results: What is compared, such as "moves".
        values: The setting of each result, by run or by frame order.
    """

    results: str
    setting: Setting
    values: dict[str, str]

    def __str__(self) -> str:
        return f"{self.results}, {self.setting}: " + ", ".join(f"{name} {value}" for name, value in self.values.items())


@dataclass(frozen=True)
class PolicyRow:
    """The accuracies of all runs on one dataset.

    Attributes:
        split: That all results are of.
        standard_run: The first run with policy "standard" that was trained on this dataset and has a result.
        by_run: The results of the runs that have one, in the order of the runs; but the standard run comes first.
        without: The runs that were trained on this dataset and have no result.
        differences: Settings in which the results differ.
    """

    dataset: str
    split: str
    standard_run: str | None
    by_run: dict[str, DatasetResult]
    without: list[str]
    differences: list[Difference]

    def is_marked(self, run: str) -> bool:
        """Whether a run's result has one of the differences."""
        return any(run in difference.values for difference in self.differences)

    @property
    def reference(self) -> str:
        """The run that all others are compared with: the first one of `by_run`."""
        return next(iter(self.by_run))

    @cached_property
    def pairs(self) -> list[RunPair]:
        """The reference against every other run, class by class, if their results have predictions."""
        (first_run, first), *others = self.by_run.items()
        pairs = (pair_runs(first_run, first, run, result) for run, result in others)
        return [pair for pair in pairs if pair]

    @property
    def without_predictions(self) -> list[str]:
        """Runs whose result an older version wrote, without predictions; they must be evaluated again."""
        return [run for run, result in self.by_run.items() if result.predictions is None]

    def delta(self, run: str) -> Estimate | None:
        """A run's top-1 minus that of the reference; None for the reference itself, and without a result."""
        if run == self.reference or run not in self.by_run:
            return None
        return difference(self.by_run[self.reference].top1_estimate, self.by_run[run].top1_estimate)


@dataclass(frozen=True)
class OrderRow:
    """The accuracies of one run on one video dataset in several frame orders, including `normal`.

    Attributes:
        results: By frame order.
        differences: Settings in which the results differ.
    """

    dataset: str
    run: str
    results: dict[FrameOrder, DatasetResult]
    differences: list[Difference]

    def is_marked(self, order: FrameOrder) -> bool:
        """Whether the result in a frame order has one of the differences."""
        return any(order in difference.values for difference in self.differences)

    @property
    def normal(self) -> DatasetResult:
        """The result in normal order."""
        return self.results["normal"]

    @property
    def delta(self) -> Estimate | None:
        """Top-1 on reversed clips minus top-1 on the same clips in normal order; None without reversed clips."""
        if "reversed" not in self.results:
            return None
        return difference(self.normal.top1_estimate, self.results["reversed"].top1_estimate)


@dataclass(frozen=True)
class Comparison:
    """The evaluations of some runs, lined up."""

    records: list[RunRecord]
    policy_rows: list[PolicyRow]
    order_rows: list[OrderRow]

    @property
    def without_results(self) -> list[RunRecord]:
        """Runs without a result to show: they were not evaluated, or only on other splits."""
        shown = {run for row in self.policy_rows for run in row.by_run}
        return [record for record in self.records if record.name not in shown]

    @property
    def remedies(self) -> list[str]:
        """A sentence about each run whose best checkpoint lacks results, with the command that writes them."""
        return [sentence for record in self.records for sentence in self._remedies(record)]

    def _remedies(self, record: RunRecord) -> Iterator[str]:
        command = f"cover evaluate {record.path}"
        if record in self.without_results:
            found = sorted({f"{result.dataset} {result.split} {result.order}" for result in record.results})
            only = f" (it has {', '.join(found)})" if found else ""
            yield f"{record.name} has no results to show{only}; evaluate it: {command}"
            return
        for row in self.policy_rows:
            if record.name in row.without:
                missing = f"{record.name} has no result on {row.dataset} {row.split}"
                yield f"{missing}; evaluate it: {command} --dataset {row.dataset} --split {row.split}"
        results = [row.by_run[record.name] for row in self.policy_rows if record.name in row.by_run]
        if any(result.checkpoint != record.checkpoint for result in results):
            yield f"{record.name} has results of another checkpoint than {record.checkpoint}; evaluate it: {command}"
        elif any(result.views != record.views for result in results):
            yield f"{record.name} has results with other views than its recipe's {record.views}; evaluate it: {command}"

    @property
    def differences(self) -> list[Difference]:
        """The differences of all rows."""
        rows: list[PolicyRow | OrderRow] = [*self.policy_rows, *self.order_rows]
        return [difference for row in rows for difference in row.differences]

    def pairs_with(self, second_run: str) -> list[RunPair]:
        """The pairs of this run and the first run of each dataset."""
        return [pair for row in self.policy_rows for pair in row.pairs if pair.second_run == second_run]


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Line up the evaluations of runs, dataset by dataset."""
    policy_rows: list[PolicyRow] = []
    order_rows: list[OrderRow] = []
    for dataset, split in _evaluated(records).items():
        policy_rows.append(_policy_row(records, dataset, split))
        order_rows += [row for record in records if (row := _order_row(record, dataset, split))]
    return Comparison(list(records), policy_rows, order_rows)


def _evaluated(records: Sequence[RunRecord]) -> dict[str, str]:
    """The split to compare each dataset on, in the order in which the recipes name the datasets."""
    splits: dict[str, set[str]] = {dataset: set() for record in records for dataset in record.datasets}
    for record in records:
        for result in record.results:
            if result.order == "normal":
                splits.setdefault(result.dataset, set()).add(result.split)
    return {dataset: next(split for split in SPLITS if split in seen) for dataset, seen in splits.items() if seen}


def _policy_row(records: Sequence[RunRecord], dataset: str, split: str) -> PolicyRow:
    results = {record.name: result for record in records if (result := record.result(dataset, split))}
    wanted = {record.name: Wanted(record.checkpoint, record.views) for record in records}
    differences = find_differences(dataset, results, wanted)
    trained = [record for record in records if dataset in record.recipe.with_heads]
    standard_run = next(
        (record.name for record in trained if record.recipe.is_standard and record.name in results), None
    )
    by_run = ({standard_run: results[standard_run]} if standard_run else {}) | results
    without = [record.name for record in trained if record.name not in results]
    return PolicyRow(dataset, split, standard_run, by_run, without, differences)


def _order_row(record: RunRecord, dataset: str, split: str) -> OrderRow | None:
    results = {order: result for order in FRAME_ORDERS if (result := record.result(dataset, split, order))}
    if "normal" not in results or len(results) == 1:
        return None
    wanted = Wanted(results["normal"].checkpoint, results["normal"].views)
    by_order = {str(order): result for order, result in results.items()}
    differences = find_differences(f"{dataset} of {record.name}", by_order, dict.fromkeys(by_order, wanted))
    return OrderRow(dataset, record.name, results, differences)


def find_differences(
    title: str, results: Mapping[str, DatasetResult], wanted: Mapping[str, Wanted]
) -> list[Difference]:
    """Find what keeps results from being compared as they are: other weights, views, input, or samples.

    Files of older versions lack some settings. An unknown manifest differs from a known one; an unknown size in pixels
    never differs.

    Args:
        title: What is compared.
        results: By run or by frame order.
        wanted: What each result should have.
    """
    others = {name: r.checkpoint for name, r in results.items() if r.checkpoint != wanted[name].checkpoint}
    found = {
        "checkpoint": {name: f"{used} instead of {wanted[name].checkpoint}" for name, used in others.items()},
        "views": _views(results, wanted),
        "input": _inputs(results),
        "manifest": _if_several({name: _manifest(result) for name, result in results.items()}),
    }
    return [Difference(title, setting, values) for setting, values in found.items() if values]  # type: ignore[arg-type]


def _views(results: Mapping[str, DatasetResult], wanted: Mapping[str, Wanted]) -> dict[str, str]:
    views = {name: result.views for name, result in results.items()}
    instead = {
        name: f"{used} instead of {wanted[name].views}" for name, used in views.items() if used != wanted[name].views
    }
    return (views if len(set(views.values())) > 1 else {}) | instead


def _inputs(results: Mapping[str, DatasetResult]) -> dict[str, str]:
    sizes = {result.image_size_px for result in results.values()} - {None}
    if len(sizes) <= 1 and len({result.num_frames for result in results.values()}) == 1:
        return {}
    return {name: f"{result.num_frames}x{result.image_size_px or '?'}" for name, result in results.items()}


def _manifest(result: DatasetResult) -> str:
    if result.manifest_digest:
        return result.manifest_digest[:8]
    return f"unknown ({result.num_samples + result.num_unreadable} samples)"


def _if_several(values: dict[str, str]) -> dict[str, str]:
    return values if len(set(values.values())) > 1 else {}
