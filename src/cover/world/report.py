"""What rendering took: counts and rates by dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class DatasetReport:
    """What rendering one dataset took. `seconds` adds up over processes; `refused` draws failed their check."""

    rendered: int = 0
    skipped: int = 0
    refused: int = 0
    seconds: float = 0.0
    given_up: Counter[str] = field(default_factory=Counter)  # "class on map" → clips that are missing

    def __iadd__(self, other: DatasetReport) -> DatasetReport:
        self.rendered += other.rendered
        self.skipped += other.skipped
        self.refused += other.refused
        self.seconds += other.seconds
        self.given_up += other.given_up
        return self


@dataclass
class RenderReport:
    """What `render_world` did, by dataset."""

    datasets: dict[str, DatasetReport]
    wall_seconds: float

    def __str__(self) -> str:
        lines = [f"rendered in {self.wall_seconds:.0f} s"]
        for name, report in self.datasets.items():
            rate = report.rendered / report.seconds if report.seconds else 0
            lines.append(
                f"{name}: {report.rendered} rendered, {report.skipped} were there, {report.refused} draws refused, "
                f"{rate:.1f} clips/s a process"
            )
            lines += [f"  gave up {count} × {what}" for what, count in sorted(report.given_up.items())]
        return "\n".join(lines)
