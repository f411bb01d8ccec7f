"""Logs of what long work over a manifest has found so far. They survive any kind of interruption.

    k400-train.check.jsonl                one process after another, or
    k400-train.check-1-of-8.jsonl         a file for each of the jobs that share the work
    k400-train.check-2-of-8.jsonl
                    │
                    ▼
    {"digest": "5f1c…"}                                             which manifest, and which settings
    {"row": 0, "readable": true, "num_frames": 250, …}              a line a sample, as soon as it is done
    {"row": 8, "readable": false, "reason": "Invalid data found when processing input", …}
    {"complete": true}                                              nothing is left to do

Each line is written at once, so a kill loses at most one line. A line that was cut short is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cover.core.atomic_files import add_line, writing
from cover.errors import CoverError
from cover.media.source import MediaInfo

_REMEDY = "results are kept there"


@dataclass(frozen=True, order=True)
class Shard:
    """One of `count` equal parts of a manifest's rows, numbered from 1. `Shard(1, 1)` is all of them."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a text such as "2/8".

        Raises:
            CoverError: The text is not of this form, or the number is out of range.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise CoverError(f"--shard {text!r} is not of the form I/N; the third of eight parts is --shard 3/8")
        return cls(int(match[1]), int(match[2]))

    def rows(self, num_rows: int) -> range:
        """Return every count-th row, so that parts are alike whatever the order of the rows."""
        return range(self.number - 1, num_rows, self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class CheckResult:
    """What was found out about the file of a sample: columns of a manifest.

    Attributes:
        readable: Whether it can be decoded.
        reason: Why not.
        num_frames: As in ManifestRow, like the following five.
        num_bytes: The size of the file and of its copy, if there is one; not a column.
    """

    readable: bool
    reason: str | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration_seconds: float | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    num_bytes: Sequence[int] | None = None

    @classmethod
    def of(cls, info: MediaInfo) -> CheckResult:
        """Return the result for a file that can be decoded."""
        return cls(
            True, None, info.num_frames, info.fps, info.duration_seconds, info.width_px, info.height_px, info.rotation
        )


class ResumeLog:
    """The results of one shard. As a context manager, it accepts more results.

    Args:
        path: The log file.
        about: Identifies the work; its `digest` is the manifest's.

    Raises:
        CoverError: The file belongs to other work.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.results: dict[int, CheckResult] = {}
        self.is_complete = False
        self._about = about
        self._is_begun = False
        for line in _whole_lines(path) if path.exists() else ():
            self._read(line)

    def _read(self, line: dict[str, Any]) -> None:
        if "digest" in line:
            if others := {key: value for key, value in line.items() if value != self._about.get(key)}:
                raise CoverError(
                    f"{self.path} belongs to other work ({_listed(others)}); continue that work, or delete the file"
                )
            self._is_begun = True
        if "row" in line:
            row = line.pop("row")
            self.results[row] = CheckResult(**line)
        self.is_complete = "complete" in line

    def __enter__(self) -> ResumeLog:
        with writing(self.path, _REMEDY):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            add_line(self._file, "")  # terminates a line that was cut short
        if not self._is_begun:
            self._write(self._about)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: int, result: CheckResult) -> None:
        """Record the result of a row."""
        self.results[row] = result
        self._write({"row": row, **vars(result)})

    def complete(self) -> None:
        """Record that nothing is left to do."""
        self.is_complete = True
        self._write({"complete": True})

    def _write(self, line: Mapping[str, Any]) -> None:
        with writing(self.path, _REMEDY):
            add_line(self._file, json.dumps(line))


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError):  # blank, or cut short
                yield json.loads(line)


def _listed(about: Mapping[str, Any]) -> str:
    return ", ".join("another manifest" if key == "digest" else f"{key} {value}" for key, value in about.items())


class ResumeLogs:
    """All logs of one piece of work, such as the check of a manifest: STEM.jsonl and STEM-1-of-8.jsonl, ….

    Args:
        stem: The path of the logs, without the number of the shard and the suffix.
        about: Identifies the work; its `digest` is the manifest's.
    """

    def __init__(self, stem: Path, about: Mapping[str, Any]) -> None:
        self._stem = stem
        self._about = about

    def of(self, shard: Shard) -> ResumeLog:
        """Return the log of a shard."""
        return ResumeLog(self._path(shard), self._about)

    def results(self) -> dict[int, CheckResult]:
        """Return the results in all existing logs: row → result."""
        return _together(self._read())

    def merged_results(self) -> dict[int, CheckResult]:
        """Return the results of all shards: row → result.

        Raises:
            CoverError: A shard is missing or not complete.
        """
        logs = self._read()
        counts = {shard.count for shard in logs}
        if len(counts) != 1:
            found = ", ".join(map(str, logs)) or "none"
            raise CoverError(
                f"{self._stem.name}: shards found are {found}; --merge needs all parts I/N of one N: run the missing "
                "parts, or run without --shard and --merge, which uses these results and does the rest"
            )
        count = counts.pop()
        expected = [Shard(number + 1, count) for number in range(count)]
        undone = [shard for shard in expected if shard not in logs or not logs[shard].is_complete]
        if undone:
            raise CoverError(
                f"{self._stem.name}: {len(undone)} of {len(expected)} shards are missing or not complete "
                f"({_shortened(undone)}); run --shard {undone[0]} first"
            )
        return _together(logs)

    def delete(self) -> None:
        """Delete all logs."""
        for shard in self._shards():
            self._path(shard).unlink()

    def _read(self) -> dict[Shard, ResumeLog]:
        return {shard: self.of(shard) for shard in self._shards()}

    def _shards(self) -> list[Shard]:
        pattern = re.compile(re.escape(self._stem.name) + r"(?:-(\d+)-of-(\d+))?\.jsonl")
        matches = [pattern.fullmatch(path.name) for path in self._stem.parent.glob("*.jsonl")]
        return sorted(Shard(int(match[1] or 1), int(match[2] or 1)) for match in matches if match)

    def _path(self, shard: Shard) -> Path:
        part = f"-{shard.number}-of-{shard.count}" if shard.count > 1 else ""
        return self._stem.with_name(f"{self._stem.name}{part}.jsonl")


def _together(logs: Mapping[Shard, ResumeLog]) -> dict[int, CheckResult]:
    return {row: result for log in logs.values() for row, result in log.results.items()}


def _shortened(shards: list[Shard]) -> str:
    return ", ".join(map(str, shards[:8])) + (", …" if len(shards) > 8 else "")
