from __future__ import annotations

import pytest

from cover.errors import RecipeError
from cover.training.memory import fewest


@pytest.mark.parametrize(
    ("needed", "most", "tried"),
    [(1, 16, [1]), (2, 16, [1, 2]), (5, 16, [1, 2, 4, 8]), (6, 6, [1, 2, 4, 6]), (1, 1, [1])],
)
def test_the_fewest_micro_batches_that_fit_are_sought_by_doubling(needed: int, most: int, tried: list[int]) -> None:
    asked: list[int] = []

    def fits(number: int) -> bool:
        asked.append(number)
        return number >= needed

    assert fewest(fits, most) == tried[-1]
    assert asked == tried


def test_a_clip_too_large_for_the_memory_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"not even one clip at a time fits .*; set training\.activation_checkpointing"
    ):
        fewest(lambda _: False, most=6)
