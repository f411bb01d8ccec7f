"""Where a clip is filmed from, and in what light."""

from __future__ import annotations

import numpy as np

from cover.world.game import Game
from cover.world.level import read_level

_NUM_TRIES = 40
_SIDES_DEGREES = (-40, -20, 0, 20, 40)
_MIN_MEAN_BRIGHTNESS = 70  # of 255
_MAX_GAIN = 2


def stand_in_the_open(game: Game, rng: np.random.Generator, free_distance: float) -> None:
    """Put the camera at a random spot, looking where nothing is in the way for `free_distance` map units, if found."""
    level = read_level(game.map_name)
    for _ in range(_NUM_TRIES):
        x, y = level.random_spot(rng)
        heading_degrees = rng.uniform(0, 360)
        free = (level.free_distance(x, y, heading_degrees + side) for side in _SIDES_DEGREES)
        if min(free) > free_distance:
            break
    game.place(x, y, heading_degrees)


def relight(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip [T, Y, X, 3] a little darker or brighter as a whole; dark places are brightened first."""
    gain = rng.uniform(0.8, 1.25) * np.clip(_MIN_MEAN_BRIGHTNESS / frames.mean(), 1, _MAX_GAIN)
    relit: np.ndarray = np.minimum(np.arange(256) * gain, 255).astype(np.uint8)[frames]
    return relit
