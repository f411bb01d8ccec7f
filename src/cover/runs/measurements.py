"""What a dry run tries out on this machine: some files of each dataset, and some steps."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from cover.datasets.manifest import Manifest
from cover.errors import DecodeError
from cover.models.create import build
from cover.reports.terminal_tables import duration
from cover.runs.adapters import reader_for
from cover.runs.data import create_mixture
from cover.runs.plan import Plan
from cover.training.checkpoint import TrainingState
from cover.training.engine import Engine
from cover.training.launch import start_accelerator
from cover.training.objective import Supervised
from cover.training.packed_batch import PackedBatch
from cover.training.parallel import to_device

FILES_OPENED = 8
"""Files of each split that are decoded."""
NUM_WARMUP, NUM_TIMED = 2, 3
"""Steps on black clips, before and while the clock runs."""
CPU_PASS_FLOPS, MAX_CLIP_FLOPS = 1e11, 3e11
"""On a CPU, the time of a step is that of a part with about this many floating-point operations. A model whose single
clips take more than the second number is not timed there."""
MIN_STEPS, MIN_STEPS_WITH_INIT = 500, 100
"""Shorter runs get a warning: the heads hardly leave chance."""


@dataclass(frozen=True)
class FileSample:
    """What came of decoding a few files of each split.

    Attributes:
        seconds: Dataset → seconds to decode a training clip; without datasets with no readable file.
        warnings: A line for each split with unreadable files.
    """

    seconds: dict[str, float]
    warnings: list[str]


def sample_files(planned: Plan) -> FileSample:
    """Decode FILES_OPENED samples of each split as training and validation do, spread evenly over the manifest.

    Files that several heads share (`datasets.NAME.clips_of`) are decoded once.
    """
    recipe = planned.recipe
    readers = create_mixture(recipe, planned.data.training, planned.num_steps).readers
    seconds: dict[str, float] = {}
    warnings: list[str] = []
    for name in recipe.sampled:
        reader = readers[name]
        found = _tried(reader.manifest, partial(reader.train_clip, seed=0))
        if found.times:
            seconds[name] = float(np.median(found.times))
        warnings += found.warnings(f"datasets.{name}.train")
    for split in ("val", "test"):
        manifests = planned.data.splits[split]
        for name, manifest in manifests.items():
            if (owner := recipe.clips_of(name)) != name and owner in manifests:
                continue
            found = _tried(manifest, partial(reader_for(recipe, manifest, name).views, num_crops=1))
            warnings += found.warnings(f"datasets.{name}.{split}")
    return FileSample(seconds, warnings)


@dataclass(frozen=True)
class _Tried:
    """The seconds of each file that was decoded, and the errors of the others."""

    times: list[float]
    errors: list[DecodeError]

    def warnings(self, where: str) -> Iterator[str]:
        if self.errors:
            tried = len(self.times) + len(self.errors)
            yield (
                f"{where}: {len(self.errors)} of {tried} files that were tried cannot be decoded, such as: "
                f"{self.errors[0]}; `cover check` finds all"
            )


def _tried(manifest: Manifest, decode: Callable[[int], object]) -> _Tried:
    rows = np.unique(np.linspace(0, len(manifest) - 1, FILES_OPENED).astype(int)).tolist()
    found = _Tried([], [])
    for row in rows:
        if manifest[row].readable is False:  # `cover check` has said so, and training leaves it out
            continue
        started = time.perf_counter()
        try:
            decode(row)
            found.times.append(time.perf_counter() - started)
        except DecodeError as error:
            found.errors.append(error)
    return found


@dataclass(frozen=True)
class StepTime:
    """How long a step takes to compute, without waiting for data.

    Attributes:
        seconds: Of a step.
        gpu_bytes: The most memory of the GPU that was in use; None on a CPU.
    """

    seconds: float
    gpu_bytes: int | None


def step_time(planned: Plan, objective: Supervised) -> StepTime | None:
    """Time steps on black clips.

    Where each step has clips of one dataset, steps of each are timed, and weighed by how many it has. On a CPU, a part
    of a step is timed and multiplied.

    Returns:
        The time, or None if this machine is a CPU and the model too large for it.
    """
    recipe = planned.recipe
    accelerator = start_accelerator(recipe, None)
    on_gpu = accelerator.device.type == "cuda"
    mixture = planned.mixture(TrainingState(), accelerator)
    if not on_gpu and planned.step_flops / mixture.schedule.clips_per_step > MAX_CLIP_FLOPS:
        return None
    model = build(planned.config, recipe.model.temporal_init)
    to_device(model, recipe.training, accelerator)
    number = objective.num_micro_batches(model, mixture, accelerator)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        number = min(max(number, math.ceil(planned.step_flops / CPU_PASS_FLOPS)), mixture.schedule.fewest_clips)
    engine = Engine(model, objective, recipe, accelerator)
    turns: dict[str | None, float] = {row.dataset: row.steps_share for row in planned.rows if row.batch_size}
    seconds = 0.0
    for name, share in (turns or {None: 1.0}).items():
        batch = objective.pack(mixture.blank_batch(number, name), accelerator.device)
        seconds += share * (_gpu_seconds if on_gpu else _cpu_seconds)(engine, batch, number)
    return StepTime(seconds, torch.cuda.max_memory_allocated() if on_gpu else None)


def _cpu_seconds(engine: Engine, batch: PackedBatch, number: int) -> float:
    """Return the time of a step of so many parts: one part is timed."""
    engine.backward(batch, last=True)
    started = time.perf_counter()
    engine.backward(batch, last=True)
    part_ended = time.perf_counter()
    engine.step(0.0, 0)
    return number * (part_ended - started) + time.perf_counter() - part_ended


def _gpu_seconds(engine: Engine, batch: PackedBatch, number: int) -> float:
    """Return the time of a step of so many parts, after a warm-up that captures graphs."""
    for step in range(NUM_WARMUP + NUM_TIMED):
        if step == NUM_WARMUP:
            torch.cuda.synchronize()
            started = time.perf_counter()
        for part in range(number):
            engine.backward(batch, last=part == number - 1)
        engine.step(0.0, step)
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / NUM_TIMED


def time_line(planned: Plan, step: StepTime | None, files: FileSample) -> str:
    """Return how long training takes, as one line: the longer of computing and reading, without validation.

    Frames that are cached are read only once, and do not count.
    """
    if step is None:
        return "not measured, because one clip is too much for a CPU; train on a GPU"
    workers = max(planned.recipe.num_workers, 1)
    read = [row for row in planned.rows if not planned.recipe.clips(row.dataset).cache_frames]
    reading = sum(row.clips_per_batch * files.seconds.get(row.dataset, 0.0) for row in read) / workers
    total = duration(planned.num_steps * max(step.seconds, reading))
    line = f"about {total} without validation: {planned.num_steps:,} steps of {step.seconds:.3g} s"
    if step.gpu_bytes is not None:
        line += f" and {step.gpu_bytes / 2**30:.1f} GiB"
    if reading:
        line += f"; reading takes {reading:.2g} s a step"
    return f"{line}, which limits it: raise data.num_workers, or `cover pack`" if reading > step.seconds else line


def device_line() -> str:
    """Return what training computes on."""
    if torch.cuda.is_available():
        number = torch.cuda.device_count()
        return torch.cuda.get_device_name() + f", {number} of them" * (number > 1)
    return f"CPU, {os.cpu_count()} cores"


def warnings_before_training(planned: Plan) -> list[str]:
    """Return a line about a run that is too short to learn, and for each dataset that is smaller than a batch."""
    recipe, warnings = planned.recipe, list[str]()
    least = MIN_STEPS_WITH_INIT if recipe.init else MIN_STEPS
    if planned.num_steps < least and planned.objective.takes_clips:
        steps = "" if recipe.init else f" ({MIN_STEPS_WITH_INIT} with weights in `init`)"
        warnings.append(
            f"{planned.num_steps:,} steps are too few to learn much; from about {least}{steps} on, accuracies leave "
            "chance: raise training.epochs, lower data.batch_size, or start from weights"
        )
    for row in planned.rows:
        wanted = row.batch_size or row.clips_per_batch
        if wanted > row.num_clips:
            warnings.append(
                f"a batch has {wanted:.3g} clips of datasets.{row.dataset}, which has {row.num_clips:,}, so a step "
                f"repeats them; lower {'its ' if row.batch_size else 'data.'}batch_size"
            )
    return warnings
