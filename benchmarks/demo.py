"""Wall time of the demo by stage, and its peak memory, from an empty folder.

    python benchmarks/demo.py [--preset quick] [--out FOLDER]

Runs `cover demo`. Memory is the largest single process; rendering uses one process a core beside
it, of about 0.2 GB each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from results import write_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--out", type=Path, help="where the demo stays; by default nowhere")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    preset = arguments.preset
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        subprocess.run([sys.executable, "-m", "cover.cli", "demo", "--preset", preset, "--out", str(out)], check=True)
        stages = json.loads((out / "stages.json").read_text())
    total = sum(stages.values())
    table = Table(title=f"cover demo --preset {preset}")
    for heading in ("stage", "seconds", "share"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, seconds in (stages | {"total": total}).items():
        table.add_row(stage, f"{seconds:.0f}", f"{seconds / total:.0%}")
    Console().print(table)
    write_results(arguments.json, {f"{stage} ÷ total": seconds / total for stage, seconds in stages.items()})
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"peak memory of the largest process: {peak_kib / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
