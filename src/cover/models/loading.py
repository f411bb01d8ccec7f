"""Start a model from weights of another: what fits is copied, embeddings are resized, and everything is reported."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from torch import Tensor

from cover.config.families import TemporalInit
from cover.errors import CheckpointError
from cover.models.backbone import Backbone, Resize
from cover.models.classifier import VideoClassifier
from cover.models.config import ModelConfig
from cover.models.head_rows import HeadRows, match_rows, take_rows
from cover.models.sources import Source, open_source
from cover.models.weights import check_files, check_finite


@dataclass
class LoadReport:
    """What became of every parameter when weights were loaded into another model.

    loaded as they are, copied from spatial to temporal layers, resized, matched (heads whose rows were taken by class
    name), fresh (not from the source), and unused names of the source. notes: what else a user has to know, a line
    each: what the source does not state, which of its models was taken, which rows of a head.
    """

    format: str
    loaded: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def outcomes(self) -> dict[str, list[str]]:
        """The names by what became of them, without what never happened."""
        lists = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("format", "notes")}
        return {outcome: names for outcome, names in lists.items() if names}

    def __str__(self) -> str:
        parts = [f"{len(names)} {outcome}" for outcome, names in self.outcomes().items()]
        return "\n".join([f"{self.format}, tensors: " + ", ".join(parts), *self.notes])


def report_table(report: LoadReport) -> Table:
    """A report for the terminal; the same tensor of several blocks is one entry."""
    table = Table("", "tensors", "names")
    for outcome, names in report.outcomes().items():
        short = dict.fromkeys(re.sub(r"\.\d+\.|_\d+/", lambda match: re.sub(r"\d+", "*", match[0]), n) for n in names)
        modules = dict.fromkeys(re.sub(r"[./](weight|bias|kernel|scale)$", "", name) for name in short)
        table.add_row(outcome, str(len(names)), ", ".join(modules))
    return table


def load_weights(
    model: VideoClassifier,
    source: str | Path | Source,
    *,
    resize: Resize = "smooth",
    temporal_init: TemporalInit = "zero",
    fresh_heads: bool = False,
) -> LoadReport:
    """Start a model from the weights in a file, folder or run, whatever its format.

    The model takes over the source's input normalisation and the epsilon of its norms. A head takes the rows of the
    source's head for the same dataset, class by class by name. A source that does not state its number of attention
    heads is assumed to have the model's.

    Args:
        model: Changed in place; not changed if an error is raised.
        source: A run, a checkpoint, a file or folder of foreign weights, or "hf://owner/name".
        resize: How position and time embeddings are resized: "smooth" (bicubic in 2-D, linear in time) or "published"
            (nearest in 1-D, as the published code does).
        temporal_init: How temporal layers start if the source has none. "zero", as published: norm and attention are
            copied from the spatial ones, temporal_fc and the time embedding are zero. "random": only the norm is
            copied.
        fresh_heads: Whether every head starts anew.

    Returns:
        What became of every tensor.

    Raises:
        CheckpointError: The source is damaged or unknown, holds NaN or infinite weights, or has another depth, width,
            patch size or number of attention heads.
    """
    opened = source if isinstance(source, Source) else open_source(source)
    if opened.format == "cover":
        check_files(opened.path if opened.path.is_dir() else opened.path.parent)
    check_fits(opened, model.config)
    rows = {} if fresh_heads else shared_rows(opened, model.config)
    targets = model.state_dict()
    origins = {name: found for name in targets if (found := _origin(name, opened, rows, model.backbone, temporal_init))}
    for origin in sorted(set(origins.values())):
        check_finite(opened.path, origin, opened.tensor(origin).float())  # as the model will have it
    report = LoadReport(opened.format, notes=_notes(opened, model.config, rows))
    for name, target in targets.items():
        changed = rows.get(_dataset(name))
        _outcome(report, name, origins.get(name), opened, target, changed).append(name)
        if name in origins:
            tensor = opened.tensor(origins[name])
            target.copy_(
                take_rows(changed, tensor, target) if changed else model.backbone.resized(name, tensor, target, resize)
            )
        elif model.backbone.starts_at_zero(name, temporal_init):
            target.zero_()
    left = opened.shapes.keys() - set(origins.values())
    report.unused = sorted([*opened.unused, *(part for name in left for part in opened.view.parts(name))])
    model.normalise_as(opened.config)
    return report


def shared_rows(source: Source, config: ModelConfig) -> dict[str, HeadRows]:
    """The rows of the model's heads that the source has, for the datasets that share a class with it.

    Classes that the source only numbers are no names: such a head is taken whole, or not at all.
    """
    rows = {}
    for dataset in (name for name in config.heads if name in source.config.heads):
        found = match_rows(source.config.heads[dataset], config.heads[dataset])
        if found.unchanged or (found.kept + found.moved and "heads" not in source.not_stated):
            rows[dataset] = found
    return rows


def _dataset(name: str) -> str:
    """The dataset of a head's tensor, "" for other tensors."""
    return name.removeprefix("heads.").rpartition(".")[0] if name.startswith("heads.") else ""


def _origin(
    name: str, source: Source, rows: Mapping[str, HeadRows], backbone: Backbone, temporal_init: TemporalInit
) -> str | None:
    """The source's tensor (in our naming) that a tensor of the model starts from."""
    if dataset := _dataset(name):
        return name if dataset in rows else None
    return backbone.start_from(name, source.shapes, temporal_init)


def _outcome(
    report: LoadReport, name: str, origin: str | None, source: Source, target: Tensor, rows: HeadRows | None
) -> list[str]:
    if origin is None:
        return report.fresh
    if origin != name:
        return report.copied
    if rows and not rows.unchanged:
        return report.matched
    return report.loaded if source.shapes[name] == tuple(target.shape) else report.resized


def _notes(source: Source, config: ModelConfig, rows: Mapping[str, HeadRows]) -> list[str]:
    """What a user has to know beside the names of tensors."""
    notes = [f"model: {source.choice}"] if source.others else []
    for name in (name for name in config.weight_sizes if name in source.not_stated):
        notes.append(f"{name}: not stated by the file; taken from the model ({getattr(config, name)})")
    if source.not_stated & {"mean", "std"}:
        usual = f"mean {source.config.mean[0]:g} and std {source.config.std[0]:g}, usual for {source.origin}"
        notes.append(f"normalisation: not stated by the file; taken are {usual}")
    return notes + [f"head {name}: {found}" for name, found in rows.items() if not found.unchanged]


def check_fits(source: Source, config: ModelConfig) -> None:
    """Raise CheckpointError where a source and a model differ in family, or in the sizes of their weights."""
    if source.config.family != config.family:
        raise CheckpointError(
            f"{source.path} ({source.format}) is a {source.config.family}, this model a {config.family}; set "
            "model.family, or take other weights"
        )
    for name in config.weight_sizes:
        have, want = getattr(source.config, name), getattr(config, name)
        if have != want and name not in source.not_stated:
            raise CheckpointError(
                f"{source.path} ({source.format}) has {name} {have}, this model has {want}; make them equal"
            )
