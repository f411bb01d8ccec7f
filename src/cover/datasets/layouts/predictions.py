"""Files that a teacher is sure about → a manifest with its answers as labels.

cover predict runs/k400 /data/web --out web.jsonl
cover index predictions web.jsonl --kind image --like k400-train.arrow

A file is kept with the most probable class of a head if its probability is
at least --min-probability. Classes and their order are those of the manifest
that --like names, which the teacher was trained on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cover.core.text_files import read_json
from cover.datasets.annotation_files import read_lines
from cover.datasets.finder import PathFinder
from cover.datasets.location import LocatedSplit, list_missing, write_manifests
from cover.datasets.manifest import Manifest
from cover.datasets.names import Kind
from cover.datasets.notices import shown
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

_COLUMNS = ["file", "kind", "head", "rank", "class", "probability"]


class _Answer(NamedTuple):
    """The most probable class of a file, by one head."""

    file: str
    kind: str
    head: str
    class_name: str
    probability: float


def index_predictions(
    file: str | Path,
    *,
    kind: Kind,
    like: Manifest,
    out: str | Path,
    name: str,
    root: str | Path = ".",
    head: str | None = None,
    min_probability: float = 0.5,
) -> Manifest:
    """Write OUT/NAME-train.arrow for the files that a model is sure about, as OmniSource (Duan et al. 2020) does.

    Args:
        file: What `cover predict --out` has written.
        kind: Files of the other kind are left out.
        like: A manifest of the teacher's training set, whose classes the new one has.
        out: The folder for the manifest.
        name: The name of the dataset.
        root: The folder that relative paths start from, where `cover predict` ran.
        head: Whose answers count; it can be omitted if there is one.
        min_probability: Of the most probable class.

    Returns:
        The manifest.

    Raises:
        ManifestError: The file holds no predictions or those of several heads, a class is not one of `like`, or no
            file is left.
    """
    answers = list(_of_head(_read(Path(file)), head, str(file)))
    label_of = {class_name: label for label, class_name in enumerate(like.class_names)}
    if unknown := next((answer for answer in answers if answer.class_name not in label_of), None):
        raise ManifestError(
            f"{file}: {shown(unknown.class_name)}, the class of {shown(unknown.file)}, is none of {like.path}; name a "
            "manifest that the head was trained on with --like"
        )
    of_kind = [answer for answer in answers if answer.kind == kind]
    sure = [answer for answer in of_kind if answer.probability >= min_probability]
    finder = PathFinder(Path(root), kind)
    located = [(answer, finder.find(answer.file)) for answer in sure]
    found = [(answer, location) for answer, location in located if location is not None]
    if not of_kind:
        raise ManifestError(f"{file} has no predictions of {kind}s; choose the other --kind")
    if unsure := len(of_kind) - len(sure):
        message = "%s: the most probable class of %s of %s %ss is less probable than %g; they are left out"
        logger.warning(message, name, f"{unsure:,}", f"{len(of_kind):,}", kind, min_probability)
    if not found:
        raise ManifestError(f"no {kind} of {file} is left; lower --min-probability, or name their folder with --root")
    missing = [(answer.file, answer.class_name) for answer, location in located if location is None]
    split = LocatedSplit([location for _, location in found], [label_of[answer.class_name] for answer, _ in found])
    (manifest,) = write_manifests({"train": split}, like.class_names, root=root, kind=kind, out=out, name=name)
    list_missing(missing, len(sure), out=out, name=name, split="train")
    return manifest


def _of_head(answers: Iterator[_Answer], head: str | None, source: str) -> Iterator[_Answer]:
    """Yield the answers of one head."""
    by_head: dict[str, list[_Answer]] = {}
    for answer in answers:
        by_head.setdefault(answer.head, []).append(answer)
    if head not in by_head and (head is not None or len(by_head) != 1):
        raise ManifestError(f"{source} has predictions of the heads {', '.join(by_head)}; choose one with --head")
    yield from by_head[head] if head is not None else next(iter(by_head.values()))


def _read(file: Path) -> Iterator[_Answer]:
    """Yield the most probable class of each file and head. Raises ManifestError for other files."""
    try:
        if file.suffix in (".json", ".jsonl"):
            objects = read_json(file) if file.suffix == ".json" else map(json.loads, read_lines(file))
            for item in objects:
                for head, ranked in item["heads"].items():
                    yield _Answer(item["file"], item["kind"], head, ranked[0]["class"], ranked[0]["probability"])
        else:
            texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(("file", "head", "class"), pa.string()))
            table = pq.read_table(file) if file.suffix == ".parquet" else pa.csv.read_csv(file, convert_options=texts)
            first = table.select(_COLUMNS).filter(pc.equal(table["rank"], 1)).drop_columns("rank")
            yield from map(_Answer._make, zip(*first.to_pydict().values(), strict=True))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ManifestError(
            f"{file} cannot be read as predictions ({reason}); write it with `cover predict --out`"
        ) from None
