"""What float8 gains on one GPU: each matrix product of a block with its rounding, and whole steps in several variants.

    python benchmarks/fp8.py                 # the shapes and steps of Large 16×448 and Base 8×224

Products of each linear layer over M tokens: that of the forward pass (y), and those of the gradients of its input (dx)
and its weight (dw). "fast" and "exact" are products in float8 whose sums are kept in the tensor cores or in float32.
"rounding" is what comes before: x by rows for y, the gradient by rows for dx, and transposing both for dw. The weight
is rounded and transposed once a step. Steps use float8 for dw only in the MLP. Errors are those of fast and exact
against bf16. Microseconds, medians.

Steps are those of train_step.py and infer.py: milliseconds, the peak in GiB beyond weights and momentum, and
milliseconds by class of kernel.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import infer
from cover.models.kernels import products
from cover.models.kernels.float8 import Float8, multiply, round_rows, transpose
from cover.models.timesformer.config import VARIANTS
from gpu import CLASSES, SIZES, Size, Step, median_seconds, milliseconds_by_class, our_step, peak_gib
from results import Ratios, write_results

CLASSES["float8"] = ("_round_rows", "_transpose")
STEPS: dict[str, tuple[Callable[[Size], Step], dict[str, bool]]] = {  # name: what makes the step, and constants
    "train, bf16": (our_step, {}),
    "train, fp8": (partial(our_step, precision="fp8"), {}),
    "train, dw fast": (partial(our_step, precision="fp8"), {"FAST_WEIGHT_GRADIENT": True}),
    "train, all exact": (
        partial(our_step, precision="fp8"),
        {"FAST_PRODUCT": False, "FAST_DATA_GRADIENT": False},
    ),
    "infer, bf16": (infer.ours, {}),
    "infer, fp8": (partial(infer.ours, float8=True), {}),
    "infer, exact": (partial(infer.ours, float8=True), {"FAST_PRODUCT": False}),
}


NUM_CALLS = 10
"""Calls that are timed as one CUDA graph, because launching them takes the host longer than some take the GPU."""


def microseconds(call: Callable[[], object], repeats: int) -> float:
    """Of one call."""
    for _ in range(2):  # kernels are compiled
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(NUM_CALLS):
            call()
    return 1e6 * median_seconds(graph.replay, repeats) / NUM_CALLS


def noise(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16)


def add_product(
    table: Table, name: str, half: Callable[[], Tensor], rounded: Callable[[], tuple[Float8, Float8]], repeats: int
) -> None:
    """Add a row: a product in bf16, and that of the operands that `rounded` makes."""
    expected, operands = half().float(), rounded()
    calls: list[Callable[[], Tensor]] = [partial(multiply, *operands, fast=fast) for fast in (True, False)]
    plain, rounding, fast, exact = (microseconds(call, repeats) for call in (half, rounded, *calls))
    errors = [float((call().float() - expected).norm() / expected.norm()) for call in calls]
    figures = [plain, fast, exact, rounding]
    ratios = [plain / fast, plain / exact, plain / (fast + rounding), plain / (exact + rounding)]
    table.add_row(
        name, *(f"{value:.0f}" for value in figures), *(f"{ratio:.2f}" for ratio in ratios),
        " ".join(f"{error:.2%}" for error in errors),
    )  # fmt: skip


def add_layer(table: Table, name: str, outputs: int, inputs: int, num_tokens: int, repeats: int) -> None:
    x, weight, gradient = noise(num_tokens, inputs), 0.02 * noise(outputs, inputs), noise(num_tokens, outputs)
    rows = round_rows(weight)
    columns, x_rows, gradient_rows = transpose(rows), round_rows(x), round_rows(gradient)
    add_product(table, f"{name} y", lambda: x @ weight.t(), lambda: (round_rows(x), rows), repeats)
    add_product(table, "dx", lambda: gradient @ weight, lambda: (round_rows(gradient), columns), repeats)
    add_product(table, "dw", lambda: gradient.t() @ x, lambda: (transpose(gradient_rows), transpose(x_rows)), repeats)
    prepared = microseconds(lambda: transpose(round_rows(weight)), repeats)
    table.add_row("weight", "", "", "", f"{prepared:.0f}", end_section=True)


def products_of(size: Size, repeats: int) -> Table:
    width, num_tokens = VARIANTS[size.variant][1], size.batch * size.num_frames * size.num_tokens
    table = Table(
        "", "bf16", "fast", "exact", "rounding", "× fast", "× exact", "rounded × fast", "× exact", "errors",
        title=f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {size.variant}, {num_tokens:,} tokens",
    )  # fmt: skip
    shapes = {"qkv": (3, 1), "projection": (1, 1), "MLP 1": (4, 1), "MLP 2": (1, 4)}
    for name, (outputs, inputs) in shapes.items():
        add_layer(table, name, outputs * width, inputs * width, num_tokens, repeats)
    return table


def steps_of(size: Size, repeats: int) -> tuple[Table, Ratios]:
    """The table, and how many times as fast as in bf16 each step is."""
    ratios: Ratios = {}
    table = Table("", "ms", "× bf16", "GiB", "ms by class of kernel", title=size.variant)
    half = 0.0
    for name, (make, constants) in STEPS.items():
        with patch.dict(vars(products), constants):
            step = make(size)
            memory = peak_gib(step)
            milliseconds = 1e3 * median_seconds(step, repeats)
            classes = milliseconds_by_class(step)
            half = milliseconds if make in (our_step, infer.ours) else half
            ratios[f"{size.variant}, {name}: times as fast as bf16"] = half / milliseconds
            shown = ", ".join(f"{kind} {value:.1f}" for kind, value in classes.items())
            table.add_row(name, f"{milliseconds:.1f}", f"{half / milliseconds:.2f}", f"{memory:.1f}", shown)
            del step
        gc.collect()
        torch.cuda.empty_cache()
    return table, ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["large", "base"], choices=SIZES)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file for the ratios")
    arguments = parser.parse_args()
    console, found = Console(width=150), Ratios()
    for size_name in arguments.sizes:
        console.print(products_of(SIZES[size_name], arguments.repeats))
        steps, ratios = steps_of(SIZES[size_name], arguments.repeats)
        console.print(steps)
        found |= ratios
    write_results(arguments.json, found)
