"""A run folder: its recipe and its data, which are found from anywhere.

RUN/recipe.toml       the resolved recipe; its paths are relative to RUN, so run and data can be moved together
RUN/manifests.json    {dataset: {split: {path, digest, num_samples}}}, as they were when training started
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cover.config.layers import reason_of, toml_value
from cover.config.recipe import Recipe
from cover.config.recipe_files import read_recipe
from cover.core.atomic_files import write_whole
from cover.core.run_files import RunFiles
from cover.core.text_files import read_json
from cover.datasets.manifest import Manifest, Moves, moved_path
from cover.errors import CheckpointError, CoverError, RecipeError
from cover.models import info

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ManifestRecord:
    """A manifest as it was when training started; path is absolute."""

    path: str
    digest: str
    num_samples: int


_Records = dict[str, dict[str, ManifestRecord]]


@dataclass(frozen=True)
class RunFolder(RunFiles):
    """A run on disk, with its recipe and its manifests.

    Args:
        path: The folder.
        moves: Where data lie that have moved since training, old folder → new folder.
        allow_changed_data: Accept manifests with other samples than those that the run was trained on.
    """

    moves: Moves = field(default_factory=dict)
    allow_changed_data: bool = False

    def write(self, recipe: Recipe, manifests: Mapping[str, Mapping[str, Manifest]]) -> None:
        """Write the recipe, and what identifies its manifests.

        Args:
            recipe: What is trained.
            manifests: Split → dataset → manifest.
        """
        records: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in recipe.datasets}
        for split, opened in manifests.items():
            for name, manifest in opened.items():
                values = {"path": str(manifest.path), "digest": manifest.digest, "num_samples": len(manifest)}
                records[name][split] = values
        recipe.write(self.recipe_file)
        write_whole(self.manifests_file, json.dumps(records, indent=2) + "\n")

    def read_recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """Read the recipe; see `read_recipe`. Raises RecipeError if there is none, or it is damaged."""
        return read_recipe(self.recipe_file, overrides, base=Path() if self.is_old else None)

    def recipe_to_train(self, overrides: Sequence[str] = ()) -> Recipe:
        """Read the recipe to train with it again, with its manifests where they are now.

        Raises:
            RecipeError: There is none, or it is damaged.
            CheckpointError: A training or validation manifest is missing.
        """
        own, recipe = self.read_recipe(), self.read_recipe(overrides)
        datasets = dict(recipe.datasets)
        for name, section in own.datasets.items():
            named = {split: path for split in SPLITS if (path := getattr(section, split))}
            kept = [split for split, path in named.items() if path == getattr(recipe.datasets[name], split)]
            places = {split: self._place(own, name, split, must_exist=split != "test") for split in kept}
            datasets[name] = recipe.datasets[name].model_copy(update=places)
        return recipe.model_copy(update={"datasets": datasets})

    @property
    def is_old(self) -> bool:
        """Whether an older version wrote the run. The paths in its recipe start from the folder it was trained in."""
        return not self.manifests_file.exists()

    def open_manifest(self, recipe: Recipe, dataset: str, split: str) -> Manifest:
        """Open a manifest that the recipe names: relative to the run, or else where it was during training.

        Args:
            recipe: The run's, whose paths are absolute.
            dataset: Its name in the recipe.
            split: "train", "val" or "test".

        Raises:
            CheckpointError: It is missing, or its samples are not those of training.
            ManifestError: It is damaged.
        """
        place = moved_path(self._place(recipe, dataset, split), self.moves)
        manifest = Manifest.open(place).relocated(self.moves)
        if (record := self._record(dataset, split)) and not self.allow_changed_data:
            self._check_digest(manifest, record, f"{split} manifest of {dataset}")
        return manifest

    def never_had(self, recipe: Recipe, dataset: str, split: str) -> bool:
        """Whether a manifest that the recipe names was missing in training, and still is."""
        is_known = self.is_old or self._record(dataset, split) is not None
        place = self._place(recipe, dataset, split, must_exist=False)
        return not is_known and not moved_path(place.absolute(), self.moves).exists()

    def _place(self, recipe: Recipe, dataset: str, split: str, *, must_exist: bool = True) -> Path:
        """Where a manifest is, before `moves`. Raises CheckpointError if it is nowhere and must exist."""
        path: Path = getattr(recipe.datasets[dataset], split)
        record = self._record(dataset, split)
        places = [path.absolute(), *([Path(record.path)] if record else [])]
        found = next((place for place in places if moved_path(place, self.moves).exists()), None)
        if found is None and must_exist:
            tried = " nor ".join(dict.fromkeys(str(moved_path(place, self.moves)) for place in places))
            raise CheckpointError(
                f"the {split} manifest of {dataset} is not at {tried}; if it has moved to FOLDER, pass --data "
                f"{places[0].parent}=FOLDER{self._hint()}"
            )
        return found or path

    def _record(self, dataset: str, split: str) -> ManifestRecord | None:
        return self._records().get(dataset, {}).get(split)

    def check_manifests(self, manifests: Mapping[str, Mapping[str, Manifest]]) -> None:
        """Raise CheckpointError if the samples of a manifest are not those of training, unless that is allowed.

        Args:
            manifests: Split → dataset → manifest. Splits that are new to the run are accepted.
        """
        records = {} if self.allow_changed_data else self._records()
        for split, opened in manifests.items():
            for name, manifest in opened.items():
                if record := records.get(name, {}).get(split):
                    self._check_digest(manifest, record, f"{split} manifest of {name}")

    def digests(self) -> frozenset[str]:
        """What identifies the samples of its manifests; empty for runs of older versions."""
        return frozenset(record.digest for splits in self._records().values() for record in splits.values())

    def has_same(self, split: str, manifests: Mapping[str, Manifest]) -> bool:
        """Whether the samples of this split are those that the run had so far."""
        records = {name: splits[split].digest for name, splits in self._records().items() if split in splits}
        return self.is_old or records == {name: manifest.digest for name, manifest in manifests.items()}

    def _check_digest(self, manifest: Manifest, record: ManifestRecord, what: str) -> None:
        if manifest.digest != record.digest:
            raise CheckpointError(
                f"{manifest.path} is not the {what} that {self.path} was trained with: its samples, labels or classes "
                f"differ ({len(manifest):,} samples, {record.num_samples:,} then); restore it, or train a "
                "new run; train, evaluate and compare accept it with --allow-changed-data"
            )

    def _records(self) -> _Records:
        if self.is_old:
            return {}
        file = self.manifests_file
        try:
            return TypeAdapter(_Records).validate_python(read_json(file))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{file} is damaged ({reason_of(error)}); restore it from a copy of the run"
            ) from None

    def _hint(self) -> str:
        if not self.is_old:
            return ""
        return (
            f"; an older version trained {self.path}, and its paths start from the folder it was trained in: go there"
        )


def run_of(path: Path) -> RunFiles | None:
    """The run that a path stands for: its folder, or the recipe in it. None if it is something else."""
    run = RunFiles(path.parent if path.is_file() else path)
    is_its = path in (run.path, run.recipe_file) and run.is_run
    return run if is_its and (run.manifests_file.exists() or run.checkpoints()) else None


def run_of_checkpoint(weights: Path) -> RunFolder | None:
    """Return the run that weights are a checkpoint of; None if they are not, or the recipe is not there."""
    run = RunFolder.of_checkpoint(weights)
    return run if run.has_checkpoint(weights) and run.is_run else None


def describe(path: str | Path) -> info.Info:
    """Look into weights, and into the run that they are a checkpoint of.

    Args:
        path: A file, folder or run of any format that `open_source` knows.

    Raises:
        CheckpointError: It is damaged or unknown.
    """
    described = info.describe(path)
    run = run_of_checkpoint(Path(described.path))
    if run is None:
        return described
    try:
        recipe = run.read_recipe()
    except RecipeError:  # of another version of cover; the weights can be read all the same
        return replace(described, sampling=f"its {run.recipe_file.name} is of another version")
    start = f"started from {recipe.init}" if recipe.init else "started at random"
    jitters = {recipe.clips(name).temporal_jitter for name in recipe.datasets}
    moments = " or ".join("a random moment" if jitter else "the middle" for jitter in sorted(jitters))
    rules = {name: recipe.clips(name).sampling for name in recipe.datasets}
    parts = [f"; sampling of {name}: {toml_value(rule)}" for name, rule in rules.items() if rule != "uniform"]
    views = recipe.evaluation
    return replace(
        described,
        origin=f"cover, policy {recipe.policy} on {', '.join(recipe.datasets)}, {Path(described.path).name}, {start}",
        sampling=f"{moments} of equal segments of a clip; evaluated on {views.num_clips} × {views.num_crops} views"
        + "".join(parts),
    )


def parse_moves(texts: Sequence[str]) -> Moves:
    """Parse the values of --data OLD=NEW. Raises CoverError if one has another form, or NEW is not a folder."""
    moves = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise CoverError(f"--data {text!r} is not of the form OLD=NEW; write --data /old/folder=/new/folder")
        if not os.path.isdir(new):
            raise CoverError(f"--data {text}: {new} is not a folder; name the folder that the data are in now")
        moves[Path(os.path.abspath(old))] = Path(os.path.abspath(new))
    return moves
