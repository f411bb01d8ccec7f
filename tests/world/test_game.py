"""Headings, pitch and boxes mean what their names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vizdoom")

from cover.world.game import Game


@pytest.fixture
def game() -> Iterator[Game]:
    with Game(160, 120) as game:
        game.start("MAP01", seed=0)
        yield game


def test_a_turn_to_the_left_moves_things_to_the_right_and_a_look_up_moves_them_down(game: Game) -> None:
    game.command("summon DoomImp")
    game.advance(10)
    before = game.things()[0]
    assert before.name == "DoomImp"
    game.advance(turn_degrees=10)
    assert game.pose().heading_degrees == pytest.approx(10, abs=0.01)
    assert game.things()[0].center_x_px > before.center_x_px + 5
    game.advance(look_degrees=10)
    assert game.pose().pitch_degrees == pytest.approx(10, abs=0.01)
    assert game.things()[0].top_px > before.top_px + 5


def test_one_seed_gives_the_same_frames_whatever_was_played_before(game: Game) -> None:
    def play(seed: int) -> np.ndarray:
        game.start("MAP02", seed)
        game.command("summon Cacodemon")
        game.advance(20, turn_degrees=1)
        return game.frame()

    first = play(3)
    play(4)
    np.testing.assert_array_equal(play(3), first)


def test_nothing_is_written_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Game(160, 120) as game:
        game.start("MAP01", seed=0)
    assert list(tmp_path.iterdir()) == []
