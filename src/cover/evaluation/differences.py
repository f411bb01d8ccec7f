"""What keeps two results from being compared as they stand: other weights, views, input, or test samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cover.evaluation.result import DatasetResult

Setting = Literal["checkpoint", "views", "input", "manifest"]


@dataclass(frozen=True)
class Wanted:
    """The checkpoint, by folder name, and the views, "1x3", that a result should be of."""

    checkpoint: str
    views: str


@dataclass(frozen=True)
class Difference:
    """A setting in which results that are shown side by side differ, or which is not the one wanted.

    results: which results are compared, "moves". values: name of a result (its run, or its frame order) → its value.
    """

    results: str
    setting: Setting
    values: dict[str, str]

    def __str__(self) -> str:
        return f"{self.results}, {self.setting}: " + ", ".join(f"{name} {value}" for name, value in self.values.items())


def find_differences(
    title: str, results: Mapping[str, DatasetResult], wanted: Mapping[str, Wanted]
) -> list[Difference]:
    """The differences between results, by name, and of each from what is wanted of it.

    What is not known, in files of older versions, counts as a difference only beside something known: a manifest beside
    another one, and never the size in pixels.
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
