from __future__ import annotations

import copy
import logging
from contextlib import suppress
from typing import Any

import pytest
from tests.terminal import printed

from cover.errors import DecodeError
from cover.mixture.decode_failures import DecodeFailure, DecodeFailures


def failures(dataset: str, reasons: dict[str, str]) -> list[DecodeFailure]:
    """Make the failures of samples: id → reason."""
    return [
        DecodeFailure(dataset, sample_id, f"/data/{sample_id} cannot be decoded ({reason}); replace the file", reason)
        for sample_id, reason in reasons.items()
    ]


def alone(items: list[Any]) -> list[Any]:
    """gather_object of a single process."""
    return items


def share_all(tallies: list[DecodeFailures]) -> list[dict[str, dict[str, int]]]:
    """What `share` returns in each of the processes with these tallies."""
    sent: list[Any] = []
    for tally in copy.deepcopy(tallies):
        with suppress(DecodeError):
            tally.share(lambda items: sent.extend(items) or items)  # type: ignore[func-returns-value]
    return [tally.share(lambda _: sent) for tally in tallies]


def test_clips_are_counted_by_reason_and_samples_named_once(caplog: pytest.LogCaptureFixture) -> None:
    tally = DecodeFailures(1.0, {"k400": 10, "ssv2": 10})
    with caplog.at_level(logging.WARNING):
        tally.add(failures("k400", {"a": "no such file", "b": "ends after 12 frames"}))
        tally.add(failures("k400", {"a": "no such file", "c": "ends after 7 frames"}))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["k400/a", "k400/b", "k400/c"]
    assert tally.share(alone) == {"k400": {"ends after … frames": 2, "no such file": 2}}
    assert tally.share(alone) == {}
    tally.add(failures("ssv2", {"a": "no such file"}))
    assert tally.share(alone) == {"ssv2": {"no such file": 1}}
    assert tally.reasons["k400"].keys() == {"a", "b", "c"}


def test_processes_learn_from_each_other_and_stop_together() -> None:
    tallies = [DecodeFailures(0.2, {"k400": 10}, num_processes=2) for _ in range(2)]
    tallies[0].add(failures("k400", {"a": "no such file", "b": "no such file"}))
    tallies[1].add(failures("k400", {"b": "no such file"}))
    assert share_all(tallies) == [{"k400": {"no such file": 3}}] * 2
    assert tallies[1].reasons["k400"].keys() == {"a", "b"}
    tallies[0].add(failures("k400", {"c": "empty"}))
    for order in (tallies[::-1], tallies):  # the first of each is the one that raises here
        with pytest.raises(DecodeError, match="3 of the 10 samples"):
            share_all(order)


def test_too_many_stop_with_a_summary_in_one_line() -> None:
    tally = DecodeFailures(0.01, {"k400": 200})
    tally.add(failures("k400", {"a": "no such file", "b": "no such file"}))
    with pytest.raises(DecodeError) as caught:
        tally.add(failures("k400", {"c": "empty"}))
    assert str(caught.value) == (
        "3 of the 200 samples of 'k400' are unreadable so far, more than max_unreadable_share = 0.01 allows "
        "(2 no such file, 1 empty; the first is a); find them all with `cover check` and replace them, or "
        "raise data.max_unreadable_share"
    )


def test_the_table_shows_reasons_with_an_example() -> None:
    tally = DecodeFailures(1.0, {"k400": 10, "ssv2": 10})
    tally.add(failures("k400", {"b": "no [file]", "a": "no [file]", "c": "empty"}))
    lines = [line.split() for line in printed(tally.table()).splitlines()]
    assert ["k400", "2", "no", "[file]", "a"] in lines and ["k400", "1", "empty", "c"] in lines
