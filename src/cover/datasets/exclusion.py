"""Lists of samples to exclude from training, as `cover check --leaks` writes them and recipes name them.

    dataset,split,sample_id,reason,match
    k400,train,yoga/-0x9Sa.mp4,"same source, overlapping",moments-val/yt-0x9Sa_3.mp4

`dataset` and `split` are those of a manifest. The last two columns are for people and may be missing.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from cover.core.atomic_files import whole_file
from cover.core.text_files import read_bytes
from cover.datasets.manifest import Manifest
from cover.errors import ManifestError

logger = logging.getLogger(__name__)

COLUMNS = ("dataset", "split", "sample_id", "reason", "match")
_READ = list(COLUMNS[:3])
_MAX_BYTES = 2**28


def write_exclusions(path: Path, lines: Sequence[tuple[str, ...]]) -> None:
    """Write a list atomically.

    Args:
        path: The CSV file.
        lines: The values of COLUMNS for each sample.

    Raises:
        CoverError: The file cannot be written.
    """
    columns = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    table = pa.table({name: pa.array(values, pa.string()) for name, values in zip(COLUMNS, columns, strict=True)})
    with whole_file(path) as unfinished:
        pyarrow.csv.write_csv(table, unfinished)


def read_exclusions(paths: Sequence[Path]) -> pa.Table:
    """Return the columns dataset, split and sample_id of all lists together.

    Raises:
        ManifestError: A file is missing or not such a list; the message names it.
    """
    empty = pa.table({name: pa.array([], pa.string()) for name in _READ})
    return pa.concat_tables([empty, *(_read(path) for path in paths)])


def without_excluded(manifest: Manifest, excluded: pa.Table) -> Manifest:
    """Return the manifest without the samples that `excluded` lists for its dataset and split.

    A warning says how many listed samples the manifest does not have.

    Args:
        manifest: The manifest.
        excluded: From `read_exclusions`.

    Raises:
        ManifestError: The manifest has none of the listed samples. The list was made for another manifest, and
            excluding nothing would go unnoticed.
    """
    its_own = pc.and_(pc.equal(excluded["dataset"], manifest.name), pc.equal(excluded["split"], manifest.split))
    sample_ids = pc.unique(excluded.filter(its_own)["sample_id"])
    rest = manifest.without(sample_ids)
    num_unknown = len(sample_ids) - (len(manifest) - len(rest))
    if num_unknown and len(rest) == len(manifest):
        raise ManifestError(
            f"{manifest.path} has none of the {len(sample_ids)} excluded samples of {manifest.name} "
            f"{manifest.split}, such as {sample_ids[0]}; make the list again with `cover check --leaks`"
        )
    if num_unknown:
        message = "%s of %s excluded samples of %s %s are not in %s; was the list made for another copy?"
        logger.warning(message, num_unknown, len(sample_ids), manifest.name, manifest.split, manifest.path)
    return rest


def _read(path: Path) -> pa.Table:
    columns = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_READ, pa.string()), include_columns=_READ)
    try:
        content = read_bytes(path, max_bytes=_MAX_BYTES)
        header = content.lstrip().partition(b"\n")[0].decode(errors="replace")
        delimiter = next((mark for mark in ",;\t" if mark in header), ",")
        lines = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        table = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=lines, convert_options=columns)
    except FileNotFoundError:
        raise ManifestError(
            f"{path} does not exist; write it with `cover check --leaks`, or correct data.exclude"
        ) from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(
            f"{path} is not an exclusion list ({reason}); write CSV with the columns {', '.join(_READ)}"
        ) from None
    for place, column in enumerate(("dataset", "split")):
        table = table.set_column(place, column, pc.utf8_trim_whitespace(table[column]))
    return table
