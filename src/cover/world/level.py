"""The floor plan of a map, read from the game's WAD file: where a camera can stand, walk and see.

The WAD format is described at https://doomwiki.org/wiki/WAD; Freedoom's maps are in the original (Doom) map format.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import numpy as np

from cover.world.game import FREEDOOM1_WAD, FREEDOOM2_WAD

_LINE = np.dtype(
    [("start", "<u2"), ("end", "<u2"), ("flags", "<u2"), ("special", "<u2"), ("tag", "<u2"), ("sides", "<u2", 2)]
)
_SIDE = np.dtype([("offset", "<i2", 2), ("textures", "S8", 3), ("sector", "<u2")])
_SECTOR = np.dtype(
    [("floor", "<i2"), ("ceiling", "<i2"), ("textures", "S8", 2), ("light", "<i2"), ("special", "<i2"), ("tag", "<i2")]
)
_THING = np.dtype([("x", "<i2"), ("y", "<i2"), ("angle", "<u2"), ("type", "<u2"), ("flags", "<u2")])

_NO_SIDE = 0xFFFF
_IMPASSABLE_FLAG = 1
_MAX_STEP = 24  # a player climbs no higher
_MIN_OPENING = 56  # and is this tall
_SPOT_GRID = 32
_CLEARANCE = 48  # from a spot to the nearest wall or thing
_MIN_CEILING = 96
_MIN_LIGHT = 144  # of 255


@dataclass(frozen=True)
class Level:
    """Walls and open spots of one map, in map units.

    Attributes:
        wall_starts, wall_ends: float [W, 2], lines that a walking camera should not cross: walls, high steps, closed
            doors, lines that trigger something (teleporter, exit, lift), and borders of places that hurt, flicker or
            are secret.
        spots: float [S, 2], places with room around them, under a high ceiling, in steady and sufficient light.
    """

    name: str
    wall_starts: np.ndarray
    wall_ends: np.ndarray
    spots: np.ndarray

    def random_spot(self, rng: np.random.Generator) -> tuple[float, float]:
        """One of the open spots, moved a little off the grid."""
        x, y = self.spots[rng.integers(len(self.spots))] + rng.uniform(-_SPOT_GRID / 2, _SPOT_GRID / 2, 2)
        return float(x), float(y)

    def is_open(self, x: float, y: float) -> bool:
        """Whether (x, y) is at an open spot."""
        return bool((np.abs(self.spots - (x, y)).max(axis=1) <= _SPOT_GRID / 2 + 1).any())

    def free_distance(self, x: float, y: float, heading_degrees: float) -> float:
        """How far the camera can walk from (x, y) along a heading before the first wall."""
        heading = np.radians(heading_degrees)
        across, along = _crossings(self.wall_starts - (x, y), self.wall_ends - (x, y), heading)
        return float(np.min(along[across & (along > 0)], initial=np.inf))


@functools.lru_cache(maxsize=64)
def read_level(map_name: str) -> Level:
    """Read the floor plan of a map such as "MAP01" or "E1M1"."""
    lumps = _map_lumps(map_name)
    vertices = np.frombuffer(lumps["VERTEXES"], "<i2").reshape(-1, 2).astype(float)
    lines = np.frombuffer(lumps["LINEDEFS"], _LINE)
    sides = np.frombuffer(lumps["SIDEDEFS"], _SIDE)
    sectors = np.frombuffer(lumps["SECTORS"], _SECTOR)
    things = np.frombuffer(lumps["THINGS"], _THING)
    starts, ends = vertices[lines["start"]], vertices[lines["end"]]
    side_sectors = np.where(lines["sides"] == _NO_SIDE, -1, sides["sector"][lines["sides"] % len(sides)].astype(int))
    walls = _is_wall(lines, side_sectors, sectors)
    solid_things = np.stack([things["x"], things["y"]], axis=1).astype(float)
    spots = _open_spots(starts, ends, walls, side_sectors, sectors, solid_things)
    return Level(map_name, starts[walls], ends[walls], spots)


def _map_lumps(map_name: str) -> dict[str, bytes]:
    for wad_file in (FREEDOOM2_WAD, FREEDOOM1_WAD):
        data = wad_file.read_bytes()
        _, num_lumps, directory = struct.unpack_from("<4sii", data)
        entries = [struct.unpack_from("<ii8s", data, directory + 16 * index) for index in range(num_lumps)]
        names = [name.rstrip(b"\0").decode("ascii", "replace") for _, _, name in entries]
        if map_name in names:
            first = names.index(map_name) + 1
            return {
                names[index]: data[entries[index][0] : entries[index][0] + entries[index][1]]
                for index in range(first, first + 10)
            }
    raise KeyError(map_name)


def _is_wall(lines: np.ndarray, side_sectors: np.ndarray, sectors: np.ndarray) -> np.ndarray:
    front, back = sectors[side_sectors[:, 0]], sectors[side_sectors[:, 1]]
    opening = np.minimum(front["ceiling"], back["ceiling"]).astype(int) - np.maximum(front["floor"], back["floor"])
    step = np.abs(front["floor"].astype(int) - back["floor"])
    one_sided = (side_sectors < 0).any(axis=1)
    impassable = (lines["flags"] & _IMPASSABLE_FLAG) > 0
    special = (lines["special"] > 0) | (front["special"] > 0) | (back["special"] > 0)
    return np.asarray(one_sided | impassable | special | (opening < _MIN_OPENING) | (step > _MAX_STEP))


def _open_spots(
    starts: np.ndarray,
    ends: np.ndarray,
    walls: np.ndarray,
    side_sectors: np.ndarray,
    sectors: np.ndarray,
    things: np.ndarray,
) -> np.ndarray:
    low, high = np.minimum(starts, ends).min(axis=0), np.maximum(starts, ends).max(axis=0)
    axes = [np.arange(low[axis] + _SPOT_GRID / 2, high[axis], _SPOT_GRID) for axis in (0, 1)]
    rows = [np.stack([axes[0], np.full(len(axes[0]), y)], axis=1) for y in axes[1]]
    sector_is_good = (
        (sectors["ceiling"].astype(int) - sectors["floor"] >= _MIN_CEILING)
        & (sectors["light"] >= _MIN_LIGHT)
        & (sectors["special"] == 0)
    )
    # A thing is an obstacle of no length.
    obstacles = np.concatenate([starts[walls], things]), np.concatenate([ends[walls], things])
    spots = []
    for points in rows:
        indices = _sectors_at(points, starts, ends, side_sectors)
        points = points[(indices >= 0) & sector_is_good[indices]]
        spots.append(points[_gaps(points, *obstacles) >= _CLEARANCE])
    return np.concatenate(spots)


def _sectors_at(points: np.ndarray, starts: np.ndarray, ends: np.ndarray, side_sectors: np.ndarray) -> np.ndarray:
    """Sector of each point of one row (equal y), -1 outside: the side of the nearest line to the east that faces it."""
    y = points[0, 1]
    crossing = (starts[:, 1] > y) != (ends[:, 1] > y)
    starts, ends, side_sectors = starts[crossing], ends[crossing], side_sectors[crossing]
    if not len(starts):
        return np.full(len(points), -1)
    slope = (ends[:, 0] - starts[:, 0]) / (ends[:, 1] - starts[:, 1])
    gaps = starts[:, 0] + (y - starts[:, 1]) * slope - points[:, :1]
    nearest = np.where(gaps > 0, gaps, np.inf).argmin(axis=1)
    # A line's front is on its right: seen from the west, a line running north shows its back.
    facing = np.where(ends[nearest, 1] > starts[nearest, 1], 1, 0)
    inside = gaps[np.arange(len(points)), nearest] > 0
    return np.where(inside, side_sectors[nearest, facing], -1)


def _gaps(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance from each point of one row (equal y) to the nearest obstacle; exact where it is below _CLEARANCE."""
    if not len(points):
        return np.zeros(0)
    south, north = np.minimum(starts, ends)[:, 1], np.maximum(starts, ends)[:, 1]
    near = (south - _CLEARANCE < points[0, 1]) & (points[0, 1] < north + _CLEARANCE)
    return np.asarray(_distances(points, starts[near], ends[near]).min(axis=1, initial=_CLEARANCE))


def _distances(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distances [P, W] from points to line segments."""
    spans = ends - starts
    offsets = points[:, None] - starts
    shares = ((offsets * spans).sum(axis=2) / np.maximum((spans**2).sum(axis=1), 1)).clip(0, 1)
    return np.asarray(np.linalg.norm(offsets - shares[..., None] * spans, axis=2))


def _crossings(starts: np.ndarray, ends: np.ndarray, heading: float) -> tuple[np.ndarray, np.ndarray]:
    """Which segments the line through the origin along `heading` crosses, and how far along it."""
    ahead, left = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    start_left, end_left = starts @ left, ends @ left
    across = (start_left > 0) != (end_left > 0)
    share = np.divide(start_left, start_left - end_left, out=np.zeros_like(start_left), where=across)
    return across, (starts + share[:, None] * (ends - starts)) @ ahead
