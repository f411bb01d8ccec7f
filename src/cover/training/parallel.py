"""One model on one process or many: DDP and FSDP2, recomputation and compilation, all put around it from outside.

The models know nothing of this. Inside out: recomputed blocks, compiled blocks, then sharding or replication.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from cover.config.recipe import TrainingSection
from cover.errors import CoverError
from cover.models.classifier import VideoClassifier

Value = TypeVar("Value")

MAX_COMPILED_SHAPES = 64
"""Of one block. The counts of a mixture vary by one clip a dataset, which gives a handful."""


def to_device(model: VideoClassifier, section: TrainingSection, accelerator: Accelerator) -> None:
    """Put `model` on its device, with the blocks recomputed that the recipe says; it works on one process by itself."""
    model.to(accelerator.device)
    if every := section.activation_checkpointing:
        recompute_blocks(model, every)


def parallelise(model: VideoClassifier, section: TrainingSection, accelerator: Accelerator) -> nn.Module:
    """Return what is to be called in place of `model`, which `to_device` has put on its device.

    Its parameters are changed in place: under "fsdp" they become DTensors, of which each process holds a part.
    """
    if section.compile:
        compile_blocks(model)
    if accelerator.num_processes == 1 or section.parallel != "fsdp":
        return replicate(model, accelerator)
    # Gathered once a micro-batch, not again for the backward pass: the activations of a few clips take more memory than
    # all weights do. Gradients and the optimizer's state stay sharded.
    for block in model.backbone.units():
        fully_shard(block, reshard_after_forward=False)
    fully_shard(model, reshard_after_forward=False)
    return model


def replicate(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """DDP around a module on its device; the module itself where there is one process."""
    if accelerator.num_processes == 1:
        return module
    device_ids = [accelerator.device.index] if accelerator.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids, gradient_as_bucket_view=True)


def recompute_blocks(model: VideoClassifier, every: int) -> None:
    """Keep only the input of every `every`-th block and compute the rest anew in the backward pass."""
    for block in model.backbone.units()[every - 1 :: every]:
        # Nothing in a block is drawn from the global generator: drop path comes with the clips' seeds.
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(model: VideoClassifier) -> None:
    """Compile each block for the very shapes that come (with sizes left open, torch 2.11's inductor gives up)."""
    torch._dynamo.config.recompile_limit = MAX_COMPILED_SHAPES
    for block in model.backbone.units():
        block.forward = torch.compile(block.forward, dynamic=False)


def synchronise_gradients(wrapped: nn.Module, on: bool) -> None:
    """Whether the next forward and backward pass shares its gradients with the other processes."""
    if isinstance(wrapped, DistributedDataParallel):
        wrapped.require_backward_grad_sync = on
    elif isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(on)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """While entered, each process holds all weights and can evaluate on its own, in its own number of steps."""
    shards = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for module in shards:
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()


def from_main(compute: Callable[[], Value], accelerator: Accelerator) -> Value:
    """What `compute` returns in the main process, in all of them. A CoverError of it is raised in all of them, too."""
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
    """The part of a tensor that this process holds, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor of which processes hold parts; every one of them has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def on_host(tensor: Tensor) -> Tensor:
    """A copy of the whole tensor in this machine's memory; see `full_tensor`."""
    return full_tensor(tensor.detach()).to("cpu", copy=True).contiguous()


def placed_like(value: Tensor, tensor: Tensor) -> Tensor:
    """A whole value spread over devices and processes as `tensor` is."""
    value = value.to(tensor.device)
    if isinstance(tensor, DTensor):
        return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    return value


def any_rank_stopped(requested: signal.Signals | None, accelerator: Accelerator) -> signal.Signals | None:
    """The signal that any process was asked to stop with: all of them must stop at the same point, and call this."""
    if accelerator.num_processes == 1:
        return requested
    number = torch.tensor([int(requested or 0)], device=accelerator.device)
    highest = int(accelerator.gather(number).max())
    return signal.Signals(highest) if highest else None
