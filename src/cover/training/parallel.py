"""One model on one process or many: recomputation, compilation, DDP and FSDP2.

Models know nothing about this. It is applied from the inside out: recomputed blocks, compiled blocks, then sharding or
replication.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from cover.config.training_sections import TrainingSection
from cover.errors import CoverError
from cover.models.classifier import VideoClassifier
from cover.models.linear import use_float8

if TYPE_CHECKING:  # 0.7 s, which only sharded runs should pay
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

Value = TypeVar("Value")

MAX_COMPILED_SHAPES = 64
"""Shapes per block. The clips per dataset vary by one between steps, which gives a handful of shapes."""


def to_device(model: VideoClassifier, section: TrainingSection, accelerator: Accelerator) -> None:
    """Move a model to its device, and set up products of float8 and recomputation (`activation_checkpointing`)."""
    model.to(accelerator.device)
    if section.precision == "fp8" and accelerator.device.type == "cuda":
        use_float8(model)
    if every := section.activation_checkpointing:
        recompute_blocks(model, every)


def parallelise(module: nn.Module, section: TrainingSection, accelerator: Accelerator) -> nn.Module:
    """Spread a module over processes.

    Args:
        module: A model or its heads, on its device. Under "fsdp" the parameters of a model become DTensors in place;
            each process holds a part. Heads are small, and every process has them all.
        section: Whether to compile, and how to parallelise.
        accelerator: The process's devices and communication.

    Returns:
        The module to call instead of `module`.
    """
    if not isinstance(module, VideoClassifier):
        return replicate(module, accelerator)
    if section.compile:
        compile_blocks(module)
    if not is_sharded(section, accelerator):
        return replicate(module, accelerator)
    from torch.distributed.fsdp import fully_shard

    # Weights are gathered once per micro-batch, not again for the backward pass: they take less memory than the
    # activations of a few clips. Gradients and the optimizer's state stay sharded.
    for block in module.units():
        fully_shard(block, reshard_after_forward=False)
    fully_shard(module, reshard_after_forward=False)
    return module


def is_sharded(section: TrainingSection, accelerator: Accelerator) -> bool:
    """Whether each process holds only a part of the weights."""
    return section.parallel == "fsdp" and accelerator.num_processes > 1


def replicate(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Wrap a module in DDP; return it as it is if there is only one process."""
    if accelerator.num_processes == 1:
        return module
    device_ids = [accelerator.device.index] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids, gradient_as_bucket_view=True)


def recompute_blocks(model: VideoClassifier, every: int) -> None:
    """Keep only the input of every `every`-th block, and recompute the block in the backward pass."""
    for block in model.units()[every - 1 :: every]:
        # Blocks draw nothing from the global generator: drop path depends on the clips' seeds.
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(model: VideoClassifier) -> None:
    """Compile each block for each shape. With dynamic sizes, torch 2.11's inductor fails."""
    torch._dynamo.config.recompile_limit = MAX_COMPILED_SHAPES
    for block in model.units():
        block.forward = torch.compile(block.forward, dynamic=False)


def synchronise_gradients(wrapped: nn.Module, on: bool) -> None:
    """Set whether the next forward and backward pass averages its gradients over processes."""
    if isinstance(wrapped, DistributedDataParallel):
        wrapped.require_backward_grad_sync = on
    elif _is_fsdp(wrapped):
        wrapped.set_requires_gradient_sync(on)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside the block, each process holds all weights and can evaluate independently."""
    shards = [module for module in model.modules() if _is_fsdp(module)]
    for module in shards:
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()


def from_main(compute: Callable[[], Value], accelerator: Accelerator) -> Value:
    """Call `compute` in the main process; return its result, or raise its CoverError, in every process."""
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [compute()]
        except CoverError as error:
            outcome = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], CoverError):
        raise outcome[0]
    value: Value = outcome[0]
    return value


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds. It shares the tensor's memory."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a tensor that processes hold in parts. Every process must call this."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def on_host(tensor: Tensor) -> Tensor:
    """A copy of the whole tensor in host memory. Every process must call this."""
    return full_tensor(tensor.detach()).to("cpu", copy=True).contiguous()


def placed_like(value: Tensor, tensor: Tensor) -> Tensor:
    """Distribute a whole value over devices and processes like `tensor`."""
    value = value.to(tensor.device)
    if _is_sharded(tensor):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    return value


def _is_fsdp(module: nn.Module) -> TypeGuard[FSDPModule]:
    return hasattr(module, "unshard")


def _is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    return hasattr(tensor, "full_tensor")


def any_rank_stopped(requested: signal.Signals | None, accelerator: Accelerator) -> signal.Signals | None:
    """The signal that any process was asked to stop with, so that all stop at the same point. All must call this."""
    if accelerator.num_processes == 1:
        return requested
    number = torch.tensor([int(requested or 0)], device=accelerator.device)
    highest = int(accelerator.gather(number).max())
    return signal.Signals(highest) if highest else None
