"""Finds the nearest clips by cosine similarity, exactly, with FAISS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cover.errors import CoverError
from cover.inference.feature_table import FeatureTable


class Neighbour(NamedTuple):
    """A clip that is near a query.

    Attributes:
        id: Its id in the table.
        similarity: Cosine similarity to the query, from -1 to 1.
        path: Its file, if known.
        class_name: Its class, if known.
    """

    id: str
    similarity: float
    path: str | None
    class_name: str | None


def check_faiss() -> None:
    """Check that FAISS is installed.

    Raises:
        CoverError: It is not; the message has the command.
    """
    if not find_spec("faiss"):
        raise CoverError("search needs faiss, which is not installed: pip install 'cover-video[search]'")


def nearest(
    table: FeatureTable, queries: Mapping[str, npt.NDArray[np.float32]], num_neighbours: int
) -> dict[str, list[Neighbour]]:
    """Find the nearest clips of each query.

    Args:
        table: The clips to search.
        queries: Features [D] by name. A query that is a clip of the table is not its own neighbour.
        num_neighbours: Clips to find; fewer if the table has fewer.

    Returns:
        The neighbours of each query, the nearest first.

    Raises:
        CoverError: FAISS is not installed.
    """
    check_faiss()
    import faiss

    index = faiss.IndexFlatIP(table.features.shape[1])  # the inner product of unit vectors is their cosine
    index.add(_unit_length(table.features))
    vectors = _unit_length(np.stack(list(queries.values())))
    similarities, rows = index.search(vectors, min(num_neighbours + 1, len(table.ids)))
    found = {}
    for query, scores, places in zip(queries, similarities.tolist(), rows.tolist(), strict=True):
        pairs = [(row, score) for row, score in zip(places, scores, strict=True) if table.ids[row] != query]
        found[query] = [
            Neighbour(table.ids[row], score, table.paths[row], table.classes[row])
            for row, score in pairs[:num_neighbours]
        ]
    return found


def neighbours_table(query: str, neighbours: Sequence[Neighbour]) -> Table:
    """Make a table with one row a neighbour."""
    table = Table(title=query, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("similarity", justify="right")
    table.add_column("clip", overflow="fold")
    table.add_column("class")
    for neighbour in neighbours:
        table.add_row(f"{neighbour.similarity:.3f}", neighbour.id, neighbour.class_name or "")
    return table


def neighbours_json(found: Mapping[str, Sequence[Neighbour]]) -> str:
    """Write a JSON list with {"query", "neighbours": [{"id", "similarity", "path", "class"}, …]} for each query."""
    return json.dumps(
        [
            {
                "query": query,
                "neighbours": [
                    {"id": n.id, "similarity": n.similarity, "path": n.path, "class": n.class_name} for n in neighbours
                ],
            }
            for query, neighbours in found.items()
        ],
        indent=2,
    )


def _unit_length(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.ascontiguousarray(features / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)
