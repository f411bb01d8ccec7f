"""The floor plan read from the WAD agrees with where the game lets a camera stand and walk."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from cover.world.game import Game
from cover.world.level import read_level
from cover.world.presets import MAP_GROUPS


@pytest.mark.parametrize("map_name", ["MAP01", "E1M5"])
def test_a_camera_can_stand_at_any_spot_and_walk_as_far_as_is_free(map_name: str) -> None:
    level, rng = read_level(map_name), np.random.default_rng(0)
    with Game(160, 120) as game:
        game.start(map_name, seed=0)
        for _ in range(10):
            x, y = level.random_spot(rng)
            heading_degrees = rng.uniform(0, 360)
            game.place(x, y, heading_degrees)
            assert (game.pose().x, game.pose().y) == (round(x), round(y))
            free = level.free_distance(x, y, heading_degrees)
            walked = 0.0
            for _ in range(6):
                game.advance(forward=30)
                walked = float(np.hypot(game.pose().x - x, game.pose().y - y))
            assert walked <= free
            game.advance(40)  # until it stands still


def test_spots_keep_clear_of_walls() -> None:
    level = read_level("MAP01")
    for x, y in level.spots[::100]:
        headings = np.arange(0, 360, 30)
        assert min(level.free_distance(x, y, float(heading)) for heading in headings) >= 47


def test_every_map_belongs_to_one_group_and_has_open_spots() -> None:
    maps = [name for group in MAP_GROUPS.values() for name in group]
    assert len(maps) == len(set(maps))
    assert min(len(read_level(name).spots) for name in maps) > 200
