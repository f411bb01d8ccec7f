"""Functions of tensors that a GPU replays as CUDA graphs.

A model launches over a thousand kernels a step. Launching them one by one takes the host longer than the GPU needs for
a small batch. A CUDA graph records the launches once and replays them with one call:

    inputs ─copy─▶ the graph's own inputs ─▶ recorded kernels ─▶ the graph's own outputs, valid until the next call

A graph has fixed shapes. So there is one for each signature: the shapes of the inputs, and what else the function
depends on. All graphs share one memory pool, which is as large as the largest of them needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
Layout = TypeVar("Layout", bound=Hashable | None)
MOST_GRAPHS = 64
"""Signatures above this number run without a graph."""
BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of clips that inference has graphs for. Other numbers are filled up to the next one with black clips."""


class GraphedFunction(Generic[Layout]):
    """A function whose kernels are recorded when a signature occurs first, and replayed from then on.

    The very first call runs without a graph: it compiles kernels and creates what libraries keep between calls.

    Args:
        function: Takes named tensors on a GPU and a layout, and returns named tensors. It must not wait for the GPU,
            and everything else that it reads and writes on the GPU must stay at its address.

    Attributes:
        num_graphs: How many graphs were recorded.
        seconds: How long recording took.
        pool_bytes: The memory that the graphs keep.
    """

    def __init__(self, function: Callable[[Tensors, Layout], dict[str, Tensor]]) -> None:
        self.function = function
        self.seconds = 0.0
        self.pool_bytes = 0
        self._graphs: dict[Hashable, _Graph] = {}
        self._is_warm = False
        self._is_off = False
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def num_graphs(self) -> int:
        return len(self._graphs)

    def __call__(self, inputs: Tensors, layout: Layout) -> dict[str, Tensor]:
        """Compute the function.

        Args:
            inputs: Tensors on the GPU.
            layout: What the function depends on besides the tensors.

        Returns:
            The outputs. The next call may overwrite them.
        """
        signature = layout, *((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items())
        if signature not in self._graphs and not self._record(signature, inputs, layout):
            return self.function(inputs, layout)
        graph = self._graphs[signature]
        for name, tensor in inputs.items():
            graph.inputs[name].copy_(tensor)
        graph.graph.replay()
        return graph.outputs

    def _record(self, signature: Hashable, inputs: Tensors, layout: Layout) -> bool:
        """Record the graph of a signature. Returns whether there is one."""
        if not self._is_warm or self._is_off:
            self._is_warm = True
            return False
        if len(self._graphs) == MOST_GRAPHS:
            self._is_off = True
            logger.warning("%d shapes of batches have CUDA graphs; others are computed without", MOST_GRAPHS)
            return False
        began, free_before = time.perf_counter(), _free_bytes()
        with torch.inference_mode(False):  # or calls outside inference mode could not write to them
            own = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            # "relaxed", because a kernel may be loaded while it is recorded, and other threads use the GPU meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="relaxed"):
                outputs = self.function(own, layout)
        except RuntimeError as error:  # out of memory, too
            self._is_off = True
            self._graphs.clear()  # their memory is what calls without graphs need
            logger.warning("CUDA graphs are off, because one cannot be recorded: %s", _first_reason(error))
            # The generator still believes that it is being recorded.
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
            return False
        self._graphs[signature] = _Graph(graph, own, outputs)
        self.seconds += time.perf_counter() - began
        self.pool_bytes += max(free_before - _free_bytes(), 0)
        return True


class _Graph(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def _first_reason(error: BaseException) -> str:
    """The first line of the error that came first; the others follow from it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0]


def _free_bytes() -> int:
    """Memory of the GPU that no pool holds, after unused memory was returned."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0]


class ClipGraphs:
    """A function of clips for inference, with a graph for each of BUCKETS and each clip length.

    Any number of threads may call it; one call is computed at a time.

    Args:
        function: Frames [T,B,C,Y,X] on a GPU → a tensor [B, …] there.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self._graphed = GraphedFunction[None](lambda inputs, _: {"out": function(inputs["frames"])})
        self._lock = Lock()

    def __call__(self, frames: Tensor) -> Tensor:
        """Compute the function."""
        num_clips = frames.shape[1]
        bucket = next((size for size in BUCKETS if size >= num_clips), None)
        if bucket is None:
            return self.function(frames)
        if bucket > num_clips:
            blank = frames.new_zeros(len(frames), bucket - num_clips, *frames.shape[2:])
            frames = torch.cat([frames, blank], dim=1)
        with self._lock:  # a graph has one place for its inputs, and one for its outputs
            return self._graphed({"frames": frames}, None)["out"][:num_clips].clone()
