"""What the benchmarks of speed on a GPU share: sizes, clips, models, the ceiling, and how contestants are timed."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from transformers import TimesformerConfig, TimesformerForVideoClassification

from cover.config.recipe_files import parse_recipe
from cover.core.batch import ClipBatch, MixedBatch
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.linear import freeze_weights, use_float8
from cover.models.timesformer.config import VARIANTS
from cover.training.engine import Engine
from cover.training.objective import Supervised
from cover.training.parallel import to_device

Step = Callable[[], object]
NAME, NUM_CLASSES, LEARNING_RATE = "k400", 400, 1e-3
PEAK_SIDE = 8192


@dataclass(frozen=True)
class Size:
    """A model and its input.

    batch: clips of a step; published_batch, compiled_batch: as many as the published code's memory allows, eager and
    compiled; settings: other keys of `[model]`.
    """

    variant: str
    num_frames: int
    image_px: int
    batch: int
    published_batch: int
    compiled_batch: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Of a frame."""
        return 1 + (self.image_px // 16) ** 2

    @property
    def forward_flops(self) -> float:
        """Of a clip, as published: 2 · tokens · blocks · (17 D² + 2 D (N + T))."""
        depth, width, _ = VARIANTS[self.variant]
        per_token = 17 * width**2 + 2 * width * (self.num_tokens - 1 + self.num_frames)
        return 2 * self.num_frames * self.num_tokens * depth * per_token


SIZES = {
    "large": Size("timesformer_large", 16, 448, batch=4, published_batch=1, compiled_batch=2),
    "base": Size("timesformer_base", 8, 224, batch=32, published_batch=32, compiled_batch=32),
    "small": Size("timesformer_small", 8, 112, batch=32, published_batch=32, compiled_batch=32),
    "tiny": Size("timesformer_tiny", 4, 64, batch=4, published_batch=4, compiled_batch=4),  # to try the scripts out
}


def uint8_frames(size: Size, num_clips: int, num_frames: int | None = None) -> Tensor:
    """Noise [T, B, 3, Y, X] on the GPU."""
    shape = num_frames or size.num_frames, num_clips, 3, size.image_px, size.image_px
    return torch.randint(256, shape, dtype=torch.uint8, device="cuda")


def our_model(size: Size, heads: dict[str, int], drop_path_rate: float = 0.0) -> VideoClassifier:
    """Ours on the GPU, of whose weights none is zero."""
    with torch.device("cuda"):
        return create_model(
            size.variant,
            num_frames=size.num_frames,
            image_size=size.image_px,
            heads=heads,
            drop_path_rate=drop_path_rate,
            temporal_init="random",
            **size.settings,
        )


def our_step(size: Size, *, drop_path_rate: float = 0.0, **training: Any) -> Step:
    """A training step of ours with a batch that is there already: all that a run does between two batches.

    training: keys of a recipe's section.
    """
    values: dict[str, Any] = {"policy": "standard", "model": {}, "datasets": {NAME: {"train": "noise"}}}
    recipe = parse_recipe(values | {"training": training}, "benchmark")
    AcceleratorState._reset_state(reset_partial_state=True)
    objective, accelerator = Supervised(recipe), Accelerator(mixed_precision="bf16")
    model = our_model(size, {NAME: NUM_CLASSES}, drop_path_rate)
    to_device(model, recipe.training, accelerator)
    engine = Engine(model, objective, recipe, accelerator)
    labels, seeds = torch.randint(NUM_CLASSES, (size.batch,)), torch.arange(size.batch)
    clips = ClipBatch(NAME, uint8_frames(size, size.batch), labels, ("",) * size.batch, seeds)
    batch = objective.pack(MixedBatch({NAME: clips}, {NAME: size.batch}, 0), accelerator.device)

    def step() -> None:
        engine.backward(batch, last=True)
        engine.step(LEARNING_RATE, 0)

    return step


def our_logits(size: Size, num_clips: int, *, float8: bool = False) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A function from frames to the logits of ours in inference, without graphs; and frames."""
    model = our_model(size, {NAME: NUM_CLASSES}).eval()
    if float8:
        use_float8(model)
    freeze_weights(model)

    def logits(frames: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            return model.predict(frames)[NAME]

    return logits, uint8_frames(size, num_clips)


def published_model(size: Size) -> TimesformerForVideoClassification:
    """The published TimeSformer as transformers has it, on the GPU."""
    depth, width, num_heads = VARIANTS[size.variant]
    config = TimesformerConfig(
        image_size=size.image_px,
        num_frames=size.num_frames,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        intermediate_size=4 * width,
        num_labels=NUM_CLASSES,  # type: ignore[call-arg]  # of the parent class
        layer_norm_eps=1e-6,
    )
    with torch.device("cuda"):
        return TimesformerForVideoClassification(config)


def published_on_noise(
    size: Size, num_clips: int, *, compile: bool = False
) -> tuple[TimesformerForVideoClassification, Callable[[], Tensor]]:
    """The published model, and a function that gives its logits on a batch of noise, normalised beforehand."""
    model = published_model(size)
    called = torch.compile(model) if compile else model
    pixels = uint8_frames(size, num_clips).transpose(0, 1).float().div(127.5).sub(1).contiguous()
    return model, lambda: called(pixels).logits


def median_seconds(step: Step, repeats: int, warmup: int = 3) -> float:
    """Of one call, by the GPU's clock; calls are queued behind each other, as in training."""
    for _ in range(warmup):
        step()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    for event in events[:-1]:
        event.record()
        step()
    events[-1].record()
    torch.cuda.synchronize()
    return float(statistics.median(start.elapsed_time(end) / 1000 for start, end in pairwise(events)))


def recorded(step: Step) -> Step:
    """A step as one CUDA graph, which leaves the host nothing to do."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def peak_gib(step: Step) -> float:
    """What the first step takes at its peak beyond what it leaves behind. Later steps of ours replay a graph."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()) / 2**30


def matmul_peak_tflops() -> float:
    """Of a product of square bf16 matrices of noise."""
    a, b = (torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * PEAK_SIDE**3 / median_seconds(lambda: torch.mm(a, b), repeats=10) / 1e12


class Ceiling(nn.Module):
    """A model's matrix products and spatial attention alone, in bf16: what is left if all else costs nothing.

    Of every block but the last: queries, keys and values, and output, of both attentions (the temporal one's output
    projection and temporal_fc as one product, so 16 D² multiply-adds a token where the published code has 17), the MLP,
    and softmax attention in each frame by cuDNN. Of the last what the class token needs: the temporal branch, and keys
    and values of the spatial one. In training their two gradients each. No temporal attention, no norm, no GELU, no
    bias, no residual, no embedding, no optimizer.
    """

    def __init__(self, size: Size, num_clips: int) -> None:
        super().__init__()
        self.depth, width, self.num_heads = VARIANTS[size.variant]
        self.num_frames, self.num_tokens = size.num_frames * num_clips, size.num_tokens
        temporal = [(3 * width, width), (width, width)]
        shapes = [*temporal, *temporal, (4 * width, width), (width, 4 * width), (2 * width, width)]
        rows = self.num_frames * self.num_tokens
        noise = partial(torch.randn, device="cuda", dtype=torch.bfloat16)
        products = [
            (noise(rows, inner), 0.02 * noise(outer, inner), noise(rows, outer)) for outer, inner in shapes
        ]  # input, weight, gradient of the output
        self.products, self.last_products = products[:-1], [*products[:2], products[-1]]
        heads = self.num_heads, width // self.num_heads
        packed = noise(self.num_frames, self.num_tokens, 3, *heads)  # as in the model
        self.qkv = [part.transpose(1, 2).requires_grad_() for part in packed.unbind(2)]
        self.mixed_gradient = noise(self.num_frames, self.num_tokens, *heads).transpose(1, 2)

    def forward(self, training: bool) -> None:
        for _ in range(self.depth - 1):
            multiply(self.products, training)
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), torch.set_grad_enabled(training):
                query, key, value = self.qkv
                mixed = F.scaled_dot_product_attention(query, key, value)
                if training:
                    torch.autograd.grad(mixed, self.qkv, self.mixed_gradient)
        multiply(self.last_products, training)


def multiply(products: list[tuple[Tensor, Tensor, Tensor]], training: bool) -> None:
    """Input by weight, and in training the gradients of both."""
    for x, weight, gradient in products:
        x @ weight.t()
        if training:
            gradient @ weight
            gradient.t() @ x


CLASSES = {  # of kernels, by what their names hold; the first that fits
    "temporal attention": ("_attend",),
    "spatial attention": ("cudnn", "flash", "fmha", "attention"),
    "gelu": ("_gelu", "Gelu", "GELU"),
    "residual and norm": ("_forward", "_backward", "layer_norm"),
    "pack qkv": ("_pack",),
    "fold": ("_fold", "_unfold"),
    "sums": ("_column_sums", "reduce_kernel"),
    "matmul": ("gemm", "nvjet", "cutlass", "splitK"),
    "optimizer": ("FusedSgd", "multi_tensor"),
}


def milliseconds_by_class(step: Step) -> dict[str, float]:
    """What a step spends in kernels of each class; "other" are torch's elementwise kernels and copies."""
    step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
        step()
        torch.cuda.synchronize()
    totals: dict[str, float] = {}
    for event in profiled.key_averages():
        fits = (name for name, parts in CLASSES.items() if any(part in event.key for part in parts))
        name = next(fits, "other")
        totals[name] = totals.get(name, 0.0) + event.device_time_total / 1000
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Contestant:
    """make: builds the model and gives its step. num_clips: of a step."""

    name: str
    make: Callable[[], Step]
    num_clips: int


def arguments_of(description: str | None, sizes: list[str]) -> argparse.Namespace:
    """The command line of a race."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=sizes, choices=SIZES)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some contestants, by name")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--profile", action="store_true", help="where our time goes, by class of kernel")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def race(arguments: argparse.Namespace, passes: int, contestants: Callable[[Size], list[Contestant]]) -> None:
    """Time contestants one after the other and print them side by side; who fails is named, and the others go on.

    passes: how many times the operations of a forward pass a step takes, as published. contestants: of a size; the
    one called "ceiling" and the one called "published, eager" are what the others are compared with.
    """
    device = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    found: dict[str, Any] = {"device": device, "matmul_peak_tflops": matmul_peak_tflops(), "rows": [], "failed": []}
    found["milliseconds"] = {}
    for size_name in arguments.sizes:
        for contestant in contestants(SIZES[size_name]):
            if arguments.only and contestant.name not in arguments.only:
                continue
            try:
                row = measured(contestant, SIZES[size_name], passes, arguments, found["milliseconds"])
                found["rows"].append({"size": size_name, "name": contestant.name} | row)
                print(f"{size_name}, {contestant.name}: {row['clips_per_second']:.1f} clips/s", flush=True)
            except RuntimeError as error:
                found["failed"].append(f"{size_name}, {contestant.name}: {type(error).__name__}, {error!s:.100}")
            torch._dynamo.reset()
            gc.collect()
            torch.cuda.empty_cache()
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1))
    show(found)


def measured(
    contestant: Contestant, size: Size, passes: int, arguments: argparse.Namespace, profiles: dict[str, Any]
) -> dict[str, float]:
    """A contestant's figures; those of its kernels go into `profiles`."""
    step = contestant.make()
    memory = peak_gib(step)
    rate = contestant.num_clips / median_seconds(step, arguments.repeats)
    if arguments.profile and contestant.name == "ours":
        profiles[size.variant] = milliseconds_by_class(step)
    return {
        "batch": contestant.num_clips,
        "clips_per_second": rate,
        "tflops": passes * size.forward_flops * rate / 1e12,
        "gib_per_clip": memory / contestant.num_clips,
    }


def show(found: dict[str, Any]) -> None:
    console, rates = Console(width=110), {(row["size"], row["name"]): row["clips_per_second"] for row in found["rows"]}
    table = Table(
        "size", "", "batch", "clips/s", "× eager", "of ceiling", "TFLOP/s", "GiB a clip",
        title=f"{found['device']}, matmul peak {found['matmul_peak_tflops']:.0f} TFLOP/s",
    )  # fmt: skip
    for row in found["rows"]:
        others = [rates.get((row["size"], name)) for name in ("published, eager", "ceiling")]
        ratios = [f"{row['clips_per_second'] / other:.2f}" if other else "–" for other in others]
        figures = [f"{row['tflops']:.0f}", f"{row['gib_per_clip']:.2f}"]
        table.add_row(row["size"], row["name"], str(row["batch"]), f"{row['clips_per_second']:.1f}", *ratios, *figures)
    console.print(table)
    for size, classes in found["milliseconds"].items():
        shown = ", ".join(f"{name} {value:.1f}" for name, value in classes.items())
        console.print(f"ours, {size}, ms a step: {shown}")
    for failure in found["failed"]:
        console.print(f"failed: {failure}", highlight=False)
