"""`freedoom_moves`: clips that only the order of their frames can tell apart.

The classes come in reversal pairs. A clip is planned, filmed and measured without regard to its class. Then it is kept
as it is, or played backwards if it shows the partner of the wanted class. So both classes of a pair have the same
distribution of frames, and no single frame, thing, place or animation tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cover.world.game import Game
from cover.world.puppets import CREATURES, DECORATIONS, ITEMS, Sprite
from cover.world.staging import relight, stand_in_the_open
from cover.world.tracks import VIEW_HEIGHT, VIEW_WIDTH, Box, Boxes, Track, film, follow
from cover.world.world_dataset import ClipFormat, WorldDataset

_MAX_WIDTH = 0.45  # of the view; things wider than this at the planned height are shown smaller
_MAX_TURN_DEGREES = 0.1  # a tic
_FREE_DISTANCE = 160  # map units
_SPRITES = CREATURES + DECORATIONS + tuple(item for item in ITEMS if item.height >= 19)

Plan = Callable[[np.random.Generator, int], list[Track]]


@dataclass(frozen=True)
class Pair:
    """Two classes, each the other one played backwards.

    Attributes:
        plan: (random source, number of frames) → the tracks of a clip that shows one of the two.
        measure: Boxes seen of each track → how much happened, in units of the smallest change that counts: the clip
            shows `first` from 1 upwards, `second` from -1 downwards, and neither in between.
    """

    first: str
    second: str
    plan: Plan
    measure: Callable[[list[Boxes]], float]


def _track(
    rng: np.random.Generator,
    num_frames: int,
    *,
    sprites: tuple[Sprite, ...] = _SPRITES,
    across: np.ndarray | float,
    up: np.ndarray | float,
    size: np.ndarray | float,
    distance: np.ndarray | float | None = None,
    shown: np.ndarray | bool = True,
) -> Track:
    sprite = sprites[rng.integers(len(sprites))]
    widest = np.max(size) * sprite.width / sprite.height * VIEW_HEIGHT / VIEW_WIDTH
    size = np.asarray(size) * min(1.0, _MAX_WIDTH / widest)
    distance = rng.uniform(64, 110) if distance is None else distance
    full = {"across": across, "up": up, "size": size, "distance": distance, "shown": shown}
    arrays = {name: np.broadcast_to(value, num_frames) for name, value in full.items()}
    facing_degrees = rng.choice([180, 180, rng.uniform(0, 360)])
    return Track(sprite, facing_degrees, **arrays)


def _progress(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Progress from 0 to 1 or from 1 to 0, at a slightly changing speed."""
    progress = np.linspace(0, 1, num_frames) ** rng.uniform(0.8, 1.25)
    return progress if rng.random() < 0.5 else 1 - progress


def _cross(rng: np.random.Generator, num_frames: int) -> list[Track]:
    left, right = rng.uniform(-0.40, -0.22), rng.uniform(0.22, 0.40)
    across = left + (right - left) * _progress(rng, num_frames)
    up = rng.uniform(-0.15, 0.15) + rng.uniform(-0.08, 0.08) * _progress(rng, num_frames)
    return [_track(rng, num_frames, across=across, up=up, size=rng.uniform(0.28, 0.55))]


def _come_nearer(rng: np.random.Generator, num_frames: int) -> list[Track]:
    nearest, growth = rng.uniform(56, 72), rng.uniform(1.7, 2.6)
    closeness = growth ** (_progress(rng, num_frames) - 1)
    across, up = rng.uniform(-0.2, 0.2) * closeness, rng.uniform(-0.12, 0.12) * closeness
    size = rng.uniform(0.5, 0.75) * closeness
    return [_track(rng, num_frames, across=across, up=up, size=size, distance=nearest / closeness)]


def _rise(rng: np.random.Generator, num_frames: int) -> list[Track]:
    low, high = rng.uniform(-0.34, -0.2), rng.uniform(0.2, 0.34)
    up = low + (high - low) * _progress(rng, num_frames)
    across = rng.uniform(-0.25, 0.25) + rng.uniform(-0.08, 0.08) * _progress(rng, num_frames)
    return [_track(rng, num_frames, across=across, up=up, size=rng.uniform(0.25, 0.42))]


def _appear(rng: np.random.Generator, num_frames: int) -> list[Track]:
    return [_track(rng, num_frames, shown=_one_part(rng, num_frames), **_still(rng))]


def _replace(rng: np.random.Generator, num_frames: int) -> list[Track]:
    part, place = _one_part(rng, num_frames), _still(rng)
    creature = _track(rng, num_frames, sprites=CREATURES, shown=part, **place)
    item = _track(rng, num_frames, sprites=ITEMS, shown=~part, **place)
    return [creature, item]


def _circle(rng: np.random.Generator, num_frames: int) -> list[Track]:
    angle = np.radians(rng.uniform(0, 360) + rng.uniform(240, 400) * _progress(rng, num_frames))
    radius = rng.uniform(0.2, 0.27)
    across = rng.uniform(-0.15, 0.15) + radius * np.cos(angle)
    up = rng.uniform(-0.03, 0.03) + radius * 1.2 * np.sin(angle)
    return [_track(rng, num_frames, across=across, up=up, size=rng.uniform(0.22, 0.36))]


def _meet(rng: np.random.Generator, num_frames: int) -> list[Track]:
    center, near, far = rng.uniform(-0.06, 0.06), rng.uniform(0.07, 0.1), rng.uniform(0.27, 0.36)
    offset = near + (far - near) * _progress(rng, num_frames)
    kinds = rng.permutation(len(_SPRITES))[:2]
    up = rng.uniform(-0.12, 0.12)
    return [
        _track(
            rng,
            num_frames,
            sprites=(_SPRITES[kind],),
            across=center + side * offset,
            up=up,
            size=rng.uniform(0.28, 0.45),
        )
        for kind, side in zip(kinds, (-1, 1), strict=True)
    ]


def _one_part(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """True before, or after, a moment in the middle of the clip."""
    before = np.arange(num_frames) < num_frames * rng.uniform(0.3, 0.7)
    return before if rng.random() < 0.5 else ~before


def _still(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "across": rng.uniform(-0.25, 0.25),
        "up": rng.uniform(-0.15, 0.15),
        "size": rng.uniform(0.35, 0.65),
        "distance": rng.uniform(64, 110),
    }


def _ends(boxes: Boxes) -> tuple[Box, Box] | None:
    first, last = boxes[0], boxes[-1]
    return (first, last) if first and last else None


def _moved_right(boxes: list[Boxes]) -> float:
    ends = _ends(boxes[0])
    return (ends[1].x - ends[0].x) / 0.25 if ends else 0


def _moved_up(boxes: list[Boxes]) -> float:
    ends = _ends(boxes[0])
    return (ends[0].y - ends[1].y) / 0.25 if ends else 0


def _grew(boxes: list[Boxes]) -> float:
    ends = _ends(boxes[0])
    return float(np.log(ends[1].area / ends[0].area) / np.log(1.6)) if ends else 0


def _came(boxes: list[Boxes]) -> float:
    return float(boxes[0][-1] is not None) - float(boxes[0][0] is not None)


def _came_second(boxes: list[Boxes]) -> float:
    return (_came([boxes[1]]) - _came([boxes[0]])) / 2


def _turned_clockwise(boxes: list[Boxes]) -> float:
    """The turn around the middle of the path, in half turns. The box's y points down, so clockwise is positive."""
    places = np.array([(box.x * 4 / 3, box.y) for box in boxes[0] if box])
    x, y = (places - (places.min(axis=0) + places.max(axis=0)) / 2).T
    angle = np.unwrap(np.arctan2(y, x))
    return float((angle[-1] - angle[0]) / np.pi)


def _closed_in(boxes: list[Boxes]) -> float:
    ends = [_ends(track) for track in boxes]
    if not (ends[0] and ends[1]):
        return 0
    gaps = [right.x - left.x for left, right in zip(ends[0], ends[1], strict=True)]
    return (gaps[0] - gaps[1]) / 0.25


PAIRS = (
    Pair("appears", "vanishes", _appear, _came),
    Pair("two_meet", "two_part", _meet, _closed_in),
    Pair("comes_nearer", "goes_away", _come_nearer, _grew),
    Pair("crosses_left_to_right", "crosses_right_to_left", _cross, _moved_right),
    Pair("rises", "sinks", _rise, _moved_up),
    Pair("creature_then_item", "item_then_creature", _replace, _came_second),
    Pair("circles_clockwise", "circles_counter_clockwise", _circle, _turned_clockwise),
)
REVERSAL_PAIRS = tuple((pair.first, pair.second) for pair in PAIRS)


def draw_move(game: Game, class_name: str, rng: np.random.Generator, clip_format: ClipFormat) -> np.ndarray | None:
    """Draw a clip of a class.

    Returns:
        uint8 frames [T, Y, X, 3], or None if the whole trajectory was not seen from where the camera stands.
    """
    pair = next(pair for pair in PAIRS if class_name in (pair.first, pair.second))
    stand_in_the_open(game, rng, _FREE_DISTANCE)
    tracks = pair.plan(rng, clip_format.num_frames)
    turn_degrees = rng.choice([0, rng.uniform(-_MAX_TURN_DEGREES, _MAX_TURN_DEGREES)])
    backdrop = _backdrop(rng, clip_format.num_frames, tracks)
    frames, seen = film(game, backdrop + tracks, clip_format, turn_degrees=turn_degrees)
    boxes = [boxes for track in tracks if (boxes := follow(track, seen, game))]
    if len(boxes) < len(tracks):
        return None
    amount = pair.measure(boxes)
    if abs(amount) < 1:
        return None
    frames = relight(frames, rng)
    return frames if (amount > 0) == (class_name == pair.first) else frames[::-1].copy()


def _backdrop(rng: np.random.Generator, num_frames: int, tracks: list[Track]) -> list[Track]:
    """Up to two things that stand still behind the tracks; their kinds differ from those of the tracks."""
    others = tuple(sprite for sprite in _SPRITES if sprite not in [track.sprite for track in tracks])
    return [
        _track(
            rng,
            num_frames,
            sprites=others,
            across=rng.uniform(-0.45, 0.45),
            up=rng.uniform(-0.15, 0),
            size=rng.uniform(0.12, 0.25),
            distance=rng.uniform(115, 150),
        )
        for _ in range(rng.integers(3))
    ]


MOVES = WorldDataset(
    name="freedoom_moves",
    kind="video",
    classes=tuple(name for pair in REVERSAL_PAIRS for name in pair),
    quick_classes=tuple(name for pair in REVERSAL_PAIRS[:2] for name in pair),
    draw=draw_move,
)
