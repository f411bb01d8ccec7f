"""One optimizer step, on any number of processes and micro-batches, and the tensors that a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cover.config.recipe import Recipe
from cover.errors import CheckpointError
from cover.models.classifier import VideoClassifier, saved_name
from cover.training.ema import ModelEMA
from cover.training.objective import Objective, StepOutput
from cover.training.optimizer import create_optimizer, set_learning_rate
from cover.training.parallel import full_tensor, gathered, local, on_host, placed_like, synchronise_gradients


class Engine:
    """A model that learns: its optimizer, the average of its weights, and how it is spread over processes.

    Args:
        model: Where parallel.to_device put it. It stays the one to evaluate (see `evaluating`).
        objective: Which of its weights learn, and by which loss.
        recipe: Optimizer and average.
        accelerator: Of this process.
    """

    def __init__(self, model: VideoClassifier, objective: Objective, recipe: Recipe, accelerator: Accelerator) -> None:
        self.model = model
        self.objective = objective
        self.recipe = recipe
        self.accelerator = accelerator
        self.wrapped = objective.parallelise(model, accelerator)
        self.optimizer = accelerator.prepare(create_optimizer(model, recipe.optimizer))
        decay = recipe.training.ema_decay
        self.average = None if decay is None else ModelEMA(model, decay)

    def backward(self, batch: Any, *, last: bool) -> StepOutput:
        """Add the gradients of a micro-batch.

        Args:
            batch: From `Objective.batches`.
            last: Whether it ends the step; then processes share their gradients.
        """
        synchronise_gradients(self.wrapped, last)
        with self.accelerator.autocast():
            output = self.objective.step(self.wrapped, batch)
        # Processes average their gradients; the loss is a sum over all of them.
        self.accelerator.backward(output.total * self.accelerator.num_processes)
        return output._replace(total=output.total.detach())

    def step(self, learning_rate: float, completed_steps: int) -> Tensor:
        """Change the weights and forget the gradients. Returns the norm that these had before they were clipped."""
        set_learning_rate(self.optimizer, learning_rate)
        if limit := self.recipe.optimizer.clip_gradient_norm:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), limit)
        else:
            self.accelerator.unscale_gradients()
            gradients = (parameter.grad for parameter in self.model.parameters())
            norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(completed_steps + 1)
        return full_tensor(norm)

    @contextmanager
    def evaluating(self) -> Iterator[VideoClassifier]:
        """The model as its users will have it: averaged weights where there are any, all of them on each process."""
        with self._averaged(), gathered(self.model):
            yield self.model.eval()
        self.model.train()

    def weights(self) -> dict[str, Tensor]:
        """The weights that a checkpoint offers to its users, copied to the host. To be called by every process."""
        with self._averaged():
            return {name: on_host(tensor) for name, tensor in self.model.state_dict().items()}

    def training_tensors(self) -> dict[str, Tensor]:
        """What else training needs to go on, copied to the host. To be called by every process.

        "optimizer/STATE/PARAMETER", and "weights/PARAMETER" where the users' weights are averages.
        """
        parameters = self._parameters()
        states = {
            f"optimizer/{kind}/{name}": value
            for name, parameter in parameters.items()
            for kind, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }
        raw = {f"weights/{name}": parameter for name, parameter in parameters.items()} if self.average else {}
        return {key: on_host(tensor) for key, tensor in chain(states.items(), raw.items())}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put `training_tensors` in place, whatever number of processes they came from."""
        parameters = self._parameters()
        for key, value in tensors.items():
            kind, *states, name = key.split("/")
            if kind in ("weights", "optimizer") and not _fits(value, parameters.get(name)):
                raise CheckpointError(
                    f"the checkpoint's {key} {list(value.shape)} fits no parameter of this model; resume with the "
                    "recipe that it was trained with"
                )
            if kind == "weights":
                local(parameters[name].detach()).copy_(local(placed_like(value, parameters[name])))
            elif kind == "optimizer":  # a number, such as Adam's count of steps, stays on the host
                placed = placed_like(value, parameters[name]) if value.ndim else value
                self.optimizer.state[parameters[name]][states[0]] = placed

    def close(self) -> None:
        """Close the trackers and part from the other processes."""
        # DDP goes first. Left over, it would be the one to end the process group, and on CPUs now and then wait for
        # ever: it holds the interpreter's lock and joins a thread of gloo that wants it (seen with torch 2.13).
        self.wrapped = self.model
        self.accelerator.end_training()

    def _parameters(self) -> dict[str, nn.Parameter]:
        """By the names that files have for them."""
        return {saved_name(name): parameter for name, parameter in self.model.named_parameters()}

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.in_place() if self.average else nullcontext()


def _fits(value: Tensor, parameter: Tensor | None) -> bool:
    """Whether a saved tensor is one of a parameter: of its shape, or a number such as Adam's count of steps."""
    return parameter is not None and (not value.ndim or value.shape == parameter.shape)
