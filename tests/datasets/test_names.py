from __future__ import annotations

import pytest

from cover.datasets.names import class_name, composed, reading_key


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("playing trumpet", "playing trumpet"),
        ("playing_trumpet", "playing trumpet"),
        (' "playing  trumpet" ', "playing trumpet"),
        ("massaging person's head", "massaging person's head"),
        ("passing_American_football_(in_game)", "passing American football (in game)"),
        ("tying knot (not on a tie)", "tying knot (not on a tie)"),
        ("ApplyEyeMakeup", "ApplyEyeMakeup"),
        ("adult+female+singing", "adult+female+singing"),
    ],
)
def test_published_names_come_out_as_they_are_published(text: str, name: str) -> None:
    assert class_name(text) == name
    assert class_name(name) == name


def test_names_in_both_forms_of_unicode_are_one() -> None:
    assert composed("cafe\u0301") == class_name("cafe\u0301") == "caf\u00e9"


def test_names_that_people_read_as_the_same() -> None:
    names = ["Play_guitar", "play  guitar ", "play\u00a0guitar", "pla\u200by guitar", "PLAY GUITAR"]
    assert {reading_key(name) for name in names} == {"play guitar"}
    assert reading_key("playguitar") != "play guitar"
