"""Features of clips with their names, in a file that other tools can read too.

features.parquet     a row a clip: id, path, class (null if unknown), feature float32 [D]
features.npy         float32 [N, D]
features.ids.json    beside a .npy: {"backbone": …, "views": …, "ids": […]}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cover.core.atomic_files import whole_file
from cover.errors import CoverError
from cover.inference.views import Views

SUFFIXES = (".parquet", ".npy")
_METADATA_KEY = b"cover"


@dataclass(frozen=True)
class FeatureTable:
    """Features of N clips.

    Attributes:
        ids, paths, classes: Of the clips; every id is unique.
        features: float32 [N,D].
        backbone: Digest of the model that computed them; features of different backbones cannot be compared.
        views: How the clips were read; None in files of older versions, which took whole videos.
    """

    ids: list[str]
    paths: list[str | None]
    classes: list[str | None]
    features: npt.NDArray[np.float32]
    backbone: str
    views: Views | None = None

    def save(self, path: Path) -> None:
        """Write a .parquet file, or a .npy file with the ids beside it; whole or not at all."""
        if path.suffix == ".parquet":
            with whole_file(path) as unfinished:
                pq.write_table(self._arrow(), unfinished)
            return
        with whole_file(ids_file(path)) as ids, whole_file(path) as features:  # both appear, or neither
            ids.write_text(json.dumps({**self._metadata(), "ids": self.ids}, indent=0) + "\n")
            with features.open("wb") as file:
                np.save(file, self.features)

    @classmethod
    def open(cls, path: Path) -> FeatureTable:
        """Read a file that `save` has written.

        Raises:
            CoverError: The file is missing, or it is something else.
        """
        check_suffix(path)
        for file in [path, ids_file(path)] if path.suffix == ".npy" else [path]:
            if not file.is_file():
                raise CoverError(f"{file} does not exist; write it with `cover embed`")
        try:
            if path.suffix == ".npy":
                beside = json.loads(ids_file(path).read_text())
                features, ids = np.load(path, allow_pickle=False), beside["ids"]
                return cls(ids, [None] * len(ids), [None] * len(ids), features, beside["backbone"], _views(beside))
            table = pq.read_table(path)
            metadata = json.loads(table.schema.metadata[_METADATA_KEY])
            column = table["feature"].combine_chunks()
            features = column.flatten().to_numpy().reshape(len(column), -1)
            ids, paths, classes = (table[name].to_pylist() for name in ("id", "path", "class"))
            return cls(ids, paths, classes, features, metadata["backbone"], _views(metadata))
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise CoverError(f"{path} is not a table of features; write it with `cover embed`") from error

    def _arrow(self) -> pa.Table:
        feature = pa.FixedSizeListArray.from_arrays(pa.array(self.features.ravel()), self.features.shape[1])
        columns = {
            "id": pa.array(self.ids, pa.string()),
            "path": pa.array(self.paths, pa.string()),
            "class": pa.array(self.classes, pa.string()),
            "feature": feature,
        }
        return pa.table(columns, metadata={_METADATA_KEY: json.dumps(self._metadata())})

    def _metadata(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "views": self.views and asdict(self.views)}


def _views(metadata: dict[str, Any]) -> Views | None:
    values = metadata.get("views")
    return Views.of_dict(values) if values else None


def check_suffix(path: Path) -> None:
    """Check that a file for features ends in .parquet or .npy.

    Raises:
        CoverError: It does not.
    """
    if path.suffix not in SUFFIXES:
        raise CoverError(f"{path} ends in neither {' nor '.join(SUFFIXES)}; choose one of the two formats")


def ids_file(path: Path) -> Path:
    """The file with the ids of a .npy file."""
    return path.with_suffix(".ids.json")
