"""Heads for other classes: rows follow the names of their classes."""

from __future__ import annotations

import torch

from cover.models.head_rows import match_rows, take_rows


def test_rows_follow_their_class_names() -> None:
    rows = match_rows(["run", "jump", "swim", "fly"], ["run", "swim", "dive", "jump"])
    assert rows.origins == (0, 2, None, 1)
    assert (rows.kept, rows.moved, rows.fresh, rows.dropped, rows.unchanged) == (1, 2, 1, 1, False)
    assert str(rows) == "rows: 1 kept, 2 moved, 1 fresh, 1 dropped"
    old, fresh = torch.arange(12.0).view(4, 3), torch.full((4, 3), -1.0)
    assert take_rows(rows, old, fresh).tolist() == [[0, 1, 2], [6, 7, 8], [-1, -1, -1], [3, 4, 5]]
    assert take_rows(rows, old[:, 0], fresh[:, 0]).tolist() == [0, 6, -1, 3]
    assert fresh.eq(-1).all()


def test_equal_lists_change_nothing_and_strangers_share_nothing() -> None:
    same = match_rows(("a", "b"), ("a", "b"))
    assert same.unchanged and str(same) == "rows: 2 kept"
    strangers = match_rows(("a", "b", "c"), ("x",))
    assert (strangers.origins, str(strangers)) == ((None,), "rows: 1 fresh, 3 dropped")
    assert take_rows(strangers, torch.ones(3, 2), torch.zeros(1, 2)).tolist() == [[0, 0]]


def test_a_shorter_or_longer_list_is_no_other_one() -> None:
    assert not match_rows(("a", "b"), ("a",)).unchanged
    assert not match_rows(("a",), ("a", "b")).unchanged


def test_a_name_that_occurs_twice_moves_no_row() -> None:
    """ImageNet has two classes called crane, the bird and the machine."""
    assert match_rows(("crane", "owl", "crane"), ("crane", "crane", "owl")).origins == (0, None, 1)
    assert match_rows(("crane", "owl"), ("owl", "crane", "crane")).origins == (1, None, None)


def test_the_new_tensor_has_the_type_of_the_fresh_one() -> None:
    rows = match_rows(("a", "b"), ("b", "a"))
    new = take_rows(rows, torch.tensor([1.0, 2.0], dtype=torch.float16), torch.nn.Parameter(torch.zeros(2)))
    assert new.tolist() == [2, 1] and new.dtype == torch.float32 and not new.requires_grad
