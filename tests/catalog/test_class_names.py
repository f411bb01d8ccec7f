from __future__ import annotations

import pytest

from cover.catalog.class_names import class_name, names_of


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


def test_labels_without_a_class_list_are_names_or_numbers() -> None:
    assert names_of(["run", "jump", "run"]) == ["jump", "run"]
    assert names_of(["3", "1"]) == ["0", "1", "2", "3"]
    assert names_of(["3", "jump"]) == ["3", "jump"]
