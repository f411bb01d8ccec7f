"""Start a model from the weights of another: copy what fits, resize embeddings, and report every tensor."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from rich.table import Table

from cover.config.families import TemporalInit, family_names
from cover.datasets.names import RENAMED_CLASSES
from cover.errors import CheckpointError, CoverError
from cover.models.architecture import keys_of, toml_block
from cover.models.backbone import Resize
from cover.models.checkpoints.source import OWN_FORMAT, Source
from cover.models.classifier import HEADS, POOLER, VideoClassifier, empty_model, head_of
from cover.models.config import ModelConfig
from cover.models.family import backbone_family, configure, family_of
from cover.models.head_rows import HeadRows, match_rows, take_rows
from cover.models.sources import open_source
from cover.models.weights import check_files, check_finite

MOST_NAMED = 9
"""A report names as many modules of one part of a model; blocks of TimeSformer have nine."""


class FoundHead(NamedTuple):
    """The head of a source that a head starts from.

    Attributes:
        name: Of the source's head.
        rows: Which of its rows the new head takes.
    """

    name: str
    rows: HeadRows


@dataclass
class LoadReport:
    """What happened to every tensor when a model was started from a source.

    Attributes:
        format: The format of the source.
        loaded: Tensors that were loaded unchanged.
        copied: Tensors that start from another tensor of the source, such as temporal layers from spatial layers.
        resized: Tensors that were resized.
        matched: Tensors of heads, with rows matched by class name.
        fresh: Tensors that did not come from the source.
        unused: Tensors of the source that were not used, by the source's names.
        notes: Lines for the user: which of several models was loaded, what the source does not state, which rows of a
            head were matched.
    """

    format: str
    loaded: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    matched: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def not_in_source(self) -> tuple[str, ...]:
        """The backbone's tensors that the source has not. They are fresh, or start from other layers."""
        names = (*self.copied, *self.fresh)
        return tuple(name for name in names if not name.startswith((POOLER, HEADS)))

    def outcomes(self) -> dict[str, list[str]]:
        """Return the names by outcome, leaving out outcomes without names."""
        lists = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("format", "notes")}
        return {outcome: names for outcome, names in lists.items() if names}

    def __str__(self) -> str:
        parts = [f"{len(names)} {outcome}" for outcome, names in self.outcomes().items()]
        return "\n".join([f"{self.format}, tensors: " + ", ".join(parts), *self.notes])


def report_table(report: LoadReport) -> Table:
    """Return a report as a table for the terminal."""
    table = Table("", "tensors", "names")
    for outcome, names in report.outcomes().items():
        table.add_row(outcome, str(len(names)), module_names(names))
    return table


def module_names(names: Collection[str]) -> str:
    """Return the modules of tensors for the terminal.

    The same module of several blocks is one entry. So is a part of a source with many tensors, such as a predictor.
    """
    short = dict.fromkeys(re.sub(r"\.\d+\.|_\d+/", lambda match: re.sub(r"\d+", "*", match[0]), n) for n in names)
    modules = dict.fromkeys(re.sub(r"[./](weight|bias|kernel|scale)$", "", name) for name in short)
    parts = Counter(module.partition(".")[0] for module in modules)
    sizes = Counter(name.partition(".")[0] for name in names)
    entries = {
        module: f"{part}: {sizes[part]} tensors" if parts[part] > MOST_NAMED else module
        for module in modules
        for part in [module.partition(".")[0]]
    }
    return ", ".join(dict.fromkeys(entries.values()))


def load_weights(
    model: VideoClassifier,
    source: str | Path | Source,
    *,
    resize: Resize = "smooth",
    temporal_init: TemporalInit = "zero",
    fresh_heads: bool = False,
    heads_from: Mapping[str, str] | None = None,
) -> LoadReport:
    """Start a model from the weights in a file, folder or run of any known format.

    The model adopts what belongs to the source's weights: input normalisation, the epsilon of norms, the GELU, and the
    norm before the blocks or its absence. The head of each dataset takes rows
    from the source's head of the same name, matched by class name. If a source does not state its number of attention
    heads, the model's number is assumed.

    Args:
        model: Changed in place; unchanged if an error is raised.
        source: A run, a checkpoint, a file or folder of another code base, or "hf://owner/name".
        resize: How to resize embeddings: "smooth" (bicubic in 2-D, linear in time) or "published" (nearest in 1-D).
        temporal_init: How temporal layers start if the source has none. "zero", as published: norm and attention are
            copied from the spatial layers; temporal_fc and the time embedding are zero. "random": only the norm is
            copied.
        fresh_heads: Whether to keep the model's own heads, and its pooler.
        heads_from: {dataset: the source's head that its head takes rows from}, where the names differ.

    Returns:
        What happened to every tensor.

    Raises:
        CheckpointError: The source is damaged or unknown, has NaN or infinite weights, or has another depth, width,
            patch size or number of attention heads; or a head of `heads_from` is missing or has none of the classes.
    """
    opened = source if isinstance(source, Source) else open_source(source)
    if opened.format == OWN_FORMAT:
        check_files(opened.path)
    opened = check_fits(opened, model.config)
    heads = {} if fresh_heads else find_heads(opened, model.config, heads_from or {})
    changed = empty_model(model.config.adopt(opened.config))
    origins = _origins(changed, opened, heads, temporal_init, fresh_heads)
    for origin in sorted(set(origins.values())):
        check_finite(opened.path, origin, opened.tensor(origin).float())  # a large float64 is infinite in float32
    model.normalise_as(opened.config)
    resized = _copy(model, opened, origins, heads, resize, temporal_init)
    report = _report(model, opened, origins, heads, resized)
    report.notes += [] if fresh_heads else _suggestions(opened, model.config, heads)
    return report


def _origins(
    model: VideoClassifier,
    source: Source,
    heads: Mapping[str, FoundHead],
    temporal_init: TemporalInit,
    fresh_heads: bool,
) -> dict[str, str]:
    """Return for each tensor of the model the source's tensor (by our names) that it starts from, if there is any."""
    origins: dict[str, str | None] = {}
    for name in model.state_dict():
        if dataset := head_of(name):
            kind = name.removeprefix(f"{HEADS}{dataset}")
            origins[name] = f"{HEADS}{heads[dataset].name}{kind}" if dataset in heads else None
        elif name.startswith(POOLER):
            origins[name] = name if name in source.shapes and not fresh_heads else None
        else:
            origins[name] = model.backbone.start_from(name, source.shapes, temporal_init)
    return {name: origin for name, origin in origins.items() if origin}


def _copy(
    model: VideoClassifier,
    source: Source,
    origins: Mapping[str, str],
    heads: Mapping[str, FoundHead],
    resize: Resize,
    temporal_init: TemporalInit,
) -> set[str]:
    """Copy the tensors of the source into the model. Returns the names of those that were resized."""
    changed = set()
    for name, target in model.state_dict().items():
        if name in origins:
            tensor, found = source.tensor(origins[name]), heads.get(head_of(name))
            if found:
                tensor = take_rows(found.rows, tensor, target)
            elif not name.startswith(POOLER):
                exact = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
                # Positions of clips of a size that the source does not state are the model's if they are as many.
                if exact.shape != target.shape or "num_frames" not in source.not_stated:
                    tensor = model.backbone.resized(name, exact, target, resize, source.config)
                    changed |= {name} if tensor is not exact else set()
            target.copy_(tensor)
        elif model.backbone.starts_at_zero(name, temporal_init):
            target.zero_()
    model.backbone.derive([name for name in model.state_dict() if name not in origins])
    return changed


def _report(
    model: VideoClassifier,
    source: Source,
    origins: Mapping[str, str],
    heads: Mapping[str, FoundHead],
    resized: Collection[str],
) -> LoadReport:
    report = LoadReport(source.format, notes=_notes(source, model.config, heads))
    for name in model.state_dict():
        _outcome(report, name, origins.get(name), resized, heads.get(head_of(name))).append(name)
    left = source.shapes.keys() - set(origins.values())
    report.unused = sorted([*source.unused, *(part for name in left for part in source.view.used(name))])
    return report


def find_heads(source: Source, config: ModelConfig, heads_from: Mapping[str, str]) -> dict[str, FoundHead]:
    """Find what the heads of a model start from: a head of the source of the same kind, linear or attentive.

    If the source does not state class names, a head is used whole or not at all.

    Args:
        source: The weights.
        config: The configuration of the model.
        heads_from: See `load_weights`. Classes that Kinetics renamed count as the same here.

    Returns:
        What each head starts from that shares a class with the source's head.

    Raises:
        CheckpointError: A head of `heads_from` is missing or has none of the classes.
    """
    found: dict[str, FoundHead] = {}
    is_same_kind = _have_same_kind_of_heads(source.config, config)
    for head, classes in config.heads.items():
        name = heads_from.get(head, head)
        old = source.config.heads.get(name, ()) if is_same_kind else ()
        rows = match_rows(_renamed(old), _renamed(classes)) if head in heads_from else match_rows(old, classes)
        if rows.unchanged or (rows.num_copied and "heads" not in source.not_stated):
            found[head] = FoundHead(name, rows)
        elif head in heads_from:
            heads = ", ".join(source.config.heads) if "heads" not in source.not_stated else ""
            raise CheckpointError(
                f"{source.path} has no head {name!r} with classes of {head}; its heads are {heads or 'without names'}"
            )
    return found


def _have_same_kind_of_heads(one: ModelConfig, other: ModelConfig) -> bool:
    """Return whether the heads of both read the same kind of features: those of a pooler, or of the backbone."""
    return (one.pooler is None) == (other.pooler is None)


def _suggestions(source: Source, config: ModelConfig, heads: Mapping[str, FoundHead]) -> list[str]:
    """Name the head of another name that has at least half of the classes of a fresh head."""
    if "heads" in source.not_stated or not _have_same_kind_of_heads(source.config, config):
        return []
    suggestions = []
    for head in (head for head in config.heads if head not in heads):
        classes = [name for name in _renamed(config.heads[head]) if not name.isdecimal()]  # numbers are no names
        shared = {name: len({*classes} & {*_renamed(old)}) for name, old in source.config.heads.items()}
        best = max(shared, key=lambda name: shared[name], default="")
        if best and 2 * shared[best] >= len(config.heads[head]):
            suggestions.append(
                f"head {head} is fresh, and {best} of the source has {shared[best]} of its {len(config.heads[head])} "
                f'classes; datasets.{head}.init_head = "{best}" copies their rows'
            )
    return suggestions


def _renamed(classes: Sequence[str]) -> list[str]:
    return [RENAMED_CLASSES.get(name, name) for name in classes]


def _outcome(
    report: LoadReport, name: str, origin: str | None, resized: Collection[str], found: FoundHead | None
) -> list[str]:
    """Return the list of the report that a tensor belongs to."""
    if origin is None:
        return report.fresh
    if found and (found.name != head_of(name) or not found.rows.unchanged):
        return report.matched
    if origin != name:
        return report.copied
    return report.resized if name in resized else report.loaded


def _notes(source: Source, config: ModelConfig, heads: Mapping[str, FoundHead]) -> list[str]:
    """Return what a user needs to know besides the names of tensors."""
    notes = unstated(source, config)
    notes += [
        f"{name}: the source has none, so it starts at zero" for name in source.shapes if source.view.is_zero(name)
    ]
    if source.config.pooler is not None and config.pooler is None:
        notes.append('pooler: not used, because the heads of this model are linear; model.head = "attentive" uses it')
    for name, (old, rows) in heads.items():
        if old != name:
            notes.append(f"head {name}: {rows.num_copied} of {len(rows.origins)} rows copied from head {old}")
        elif not rows.unchanged:
            notes.append(f"head {name}: {rows}")
    return notes


def unstated(source: Source, config: ModelConfig) -> list[str]:
    """Return what a user needs to know about a source: which of several models it is, and what it does not state.

    Args:
        source: The weights.
        config: The configuration of the model, which has what the source does not state.
    """
    notes = [f"model: {source.choice}"] if source.others else []
    for name in (name for name in config.weight_sizes if name in source.not_stated):
        notes.append(f"{name}: not stated by the file; taken from the model ({getattr(config, name)})")
    if source.not_stated & {"mean", "std"}:
        usual = f"mean {source.config.mean[0]:g} and std {source.config.std[0]:g}, usual for {source.origin}"
        notes.append(f"normalisation: not stated by the file; assumed: {usual}")
    return notes


def check_fits(source: Source, config: ModelConfig) -> Source:
    """Check that a model can start from a source.

    Args:
        source: The weights.
        config: The configuration of the model.

    Returns:
        The weights as those of the model's family.

    Raises:
        CheckpointError: They are of a family that the model cannot start from, or they differ from the model in a size
            of their weights that both state.
    """
    if source.config.family != config.family:
        converted = family_of(config).from_other_family(source, config)
        if converted is None:
            kind, starters = _families_for(source)
            message = f"{source.path} ({source.format}) has weights of {kind}, and model.family is {config.family}"
            keys = keys_of(source.config, source.not_stated, as_video=True) or {}
            raise _refusal(f"{message}; set it to {starters}, or use other weights", keys)
        source = converted
    if source.format == OWN_FORMAT:
        source = dataclasses.replace(source, config=source.config.settled())
    for name in config.weight_sizes:
        if name in source.not_stated and getattr(config, name) is None:
            raise CheckpointError(
                f"{source.path} ({source.format}) does not state its {name}, and its tensors do not reveal it; set "
                f"model.{name} (docs/weights.md)"
            )
    check_sizes(f"{source.path} ({source.format})", source.config, config, source.not_stated)
    return source


def check_sizes(where: str, saved: ModelConfig, config: ModelConfig, but: Collection[str] = ()) -> None:
    """Check that weights have the sizes of a model.

    Args:
        where: The weights, for the message.
        saved: Their configuration, of the model's family.
        config: The configuration of the model. None in a field leaves it open.
        but: Fields that are not compared.

    Raises:
        CheckpointError: Sizes differ. The message names all, and what to set in `[model]`.
    """
    sizes = {name: (getattr(saved, name), getattr(config, name)) for name in config.weight_sizes}
    if saved.pooler is not None and config.pooler is not None:
        sizes["pooler_depth"] = (saved.pooler.depth, config.pooler.depth)
        sizes["pooler_heads"] = (saved.pooler.num_heads, config.pooler.num_heads)
    differing = {name: (have, want) for name, (have, want) in sizes.items() if want not in (have, None)}
    differing = {name.removesuffix("_px"): pair for name, pair in differing.items() if name not in but}
    haves, wants = ([f"{key} {pair[side]}" for key, pair in differing.items()] for side in (0, 1))
    keys = {key: have for key, (have, _) in differing.items() if key in family_of(config).section.model_fields}
    if len(differing) > 1:
        of_pooler = {key: have for key, have in keys.items() if key.startswith("pooler_")}
        keys = (keys_of(saved, but, as_video=True) or keys) | of_pooler
        raise _refusal(f"{where} has {_listed(haves)}, this model has {_listed(wants)}; set [model] as below", keys)
    for key, (have, want) in differing.items():
        remedy = f"model.{key} = {json.dumps(have)}" if keys else f"model.variant to a size with {key} {have}"
        raise CheckpointError(f"{where} has {key} {have}, this model has {want}; set {remedy}")


def _refusal(message: str, keys: Mapping[str, object]) -> CheckpointError:
    """Return an error with a block of `[model]` to paste, which the command line prints below the message."""
    error = CheckpointError(message)
    if keys:
        error.add_note(
            toml_block({key: value for key, value in keys.items() if key not in ("num_frames", "image_size")})
        )
    return error


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _families_for(source: Source) -> tuple[str, str]:
    """Return what a source is, and the families that can start from it, for a message."""
    found = [name for name in family_names() if name == source.config.family or _can_start(name, source)]
    kind = source.config.family if len(found) == 1 else "an image ViT"
    return kind, " or ".join(part for part in (", ".join(found[:-1]), found[-1]) if part)


def _can_start(name: str, source: Source) -> bool:
    family = backbone_family(name)
    try:
        return family.from_other_family(source, configure(family.section.model_validate({}), {})) is not None
    except CoverError:  # the family's default sizes may not fit it either
        return False
