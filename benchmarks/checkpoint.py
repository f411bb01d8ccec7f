"""What the digests of a checkpoint cost, beside writing the files and beside reading the weights.

    python benchmarks/checkpoint.py [--variant timesformer_large]

The checkpoint has what SGD keeps: the weights, and as many numbers of momentum. The files are in the system's cache, as
they are after writing.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from safetensors.torch import load_file, save_file

from cover.models.checkpoints.integrity import damage, file_digest, write_state
from cover.models.classifier import save_model
from cover.models.create import create_model
from results import write_results


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(variant: str, folder: Path) -> dict[str, float]:
    """Print the table; the ratios."""
    model = create_model(variant, num_frames=16, image_size=448, heads={"k400": 400})
    momentum = {f"optimizer/momentum_buffer/{name}": tensor for name, tensor in model.state_dict().items()}

    def write() -> None:
        save_model(model, folder)
        save_file(momentum, folder / "training.safetensors")

    weights = folder / "model.safetensors"
    rows = [
        ("write the files", seconds_of(write)),
        ("digests, while training continues", seconds_of(lambda: write_state(folder, {}))),
        ("check all files, before resuming", seconds_of(lambda: damage(folder))),
        ("check the model, before it is used", seconds_of(lambda: file_digest(weights))),
        (
            "the same with hashlib.sha256 in one thread",
            seconds_of(lambda: hashlib.sha256(weights.read_bytes()).digest()),
        ),
        ("read the model", seconds_of(lambda: load_file(weights))),
    ]
    table = Table(
        "", Column("s", justify="right"), title=f"{variant}, {weights.stat().st_size / 1e9:.2f} GB of weights"
    )
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.2f}")
    Console().print(table)
    written, digests, _, used, plain, read = (seconds for _, seconds in rows)
    return {"digests ÷ writing": digests / written, "one thread ÷ check": plain / used, "check ÷ reading": used / read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="timesformer_large")
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_results(arguments.json, measure(arguments.variant, Path(folder)))


if __name__ == "__main__":
    main()
