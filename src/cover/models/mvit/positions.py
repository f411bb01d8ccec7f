"""Relative positions of queries and keys, and absolute positions, for any grid.

A score of MViT v2 is q·k / √E + q·h + q·w + q·t, where h, w and t are rows of three tables, for the distance of query
and key in rows, columns and time. q·h takes few values for one query: one for each row of keys. So the sum is the
product of longer vectors, and attention needs no bias for each pair of tokens:

    query  [q, q·h for each row of keys, q·w for each column, q·t for each slot]
    key    [k, 1 at its row,             1 at its column,     1 at its slot    ]
"""

from __future__ import annotations

from math import isqrt, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cover.models.mvit.pooling import Size


class Distances(NamedTuple):
    """The distances between the queries and keys of a clip.

    Attributes:
        time: int64 [queries, keys], the row of the table for each pair of slots.
        rows: The same for rows.
        columns: The same for columns.
        places_LP: Where each key is: 1 at its row, column and slot, and 0 elsewhere.
    """

    time: Tensor
    rows: Tensor
    columns: Tensor
    places_LP: Tensor


def distances(queries: Size, keys: Size, device: torch.device) -> Distances:
    """Compute the distances between two grids, on the device.

    Args:
        queries: The grid of queries.
        keys: The grid of keys.
        device: Where to compute.
    """
    slots, rows, columns = keys
    places = [
        torch.eye(rows, device=device)[None, :, None].expand(slots, -1, columns, -1),
        torch.eye(columns, device=device)[None, None].expand(slots, rows, -1, -1),
        torch.eye(slots, device=device)[:, None, None].expand(-1, rows, columns, -1),
    ]
    time, row, column = (axis_distances(*sizes, device) for sizes in zip(queries, keys, strict=True))
    return Distances(time, row, column, torch.cat(places, dim=-1).flatten(0, 2))


def axis_distances(queries: int, keys: int, device: torch.device) -> Tensor:
    """Return the row of a table of 2 · max(queries, keys) - 1 distances for each query and key along an axis.

    They are computed in float32 and in the order of the published code. Distances that are no whole numbers are rounded
    down, and float32 takes some whole numbers below themselves. The published Large model has learned these: 78 queries
    and 10 keys along a side. torchvision computes in another order, and takes none below.

    Args:
        queries: The number of queries.
        keys: The number of keys.
        device: Where to compute.

    Returns:
        int64 [queries, keys].
    """
    query_scale, key_scale = max(keys / queries, 1.0), max(queries / keys, 1.0)
    query = torch.arange(queries, device=device)[:, None] * query_scale
    return (query - torch.arange(keys, device=device) * key_scale + (keys - 1) * key_scale).long()


def relative_scores(
    query_BTYXHE: Tensor, tables: tuple[Tensor | None, Tensor, Tensor], where: Distances
) -> list[Tensor]:
    """Compute the products of queries and relative positions, times √E, by which attention divides them again.

    Args:
        query_BTYXHE: The queries.
        tables: Relative positions [distances, E] in time, rows and columns. An image model has none in time.
        where: The distances of queries and keys.

    Returns:
        [B, T, Y, X, H, keys] for rows, columns and time.
    """
    _, slots, rows, columns, num_heads, width = query_BTYXHE.shape
    of_time, of_rows, of_columns = tables
    rows_YEK = _factors(of_rows, where.rows, query_BTYXHE)
    # One product for each column and head, with a stride: the queries are not copied.
    columns_CEK = _factors(of_columns, where.columns, query_BTYXHE).repeat_interleave(num_heads, 0)
    products = [
        query_BTYXHE.reshape(-1, rows, columns * num_heads, width) @ rows_YEK,
        (query_BTYXHE.reshape(-1, columns * num_heads, width).transpose(0, 1) @ columns_CEK).transpose(0, 1),
    ]
    if of_time is not None:
        time_TEK = _factors(of_time, where.time, query_BTYXHE)
        products.append(query_BTYXHE.reshape(-1, slots, rows * columns * num_heads, width) @ time_TEK)
    return [part.reshape(*query_BTYXHE.shape[:-1], part.shape[-1]) for part in products]


def _factors(table_RE: Tensor, index: Tensor, query: Tensor) -> Tensor:
    """Return the relative positions of queries and keys along an axis, times √E, [queries, E, keys]."""
    table_RE = resize_table(table_RE, 2 * max(index.shape) - 1) * sqrt(table_RE.shape[1])
    return F.embedding(index, table_RE).to(query.dtype).mT


def resize_table(table_RE: Tensor, num_rows: int) -> Tensor:
    """Resize a table of relative positions, linearly, as the published code does.

    Args:
        table_RE: [R, E].
        num_rows: The number of distances that are needed. The one of a single slot is the middle row.
    """
    if len(table_RE) == num_rows:
        return table_RE
    return F.interpolate(table_RE.T[None], size=num_rows, mode="linear")[0].T


def resize_time(time_1TD: Tensor, num_slots: int) -> Tensor:
    """Resize absolute positions in time, linearly."""
    if time_1TD.shape[1] == num_slots:
        return time_1TD
    return F.interpolate(time_1TD.mT, size=num_slots, mode="linear").mT


def resize_space(space_1ND: Tensor, rows: int, columns: int) -> Tensor:
    """Resize absolute positions in a square frame to another grid, bicubically."""
    side = isqrt(space_1ND.shape[1])
    if (side, side) == (rows, columns):
        return space_1ND
    frame_1DYX = space_1ND.mT.unflatten(2, (side, side))
    return F.interpolate(frame_1DYX, size=(rows, columns), mode="bicubic").flatten(2).mT
