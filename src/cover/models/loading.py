"""Start a model from weights of another: what fits is copied, embeddings are resized, and everything is reported."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from cover.errors import CheckpointError
from cover.models.config import ModelConfig
from cover.models.create import TemporalInit
from cover.models.embeddings import Resize, resize_pos_embed, time_embed_for
from cover.models.sources import Source, open_source
from cover.models.timesformer import TimeSformer
from cover.models.weights import check_files, normalise_as


@dataclass
class LoadReport:
    """What became of every parameter when weights were loaded into another model.

    loaded as they are, copied from spatial to temporal layers, resized, fresh (not from the source), and unused names
    of the source.
    """

    format: str
    loaded: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def outcomes(self) -> dict[str, list[str]]:
        """The names by what became of them, without what never happened."""
        lists = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "format"}
        return {outcome: names for outcome, names in lists.items() if names}

    def __str__(self) -> str:
        parts = [f"{len(names)} {outcome}" for outcome, names in self.outcomes().items()]
        return f"{self.format}, tensors: " + ", ".join(parts)


def report_table(report: LoadReport) -> Table:
    """A report for the terminal; the same tensor of several blocks is one entry."""
    table = Table("", "tensors", "names")
    for outcome, names in report.outcomes().items():
        short = dict.fromkeys(re.sub(r"\.\d+\.|_\d+/", lambda match: re.sub(r"\d+", "*", match[0]), n) for n in names)
        modules = dict.fromkeys(re.sub(r"[./](weight|bias|kernel|scale)$", "", name) for name in short)
        table.add_row(outcome, str(len(names)), ", ".join(modules))
    return table


def load_weights(
    model: TimeSformer,
    source: str | Path | Source,
    *,
    resize: Resize = "smooth",
    temporal_init: TemporalInit = "zero",
    fresh_heads: bool = False,
) -> LoadReport:
    """Start a model from the weights in a file, folder or run of any format that open_source knows.

    The model takes over the source's input normalisation. Position and time embeddings are resized to the model's:
    "smooth" bicubically in 2-D and linearly, "published" to the nearest in 1-D, as the published code does. Heads are
    taken where name and classes agree, or never (fresh_heads). A source without temporal layers seeds them: with
    temporal_init "zero", as published, temporal norm and attention start as the spatial ones, temporal_fc and the time
    embedding at zero; with "random" only the norm is copied. Nothing is changed when CheckpointError is raised: for
    damaged or unknown sources, NaN or infinite weights, and another depth, width, patch size or number of attention
    heads.
    """
    opened = source if isinstance(source, Source) else open_source(source)
    if opened.format == "cover":
        check_files(opened.path if opened.path.is_dir() else opened.path.parent)
    check_fits(opened, model.config)
    targets = model.state_dict()
    wanted = [name for name in targets if not (fresh_heads and name.startswith("heads."))]
    origins = {name: origin for name in wanted if (origin := _origin(name, opened, model.config, temporal_init))}
    _check_finite(opened, sorted(set(origins.values())))
    report = LoadReport(opened.format)
    for name, target in targets.items():
        _outcome(report, name, origins.get(name), opened, target).append(name)
        if name in origins:
            target.copy_(_resized(name, opened.tensor(origins[name]), target, resize))
        elif temporal_init == "zero" and re.search(r"temporal_fc|time_embed", name):
            target.zero_()
    left = opened.shapes.keys() - set(origins.values())
    report.unused = sorted([*opened.unused, *(part for name in left for part in opened.view.parts(name))])
    normalise_as(model, opened.config)
    return report


def _origin(name: str, source: Source, config: ModelConfig, temporal_init: TemporalInit) -> str | None:
    """The source's tensor (in our naming) that a tensor of the model starts from."""
    if name.startswith("heads."):
        dataset = name.split(".")[1]
        return name if source.config.heads.get(dataset) == config.heads[dataset] else None
    if name in source.shapes:
        return name
    spatial = re.sub(r"\.temporal_(attn|norm1)\.", r".\1.", name)
    return spatial if spatial in source.shapes and (temporal_init == "zero" or "norm" in name) else None


def _outcome(report: LoadReport, name: str, origin: str | None, source: Source, target: Tensor) -> list[str]:
    if origin is None:
        return report.fresh
    if origin != name:
        return report.copied
    return report.loaded if source.shapes[name] == tuple(target.shape) else report.resized


def _resized(name: str, tensor: Tensor, target: Tensor, resize: Resize) -> Tensor:
    if tensor.shape == target.shape:
        return tensor
    if name == "pos_embed":
        side = int((target.shape[1] - 1) ** 0.5)
        return resize_pos_embed(tensor.float(), (side, side), resize)
    return time_embed_for(tensor.float(), target.shape[1], resize)


def check_fits(source: Source, config: ModelConfig) -> None:
    """Raise CheckpointError where the blocks of a source and of a model are of another size."""
    for name in ("depth", "width", "num_heads", "patch_size_px"):
        have, want = getattr(source.config, name), getattr(config, name)
        if have != want:
            raise CheckpointError(
                f"{source.path} ({source.format}) has {name} {have}, this model has {want}; make them equal"
            )


def _check_finite(source: Source, names: Sequence[str]) -> None:
    for name in names:
        if not all(_is_finite(rows) for rows in source.tensor(name).chunk(16)):
            raise CheckpointError(f"{source.path}: {name} has values that are NaN or infinite; take another copy of it")


def _is_finite(rows: Tensor) -> bool:
    """NaN wins minimum and maximum. `isfinite` on all of a tensor would need the memory of another."""
    return bool(torch.stack(rows.aminmax()).isfinite().all())
