"""Logits of an evaluation in a Parquet file, for ensembles and thresholds outside this library.

    sample     string, the sample's id in the manifest
    dataset    string
    label      int32
    logits     float32 [classes], the mean over the sample's views

The metadata key "cover" holds JSON: the fields of the result's EvaluationKey, and `class_names` in label order.
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

WriteLogits = Callable[[Sequence[str], Tensor, Tensor], None]
"""(sample ids, logits [B,classes], labels [B]) → None."""


@contextmanager
def logits_file(path: Path, key: EvaluationKey, class_names: Sequence[str]) -> Iterator[WriteLogits]:
    """Open the file of an evaluation; it appears whole or not at all. Memory does not grow with the samples.

    Yields:
        A function that writes a batch as one row group.

    Raises:
        CoverError: The file cannot be written.
    """
    about = json.dumps(vars(key) | {"class_names": list(class_names)})
    schema = pa.schema(
        [
            ("sample", pa.string()),
            ("dataset", pa.string()),
            ("label", pa.int32()),
            ("logits", pa.list_(pa.float32(), len(class_names))),
        ],
        metadata={b"cover": about.encode()},
    )
    with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:

        def write(sample_ids: Sequence[str], logits: Tensor, labels: Tensor) -> None:
            values = pa.FixedSizeListArray.from_arrays(logits.float().flatten().numpy(), len(class_names))
            columns = [list(sample_ids), [key.dataset] * len(sample_ids), labels.int().numpy(), values]
            writer.write_table(pa.table(columns, schema=schema))

        yield write
