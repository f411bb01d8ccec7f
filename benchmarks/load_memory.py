"""Peak memory of loading weights into a model: no more than the model, one tensor, and the file's own mapping.

    python benchmarks/load_memory.py [--variant timesformer_large] [--num-frames 16] [--image-size 448]

Each format is measured in a process of its own, on a file with random weights made on the spot. "private" is memory
that the process holds itself (RssAnon), "mapped" what it sees of files (RssFile) and the system can take back.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from cover.models.classifier import VideoClassifier, save_model
from cover.models.create import create_model
from cover.models.loading import load_weights
from cover.models.sources import open_source
from cover.models.timesformer.formats import FORMATS as FOREIGN
from results import write_results

FORMATS = ("cover", "timesformer", "timm-vit", "transformers-vit")
MIB = 2**20


def create(arguments: argparse.Namespace) -> VideoClassifier:
    return create_model(
        arguments.variant, num_frames=arguments.num_frames, image_size=arguments.image_size, heads={"head": 400}
    )


def write(format: str, model: VideoClassifier, folder: Path) -> Path:
    """The model's weights in a format; of a ViT's, those that it has."""
    if format == "cover":
        save_model(model, folder)
        return folder
    naming = {known.name: known for known in FOREIGN}[format].namings[0]
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if format == "timesformer" or not re.search("temporal|time_embed", name):
            theirs = naming.theirs(name)
            state |= {other: part.clone() for other, part in zip(theirs, tensor.chunk(len(theirs)), strict=True)}
    if format == "timesformer":
        torch.save({"model_state": state}, folder / "weights")
    else:
        save_file(state, folder / "weights")
    return folder / "weights"


def memory(kind: str) -> int:
    """Bytes of this process: RssAnon (private) or RssFile (mapped)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


@contextmanager
def watched(peaks: dict[str, int]) -> Iterator[None]:
    """Put the highest RssAnon and RssFile of what runs inside into `peaks`, sampled every millisecond."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for kind in ("RssAnon", "RssFile"):
                peaks[kind] = max(peaks.get(kind, 0), memory(kind))
            time.sleep(1e-3)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(path: Path, arguments: argparse.Namespace) -> None:
    """Load the file into a fresh model and print private and mapped bytes beyond it, and seconds."""
    model, peaks = create(arguments), dict[str, int]()
    for parameter in model.parameters():
        parameter.detach().add_(0)  # zeros take no memory until they are written
    open_source(path)  # what libraries allocate on their first call is not the loading's
    before, start = {kind: memory(kind) for kind in ("RssAnon", "RssFile")}, time.perf_counter()
    with watched(peaks):
        load_weights(model, path)
    print(*(peaks[kind] - before[kind] for kind in before), time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="timesformer_large")
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=448)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure, arguments)
    model = create(arguments)
    sizes = [tensor.nbytes for tensor in model.state_dict().values()]
    console = Console(width=110)
    console.print(f"model {sum(sizes) / MIB:.0f} MiB, largest tensor {max(sizes) / MIB:.0f} MiB")
    table = Table("format", "file MiB", "private MiB beyond the model", "mapped MiB", "seconds")
    ratios: dict[str, float] = {}
    for format in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            path = write(format, model, Path(folder))
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            file_size = sum(file.stat().st_size for file in Path(folder).iterdir())
        private, mapped = int(output[0]), int(output[1])
        ratios[f"{format}: private memory ÷ model"] = 1 + private / sum(sizes)
        table.add_row(format, *(f"{size / MIB:.1f}" for size in (file_size, private, mapped)), output[2][:4])
    console.print(table)
    write_results(arguments.json, ratios)


if __name__ == "__main__":
    main()
