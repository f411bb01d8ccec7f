"""One optimizer step on any number of processes and micro-batches, and the tensors that a checkpoint keeps."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cover.config.recipe import Recipe
from cover.errors import CheckpointError
from cover.models.classifier import PROJECTIONS, VideoClassifier, saved_name
from cover.training.dataset_gradients import DatasetGradients, Measurement
from cover.training.gradients import GraphedGradients, obstacle
from cover.training.lora import is_part, merged
from cover.training.objective import Objective, StepOutput
from cover.training.optimizer import create_optimizer, set_learning_rate
from cover.training.packed_batch import PackedBatch
from cover.training.parallel import (
    full_tensor,
    gathered,
    is_sharded,
    local,
    on_host,
    parallelise,
    placed_like,
    synchronise_gradients,
)

logger = logging.getLogger(__name__)


class Engine:
    """A model that learns, with its optimizer and the average of its weights, on one process or several.

    Args:
        model: On its device (`parallel.to_device`). Evaluate this one, see `evaluating`.
        objective: Which weights learn, and by which loss.
        recipe: Its optimizer and EMA settings are used.
        accelerator: The process's devices and communication.
        fresh: As in TrainingState.
    """

    def __init__(
        self,
        model: VideoClassifier,
        objective: Objective,
        recipe: Recipe,
        accelerator: Accelerator,
        fresh: Collection[str] = (),
    ) -> None:
        self.model = model
        self.objective = objective
        self.recipe = recipe
        self.accelerator = accelerator
        module = objective.module(model)
        self.gradients = own_gradients(module, objective, recipe, accelerator)
        measures = recipe.training.measure_gradients_every and not isinstance(self.gradients, DatasetGradients)
        self._measured = DatasetGradients(module, objective, recipe, accelerator, updates=False) if measures else None
        self.measurement: Measurement | None = None
        self.wrapped = module if self.gradients else parallelise(module, recipe.training, accelerator)
        # Fused SGD knows no DTensors, and does not survive an overflow of fp16 in the first step (torch 2.11).
        self._fused = (
            accelerator.device.type == "cuda"
            and accelerator.scaler is None
            and not is_sharded(recipe.training, accelerator)
        )
        optimizer = create_optimizer(model, recipe.optimizer, fresh=fresh, fused=self._fused or None)
        self.optimizer = accelerator.prepare(optimizer)
        decay = recipe.training.ema_decay
        self.average = None if decay is None else ModelEMA(model, decay)

    def backward(self, batch: PackedBatch, *, last: bool, measure: bool = False) -> StepOutput:
        """Add the gradients of a micro-batch.

        Args:
            batch: One of `Objective.batches`.
            last: Whether it ends the step. Then processes sum their gradients.
            measure: Whether the next step's `measurement` is wanted.

        Returns:
            The losses of this process's clips.
        """
        if self._measured and measure:
            self._measured.add(batch)
            if last:
                self._measured.sum_over_processes()
        if self.gradients:
            output = self.gradients.add(batch)
            if last:
                self.gradients.sum_over_processes()
            return output
        synchronise_gradients(self.wrapped, last)
        with self.accelerator.autocast():
            output = self.objective.step(self.wrapped, batch)
        # DDP and FSDP average gradients, but the loss is a sum over processes.
        self.accelerator.backward(output.total * self.accelerator.num_processes)
        return output._replace(total=output.total.detach())

    def step(self, learning_rate: float, completed_steps: int, *, measure: bool = False) -> Tensor:
        """Update the weights and clear the gradients.

        Args:
            learning_rate: Before any layer-wise scale.
            completed_steps: Steps before this one.
            measure: Whether to compare the gradients of the datasets; the result is `measurement`.

        Returns:
            The norm of the gradients before clipping, over all processes.
        """
        set_learning_rate(self.optimizer, learning_rate)
        if isinstance(self.gradients, DatasetGradients):
            self.measurement = self.gradients.combine(completed_steps)
        elif self._measured and measure:
            self.measurement = self._measured.measure(completed_steps)
            self._measured.clear()
        if limit := self.recipe.optimizer.clip_gradient_norm:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        else:
            self.accelerator.unscale_gradients()
            gradients = (parameter.grad for parameter in self.model.parameters())
            norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
        self.optimizer.step()
        if self.gradients:
            self.gradients.clear()
        else:
            self.optimizer.zero_grad()
        if self.average:
            self.average.update(completed_steps + 1)
        return full_tensor(norm)

    def graph_metrics(self) -> dict[str, float]:
        """About CUDA graphs, for metrics.jsonl; empty without them."""
        return self.gradients.metrics() if isinstance(self.gradients, GraphedGradients) else {}

    @contextmanager
    def evaluating(self) -> Iterator[VideoClassifier]:
        """The model as users get it: with averaged weights under EMA, and all weights on each process."""
        with self._averaged(), gathered(self.model):
            yield self.model.eval()
        self.model.train()

    def weights(self) -> dict[str, Tensor]:
        """The weights that users get, copied to the host. Every process must call this."""
        with self._averaged():
            tensors = {name: on_host(tensor) for name, tensor in self.model.state_dict().items()}
        lora = self.recipe.optimizer.lora
        return merged(tensors, lora) if lora else tensors

    def training_tensors(self) -> dict[str, Tensor]:
        """What else training needs to continue, copied to the host. Every process must call this.

        Returns:
            "optimizer/STATE/PARAMETER" → tensor, and "weights/PARAMETER" → the last weights of projections, parts of
            adapted weights, and under EMA all that learns; then also "averages/PARAMETER" → those of such parts.
        """
        parameters = self._parameters()
        states = {
            f"optimizer/{kind}/{name}": value
            for name, parameter in parameters.items()
            for kind, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
        raw = {
            f"weights/{name}": parameter
            for name, parameter in parameters.items()
            if name.startswith(PROJECTIONS) or is_part(name) or (self.average and parameter.requires_grad)
        }
        kept = {key: on_host(tensor) for key, tensor in chain(states.items(), raw.items())}
        if self.average:
            with self._averaged():
                kept |= {
                    f"averages/{name}": on_host(parameter)
                    for name, parameter in parameters.items()
                    if is_part(name) and parameter.requires_grad
                }
        return kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load `training_tensors` of a run with any number of processes. Projections that are no more are left out.

        Raises:
            CheckpointError: A tensor fits no parameter.
        """
        parameters = self._parameters()
        for key, value in tensors.items():
            kind, *states, name = key.split("/")
            if name.startswith(PROJECTIONS) and name not in parameters:
                continue
            if kind in ("weights", "averages", "optimizer") and not _fits(value, parameters.get(name)):
                raise CheckpointError(
                    f"the checkpoint's {key} {list(value.shape)} fits no parameter of this model; resume with the "
                    "recipe that it was trained with"
                )
            if kind == "weights":
                _fill(parameters[name], value)
            elif kind == "optimizer" and parameters[name].requires_grad:
                # Numbers, such as Adam's step count, are on the host unless kernels read them.
                placed = placed_like(value, parameters[name]) if value.ndim or self._fused else value
                self.optimizer.state[parameters[name]][states[0]] = placed

        if self.average:
            with self._averaged():
                for name in (name for name in parameters if is_part(name) and f"weights/{name}" in tensors):
                    # Without averages so far, they start from the weights, as those in model.safetensors do.
                    _fill(parameters[name], tensors.get(f"averages/{name}", tensors[f"weights/{name}"]))

    def close(self) -> None:
        """Close the trackers and leave the process group."""
        # DDP must be freed first. If it outlives the process group, it ends the group itself, and can hang on CPUs: it
        # holds the interpreter's lock while it joins a thread of gloo that waits for the lock (torch 2.13).
        self.wrapped = self.model
        self.accelerator.end_training()

    def _parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by their names in files."""
        return {saved_name(name): parameter for name, parameter in self.model.named_parameters()}

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.in_place() if self.average else nullcontext()


def own_gradients(
    module: nn.Module, objective: Objective, recipe: Recipe, accelerator: Accelerator
) -> GraphedGradients | DatasetGradients | None:
    """What computes gradients in another way than autograd's: by dataset, or by CUDA graphs. None if the recipe asks
    for neither, or there is no GPU for graphs."""
    if recipe.optimizer.combines_datasets:
        if recipe.training.graphs == "auto" and accelerator.device.type == "cuda" and accelerator.is_main_process:
            logger.warning("CUDA graphs are off: optimizer.balance and clip_dataset_norm take datasets one by one")
        return DatasetGradients(module, objective, recipe, accelerator, updates=True)
    if recipe.training.graphs == "off" or accelerator.device.type != "cuda":
        return None
    if reason := obstacle(recipe.training, accelerator):
        if accelerator.is_main_process:
            logger.warning("CUDA graphs are off: %s", reason)
        return None
    return GraphedGradients(module, objective, accelerator)


class ModelEMA:
    """The exponential moving average of the weights: average ← decay · average + (1 − decay) · weights.

    The decay starts lower, min(decay, (1 + step) / (10 + step)), so that the first weights are soon forgotten. This is
    the rule of TensorFlow's ExponentialMovingAverage. Each process averages its own part of sharded weights. Frozen
    weights have no average.

    Args:
        model: The model that learns. Averages start from its weights.
        decay: From 0 to 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        learning = (parameter for parameter in model.parameters() if parameter.requires_grad)
        self._weights = [local(parameter.detach()) for parameter in learning]
        self._averages = [weights.clone() for weights in self._weights]

    def update(self, step: int) -> None:
        """Include the weights after `step` completed steps."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the averages are the model's weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for weights, average in zip(self._weights, self._averages, strict=True):
            kept = weights.clone()
            weights.copy_(average)
            average.copy_(kept)


def _fill(parameter: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into the part of a parameter that this process holds."""
    local(parameter.detach()).copy_(local(placed_like(value, parameter)))


def _fits(value: Tensor, parameter: Tensor | None) -> bool:
    """Whether a saved tensor belongs to a parameter: of its shape, or a number such as Adam's step count."""
    return parameter is not None and (not value.ndim or value.shape == parameter.shape)
