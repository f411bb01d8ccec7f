"""What a table took: runs, time, and the settings that were chosen on the way."""

from __future__ import annotations

from dataclasses import dataclass

from cover.study.arm import Settings
from cover.study.planning import Planner
from cover.study.records import Record


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
    runs: dict[str, None] = {}
    chosen: dict[str, Settings] = {}
    for arm in planner.study.needed_arms():
        try:
            runs |= dict.fromkeys(run.key for run in planner.candidates(arm))
            chosen[arm] = planner.chosen(arm)
            runs |= dict.fromkeys(run.key for run in planner.finals(arm).values())
        except LookupError:  # what it needs has no record yet
            continue
    records = [planner.records[key] for key in runs if key in planner.records]
    return Effort(
        num_runs=len(records),
        failed=tuple(record for record in records if record.failed),
        seconds=sum(record.seconds for record in records),
        devices=tuple(dict.fromkeys(record.device for record in records if record.device)),
        chosen={arm: settings for arm, settings in chosen.items() if settings},
    )
