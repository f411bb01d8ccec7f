"""Predictions for people and for programs: tables, and files that grow by one prediction at a time.

    .json      [{"file", "kind", "heads": {head: [{"class", "probability"}, …]}, "views": {head: text}}, …]
    .jsonl     the same, one object a line
    .csv       file, kind, head, rank, class, probability: one row a class
    .parquet   the same columns

CSV holds names unchanged, even if a spreadsheet would read them as formulas (=, +, -, @): an escaped name would no
longer be the name of the file or class.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any, TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cover.core.atomic_files import whole_file
from cover.errors import CoverError, printable
from cover.inference.prediction import Prediction
from cover.inference.views import Views

Format = TypeVar("Format")
Write = Callable[[Prediction], None]

_COLUMNS = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("head", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("class", pa.string()),
        pa.field("probability", pa.float32()),
    ]
)
_ROWS_A_GROUP = 65536


def prediction_table(prediction: Prediction) -> Table:
    """Show a prediction: one row a head, its classes with their probabilities in percent."""
    table = Table(title=f"{prediction.file} ({prediction.kind})", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("head")
    table.add_column("classes, most probable first (%)")
    for name, ranked in prediction.heads.items():
        classes = ", ".join(f"{class_name} {100 * probability:.1f}" for class_name, probability in ranked)
        table.add_row(f"{name}*" if name in prediction.sigmoid_heads else name, classes)
    notes = ["* each class has a probability of its own"] if prediction.sigmoid_heads else []
    if prediction.kind == "video":
        notes += _different_views(prediction.views)
    if notes:
        table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def _different_views(views: Mapping[str, Views]) -> list[str]:
    """What heads are shown of a video, if it is not the same part of the whole video for all of them."""
    shown = list(dict.fromkeys(views.values()))
    if len(shown) == 1:
        return [str(own) for own in shown if own.window]
    return [f"{', '.join(head for head in views if views[head] == own)}: {own}" for own in shown]


def for_suffix(path: Path, formats: Mapping[str, Format]) -> Format:
    """Look up the format of an output file by its suffix.

    Raises:
        CoverError: The suffix names none of the formats.
    """
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        known = ", ".join(formats)
        raise CoverError(f"{path} has none of the suffixes {known}, which choose the format; add one") from None


@contextmanager
def predictions_file(path: Path) -> Iterator[Write]:
    """Open a file for predictions, in the format of its suffix; it appears whole or not at all.

    Yields:
        A function that writes one prediction.

    Raises:
        CoverError: The suffix names none of the formats.
    """
    open_format = for_suffix(path, _FORMATS)
    with whole_file(path) as unfinished, open_format(unfinished) as write:
        yield write


@contextmanager
def json_list(file: TextIO) -> Iterator[Write]:
    """Write a JSON list, item by item. Yields a function that writes one prediction."""
    before = "[\n"

    def write(prediction: Prediction) -> None:
        nonlocal before
        file.write(before + indent(json.dumps(_as_object(prediction), indent=2), "  "))
        before = ",\n"

    yield write
    file.write("[]\n" if before == "[\n" else "\n]\n")


@contextmanager
def _json(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file, json_list(file) as write:
        yield write


@contextmanager
def _json_lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda prediction: print(json.dumps(_as_object(prediction)), file=file)


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS.names, lineterminator="\n")
        table.writeheader()
        yield lambda prediction: table.writerows(_as_rows(prediction))


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(path, _COLUMNS) as file:

        def flush() -> None:
            file.write_batch(pa.RecordBatch.from_pylist(rows, _COLUMNS))
            rows.clear()

        def write(prediction: Prediction) -> None:
            rows.extend(_as_rows(prediction))
            if len(rows) >= _ROWS_A_GROUP:
                flush()

        yield write
        flush()


_FORMATS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}


def _as_object(prediction: Prediction) -> dict[str, Any]:
    return {
        "file": printable(prediction.file),
        "kind": prediction.kind,
        "heads": {
            name: [{"class": class_name, "probability": probability} for class_name, probability in ranked]
            for name, ranked in prediction.heads.items()
        },
        "views": {name: str(views) for name, views in prediction.views.items()} if prediction.kind == "video" else {},
    }


def _as_rows(prediction: Prediction) -> list[dict[str, Any]]:
    return [
        {
            "file": printable(prediction.file),
            "kind": prediction.kind,
            "head": head,
            "rank": rank,
            "class": class_name,
            "probability": probability,
        }
        for head, ranked in prediction.heads.items()
        for rank, (class_name, probability) in enumerate(ranked, start=1)
    ]
