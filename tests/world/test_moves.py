"""freedoom_moves: nothing but the order of the frames tells the two classes of a pair apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from cover.world.game import Game
from cover.world.moves import MOVES, PAIRS, REVERSAL_PAIRS, draw_move
from cover.world.tracks import Box
from cover.world.world_dataset import ClipFormat

CLIP_FORMAT = ClipFormat(width_px=160, height_px=120, num_frames=12, tics_per_frame=3)


@pytest.fixture(scope="module")
def game() -> Iterator[Game]:
    with Game(CLIP_FORMAT.width_px, CLIP_FORMAT.height_px) as game:
        yield game


def draw(game: Game, class_name: str, seed: int) -> np.ndarray | None:
    game.start("MAP02", seed)
    return draw_move(game, class_name, np.random.default_rng(seed), CLIP_FORMAT)


def first_drawn(game: Game, class_name: str) -> tuple[int, np.ndarray]:
    clips = ((seed, draw(game, class_name, seed)) for seed in range(10))
    return next((seed, clip) for seed, clip in clips if clip is not None)


def test_classes_are_pairs() -> None:
    assert len(REVERSAL_PAIRS) >= 5
    assert MOVES.classes == tuple(name for pair in REVERSAL_PAIRS for name in pair)
    assert set(MOVES.quick_classes) == {
        name for pair in REVERSAL_PAIRS if pair[0] in MOVES.quick_classes for name in pair
    }


@pytest.mark.parametrize(("first", "second"), REVERSAL_PAIRS)
def test_a_clip_of_one_class_is_the_reversed_clip_of_its_partner(game: Game, first: str, second: str) -> None:
    seed, clip = first_drawn(game, first)
    partner = draw(game, second, seed)
    assert clip.shape == (12, 120, 160, 3) and clip.dtype == np.uint8
    assert partner is not None
    np.testing.assert_array_equal(partner, clip[::-1])
    assert not np.array_equal(clip[0], clip[-1])


def test_the_same_seed_gives_the_same_frames(game: Game) -> None:
    seed, clip = first_drawn(game, "rises")
    again = draw(game, "rises", seed)
    assert again is not None
    np.testing.assert_array_equal(again, clip)


def boxes(*places: tuple[float, float, float]) -> list[Box | None]:
    return [Box(x, y, size, size) for x, y, size in places]


CIRCLE = [(0.5 + 0.2 * np.cos(angle), 0.5 + 0.2 * np.sin(angle), 0.1) for angle in np.linspace(0, 1.5 * np.pi, 12)]
HERE: list[Box | None] = boxes((0.5, 0.5, 0.1))
GONE: list[Box | None] = [None]
EXAMPLES = {
    "crosses_left_to_right": [boxes((0.2, 0.5, 0.2), (0.8, 0.5, 0.2))],
    "comes_nearer": [boxes((0.5, 0.5, 0.2), (0.5, 0.5, 0.4))],
    "rises": [boxes((0.5, 0.8, 0.2), (0.5, 0.2, 0.2))],
    "appears": [GONE + HERE],
    "creature_then_item": [HERE + GONE, GONE + HERE],
    "circles_clockwise": [boxes(*CIRCLE)],
    "two_meet": [boxes((0.1, 0.5, 0.2), (0.4, 0.5, 0.2)), boxes((0.9, 0.5, 0.2), (0.6, 0.5, 0.2))],
}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.first)
def test_the_label_is_measured_from_what_was_seen(pair) -> None:  # type: ignore[no-untyped-def]
    tracks = EXAMPLES[pair.first]
    assert pair.measure(tracks) >= 1
    assert pair.measure([track[::-1] for track in tracks]) <= -1
    assert abs(pair.measure([[track[0], track[0]] for track in tracks])) < 1
