"""freedoom_events: a clip is handed out only when its event was seen to happen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from cover.world.events import EVENTS, Take, draw_event, plan_event
from cover.world.game import Game
from cover.world.world_dataset import ClipFormat

CLIP_FORMAT = ClipFormat(width_px=160, height_px=120, num_frames=18, tics_per_frame=4)


@pytest.fixture(scope="module")
def game() -> Iterator[Game]:
    with Game(CLIP_FORMAT.width_px, CLIP_FORMAT.height_px) as game:
        yield game


def draw(game: Game, class_name: str, seed: int) -> np.ndarray | None:
    game.start("MAP02", seed=0)
    return draw_event(game, class_name, np.random.default_rng(seed), CLIP_FORMAT)


@pytest.mark.parametrize("class_name", EVENTS.classes)
def test_every_event_can_be_drawn_and_again_from_its_seed(game: Game, class_name: str) -> None:
    seed, clip = next((seed, clip) for seed in range(12) if (clip := draw(game, class_name, seed)) is not None)
    assert clip.shape == (18, 120, 160, 3) and clip.dtype == np.uint8
    again = draw(game, class_name, seed)
    assert again is not None
    np.testing.assert_array_equal(again, clip)


@pytest.mark.parametrize("class_name", [name for name in EVENTS.classes if name != "nothing_happens"])
def test_an_event_that_was_not_seen_has_not_happened(class_name: str) -> None:
    event = plan_event(class_name, np.random.default_rng(0), CLIP_FORMAT)
    assert not event.happened(Take(seen=[[] for _ in range(CLIP_FORMAT.num_frames)], ammo_used=0))


def test_there_are_enough_classes() -> None:
    assert len(EVENTS.classes) >= 10
    assert len(EVENTS.quick_classes) == 6
