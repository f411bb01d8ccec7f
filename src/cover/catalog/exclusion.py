"""Lists of samples that are left out of training, as `cover check --leaks` writes them and recipes name them.

    dataset,split,sample_id,reason,match
    k400,train,yoga/-0x9Sa.mp4,"same source, overlapping",moments-val/yt-0x9Sa_3.mp4

`dataset` and `split` are those of a manifest. The last two columns are for the reader; a list may do without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from cover.catalog.manifest import Manifest
from cover.errors import ManifestError
from cover.whole_files import whole_file

COLUMNS = ("dataset", "split", "sample_id", "reason", "match")
_READ = list(COLUMNS[:3])


def write_exclusions(path: Path, lines: Sequence[tuple[str, ...]]) -> None:
    """Write a list of which each line has the values of COLUMNS. The file appears whole or not at all."""
    columns = zip(*lines, strict=True) if lines else [()] * len(COLUMNS)
    table = pa.table({name: pa.array(values, pa.string()) for name, values in zip(COLUMNS, columns, strict=True)})
    with whole_file(path) as unfinished:
        pyarrow.csv.write_csv(table, unfinished)


def read_exclusions(paths: Sequence[Path]) -> pa.Table:
    """The columns dataset, split and sample_id of all lists together. Raises ManifestError, naming the file."""
    empty = pa.table({name: pa.array([], pa.string()) for name in _READ})
    return pa.concat_tables([empty, *(_read(path) for path in paths)])


def without_excluded(manifest: Manifest, excluded: pa.Table) -> Manifest:
    """The manifest less what `excluded`, made by read_exclusions, says of its dataset and split.

    Raises ManifestError when that is something, but the manifest has none of it: then the list was made for another
    one, and leaving nothing out would go unnoticed.
    """
    its_own = pc.and_(pc.equal(excluded["dataset"], manifest.name), pc.equal(excluded["split"], manifest.split))
    sample_ids = excluded.filter(its_own)["sample_id"].to_pylist()
    rest = manifest.without(sample_ids)
    if len(sample_ids) and len(rest) == len(manifest):
        raise ManifestError(
            f"{manifest.path} has none of the {len(sample_ids)} excluded samples of {manifest.name} "
            f"{manifest.split}, as {sample_ids[0]}; make the list anew: `cover check --leaks`"
        )
    return rest


def _read(path: Path) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_READ, pa.string()), include_columns=_READ)
    try:
        return pyarrow.csv.read_csv(path, convert_options=options)
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist; `cover check --leaks` writes it, or mend data.exclude") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(
            f"{path} is not an exclusion list ({reason}); it is CSV with the columns {', '.join(_READ)}"
        ) from None
