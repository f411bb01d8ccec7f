"""What a table took: runs, time, and the settings that were chosen on the way."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from cover.studies.planning import NotYetKnown, Planner
from cover.studies.records import Record
from cover.studies.spec import Settings


@dataclass(frozen=True)
class Effort:
    """What a table took, the runs among which settings were chosen and those whose weights others start from included.

    num_runs: that ended, failed ones among them. seconds: of training, added up. chosen: settings by arm.
    """

    num_runs: int
    failed: tuple[Record, ...]
    seconds: float
    devices: tuple[str, ...]
    chosen: dict[str, Settings]


def effort_of(planner: Planner) -> Effort:
    """Of the runs that are known by now."""
    chosen: dict[str, Settings] = {}
    for arm in planner.study.needed_arms():
        with suppress(NotYetKnown):
            chosen[arm] = planner.chosen(arm)
    records = planner.all_recorded()
    return Effort(
        num_runs=len(records),
        failed=tuple(record for record in records if record.failed),
        seconds=sum(record.seconds for record in records),
        devices=tuple(dict.fromkeys(record.device for record in records if record.device)),
        chosen={arm: settings for arm, settings in chosen.items() if settings},
    )
