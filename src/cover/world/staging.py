"""Where a clip is filmed from and in what light, and things put where the camera can see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from cover.world.game import EYE_HEIGHT, PLAYER_RADIUS, Game, Thing
from cover.world.level import read_level
from cover.world.things import DISTRACTORS, ThingKind
from cover.world.tracks import VIEW_HEIGHT, VIEW_WIDTH

_NUM_TRIES = 40
_SIDES_DEGREES = (-40, -20, 0, 20, 40)
_MIN_MEAN_BRIGHTNESS = 70  # of 255
_MAX_GAIN = 2
_MARGIN = 24  # map units kept free behind a thing
_MAX_DISTANCE = 400
_SETTLING_TICS = 6  # a summoned thing falls the last 8 units to the floor
_STOPPING_TICS = 30  # the camera slides on from one stage to the next otherwise
_MAX_DISTRACTORS = 3
_MAX_PITCH_DEGREES = 30  # the game's renderer shears more than that visibly


@dataclass(frozen=True)
class Stage:
    """A kind of thing on its spot and a camera at a distance from it; map units."""

    kind: ThingKind
    thing_x: float
    thing_y: float
    camera_x: float
    camera_y: float

    @property
    def distance(self) -> float:
        """From the camera to the thing."""
        return float(np.hypot(self.thing_x - self.camera_x, self.thing_y - self.camera_y))

    def heading_degrees(self, x: float, y: float) -> float:
        """The heading from (x, y) to the thing."""
        return float(np.degrees(np.arctan2(self.thing_y - y, self.thing_x - x)))

    def pitch_degrees(self) -> float:
        """The pitch that centres the thing in the picture, if both stand on the same floor."""
        pitch = np.degrees(np.arctan2(self.kind.height / 2 - EYE_HEIGHT, self.distance))
        return float(np.clip(pitch, -_MAX_PITCH_DEGREES, _MAX_PITCH_DEGREES))


def distance_for_size(kind: ThingKind, size: float) -> float:
    """The distance at which a thing fills `size` of the view, in height or width, whichever is larger."""
    distance = max(kind.height / VIEW_HEIGHT, kind.width / VIEW_WIDTH) / size
    return float(np.clip(distance, kind.radius + PLAYER_RADIUS + _MARGIN, _MAX_DISTANCE))


def find_stage(map_name: str, kind: ThingKind, rng: np.random.Generator, distance: float) -> Stage | None:
    """Find random spots for a camera and a thing, `distance` map units apart with nothing between them.

    Returns:
        None if there are no such spots.
    """
    level = read_level(map_name)
    for _ in range(_NUM_TRIES):
        x, y = level.random_spot(rng)
        heading_degrees = rng.uniform(0, 360)
        heading = np.radians(heading_degrees)
        thing_x, thing_y = x + distance * np.cos(heading), y + distance * np.sin(heading)
        is_free = level.free_distance(x, y, heading_degrees) > distance + kind.radius + _MARGIN
        if is_free and level.is_open(thing_x, thing_y):
            return Stage(kind, thing_x, thing_y, x, y)
    return None


@contextmanager
def staged(game: Game, stage: Stage, rng: np.random.Generator) -> Iterator[None]:
    """Put the thing on the stage, with distractors around it and the camera looking at it, within the block."""
    game.place(stage.camera_x, stage.camera_y, stage.heading_degrees(stage.camera_x, stage.camera_y))
    game.advance(look_degrees=stage.pitch_degrees() - game.pose().pitch_degrees)
    actors = []
    for _ in range(rng.integers(_MAX_DISTRACTORS + 1)):
        kind = DISTRACTORS[rng.integers(len(DISTRACTORS))]
        _summon(game, stage, kind, stage.distance * rng.uniform(0.6, 1.6), stage.distance * rng.uniform(-0.6, 0.6), rng)
        actors.append(kind.actor)
    # The thing comes last: a jump onto its place would kill it.
    _summon(game, stage, stage.kind, stage.distance, 0, rng)
    actors.append(stage.kind.actor)
    game.advance(_SETTLING_TICS)
    try:
        yield
    finally:
        for actor in actors:
            game.command(f"remove {actor}")
        game.advance(_STOPPING_TICS)


def _summon(game: Game, stage: Stage, kind: ThingKind, ahead: float, left: float, rng: np.random.Generator) -> None:
    """Put a thing on the floor at a place relative to the camera, with the next tic.

    The game summons a thing in front of the player, at twice its radius plus the player's. So the player jumps to where
    that is the wanted place, and back, within one tic.
    """
    heading = np.radians(stage.heading_degrees(stage.camera_x, stage.camera_y))
    ahead -= 2 * kind.radius + PLAYER_RADIUS
    x = stage.camera_x + ahead * np.cos(heading) - left * np.sin(heading)
    y = stage.camera_y + ahead * np.sin(heading) + left * np.cos(heading)
    facing_degrees = rng.normal(180, 40) if rng.random() < 0.5 else rng.uniform(0, 360)  # 180 = towards the camera
    game.command(f"warp {round(x)} {round(y)}")
    game.command(f"summon {kind.actor} {round(facing_degrees) % 360}")
    game.command(f"warp {round(stage.camera_x)} {round(stage.camera_y)}")


def visible(game: Game, kind: ThingKind) -> tuple[Thing | None, float]:
    """Find the largest visible thing of a kind, and the largest share of the view that another thing covers."""
    things = game.things()
    target = next((thing for thing in things if thing.name == kind.actor), None)
    others = (thing.area_fraction for thing in things if thing.name != kind.actor)
    return target, max(others, default=0.0)


def stand_in_the_open(game: Game, rng: np.random.Generator, free_distance: float) -> None:
    """Put the camera at a random spot that has nothing in view for `free_distance` map units, if there is one."""
    level = read_level(game.map_name)
    for _ in range(_NUM_TRIES):
        x, y = level.random_spot(rng)
        heading_degrees = rng.uniform(0, 360)
        free = (level.free_distance(x, y, heading_degrees + side) for side in _SIDES_DEGREES)
        if min(free) > free_distance:
            break
    game.place(x, y, heading_degrees)


def relight(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make a whole clip [T, Y, X, 3] a little darker or brighter, after brightening dark places."""
    gain = rng.uniform(0.8, 1.25) * np.clip(_MIN_MEAN_BRIGHTNESS / frames.mean(), 1, _MAX_GAIN)
    relit: np.ndarray = np.minimum(np.arange(256) * gain, 255).astype(np.uint8)[frames]
    return relit
