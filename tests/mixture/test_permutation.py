from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cover.mixture.permutation import hash_63bit, permute


@given(size=st.integers(1, 400), key=st.integers(0, 2**63 - 1))
def test_every_index_appears_once(size: int, key: int) -> None:
    assert sorted(permute(index, size, key) for index in range(size)) == list(range(size))


@given(size=st.integers(1, 2**40), data=st.data())
def test_a_huge_dataset_needs_no_list(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    assert 0 <= permute(index, size, key=7) < size


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_every_index_goes_everywhere_equally_often(size: int) -> None:
    num_keys = 1500
    landed = np.array([[permute(index, size, key) for index in range(size)] for key in range(num_keys)])
    for column in landed.T:
        expected = num_keys / size
        chi_squared = ((np.bincount(column, minlength=size) - expected) ** 2 / expected).sum()
        assert chi_squared < 30  # p < 0.001 for 10 cells


def test_neighbours_do_not_stay_neighbours() -> None:
    order = np.array([permute(index, 2000, key=1) for index in range(2000)])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.08  # 3.5 standard deviations
    assert np.abs(np.diff(order)).min() >= 1


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="index is 5; a permutation of 5 takes 0 to 4"):
        permute(5, 5, key=0)


def test_a_hash_depends_on_every_part_and_fits_an_int64() -> None:
    hashes = {hash_63bit("clip", seed, name, epoch) for seed in range(5) for name in "ab" for epoch in range(5)}
    assert len(hashes) == 50
    assert all(0 <= value < 2**63 for value in hashes)
    assert hash_63bit("a", 11) != hash_63bit("a1", 1)
