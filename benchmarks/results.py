"""Ratios of a benchmark: the file that `--json` writes, and that in which run_all.py keeps those of all benchmarks."""

from __future__ import annotations

import json
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

Ratios = dict[str, float]
"""Each compares two things that are measured in the same run, so that they depend little on the machine."""


def write_results(path: Path | None, ratios: Ratios, **figures: object) -> None:
    """Write {"ratios": …} and other figures, if there is a path."""
    if path:
        path.write_text(json.dumps({"ratios": ratios} | figures, indent=1) + "\n")


def keep(file: Path, rounds: list[Ratios], machine: str) -> None:
    """Write the lowest, the median and the highest of three runs for each ratio."""
    values = {name: sorted(ratios[name] for ratios in rounds) for name in rounds[0]}
    found = {
        "command": "python benchmarks/run_all.py --keep",
        "date": date.today().isoformat(),
        "machine": machine,
        "versions": {name: version(name) for name in ("torch", "av", "numpy", "transformers")},
        "ratios": {name: [round(value, 4) for value in triple] for name, triple in values.items()},
    }
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def show(ratios: Ratios, file: Path) -> None:
    """Print ratios beside the kept ones."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    figures = (Column(name, justify="right") for name in ("now", "kept", "change"))
    title = f"kept {kept['date']}, {kept['machine']}" if kept else "nothing is kept"
    table = Table("benchmark", "ratio", *figures, title=title, caption="! more than the noise")
    for name, now in ratios.items():
        cells = [*name.split(": ", 1), f"{now:.2f}"]
        if name in kept.get("ratios", {}):
            low, median, high = kept["ratios"][name]
            unit = median or 1  # some count what should be 0
            change, noise = (now - median) / unit, max(0.2, 2 * (high - low) / unit)
            cells += [f"{median:.2f}", f"{change:+.0%} {'!' if abs(change) > noise else ' '}"]
        table.add_row(*cells)
    Console(width=120).print(table)
