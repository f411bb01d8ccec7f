"""How fast a run is, where its time goes, and how much of the device's arithmetic it uses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

PEAK_SIDE, PEAK_REPEATS = 8192, 10
"""Side of square matrices that keep any GPU busy, and how many products are timed."""


def matmul_peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Measure a large matrix product, in about 20 ms. Returns operations per second; None without a GPU."""
    if device.type != "cuda":
        return None
    matrix = torch.ones(PEAK_SIDE, PEAK_SIDE, device=device, dtype=dtype)
    torch.mm(matrix, matrix)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(PEAK_REPEATS):
        torch.mm(matrix, matrix)
    end.record()
    end.synchronize()
    seconds = float(start.elapsed_time(end)) / 1000
    return 2 * PEAK_SIDE**3 * PEAK_REPEATS / seconds


@dataclass
class Throughput:
    """Times the parts of steps. Work on a GPU is timed by CUDA events, without waiting for it.

    Args:
        device: Of this process.
        num_processes: Over which a step is split.
        clips: Per step, over all processes.
        frames: Per step, over all processes.
        flops: Per step, forward and backward, over all processes, counted as papers do.
        peak_flops: Per second, of one device (`matmul_peak_flops`); None if unknown.
    """

    device: torch.device
    num_processes: int
    clips: float
    frames: float
    flops: float
    peak_flops: float | None
    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list, init=False)
    _began: float = field(default_factory=time.perf_counter, init=False)
    _num_steps: int = field(default=0, init=False)

    @contextmanager
    def part(self, name: str, *, on_device: bool = False) -> Iterator[None]:
        """Time the block under a name. on_device: with events of the GPU, if there is one."""
        if on_device and self.device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((name, start, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    def end_step(self) -> None:
        """Count a step."""
        self._num_steps += 1

    def take(self) -> dict[str, float]:
        """The figures since the last call, by their names in metrics.jsonl. Times are in seconds per step."""
        for name, start, end in self._events:
            end.synchronize()
            self._seconds[name] = self._seconds.get(name, 0.0) + start.elapsed_time(end) / 1000
        now = time.perf_counter()
        seconds, num_steps = now - self._began, max(self._num_steps, 1)
        rate = self._num_steps / seconds
        flops = self.flops * rate / self.num_processes
        values = {
            "step_seconds": seconds / num_steps,
            "clips_per_second": self.clips * rate,
            "frames_per_second": self.frames * rate,
            "data_wait_share": self._seconds.get("data", 0.0) / seconds,
            **{f"{name}_seconds": total / num_steps for name, total in sorted(self._seconds.items())},
            "tflops_per_device": flops / 1e12,
        }
        if self.peak_flops:
            values["share_of_matmul_peak"] = flops / self.peak_flops
        if self.device.type == "cuda":
            values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        self._seconds, self._events, self._num_steps, self._began = {}, [], 0, now
        return {name: float(f"{value:.5g}") for name, value in values.items()}
