"""Logits of an evaluation in a Parquet file, for ensembles and thresholds outside this library.

    sample     string, the sample's id in the manifest
    dataset    string
    label      int32
    logits     float32 [classes], the mean over the sample's views

Multi-label datasets also have `labels`, all labels of the sample, and `label_weights`, how much each applies.

The metadata key "cover" holds JSON: the fields of the result's EvaluationKey, `class_names` in label order, and which
function turns the logits into `probabilities`, "softmax" or "sigmoid".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from cover.core.atomic_files import whole_file
from cover.evaluation.result import EvaluationKey
from cover.training.packed_batch import ONE_CLASS, HeadLoss

WriteLogits = Callable[[Sequence[str], Tensor, Tensor, Tensor | None], None]
"""(sample ids, logits [B,classes], labels [B], classes [B,classes] as in EvalMetrics) → None."""


@contextmanager
def logits_file(
    path: Path, key: EvaluationKey, class_names: Sequence[str], head: HeadLoss = ONE_CLASS
) -> Iterator[WriteLogits]:
    """Open the file of an evaluation; it appears whole or not at all. Memory does not grow with the samples.

    Args:
        path: The file.
        key: Of the evaluation.
        class_names: Of the head, in label order.
        head: Its loss, and whether samples have several classes.

    Yields:
        A function that writes a batch as one row group.

    Raises:
        CoverError: The file cannot be written.
    """
    probabilities = "sigmoid" if head.kind == "bce" else "softmax"
    about = json.dumps(vars(key) | {"class_names": list(class_names), "probabilities": probabilities})
    fields: list[tuple[str, pa.DataType]] = [
        ("sample", pa.string()),
        ("dataset", pa.string()),
        ("label", pa.int32()),
        ("logits", pa.list_(pa.float32(), len(class_names))),
    ]
    if head.num_targets:
        fields += [("labels", pa.list_(pa.int32())), ("label_weights", pa.list_(pa.float32()))]
    schema = pa.schema(fields, metadata={b"cover": about.encode()})
    with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:

        def write(sample_ids: Sequence[str], logits: Tensor, labels: Tensor, classes: Tensor | None) -> None:
            values = pa.FixedSizeListArray.from_arrays(logits.float().flatten().numpy(), len(class_names))
            columns = [list(sample_ids), [key.dataset] * len(sample_ids), labels.int().numpy(), values]
            if classes is not None:
                own = [row.nonzero()[:, 0] for row in classes]
                columns.append([places.tolist() for places in own])
                columns.append([row[places].tolist() for row, places in zip(classes, own, strict=True)])
            writer.write_table(pa.table(columns, schema=schema))

        yield write
