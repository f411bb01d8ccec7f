"""Which dataset owns the update: each dataset's gradient of the backbone by itself, measured and combined.

Clips do not influence each other, so the gradient of a step is the sum of those of its datasets. They are computed one
after another, each from the clips of one dataset, which takes about as long as computing their sum. How they are
combined depends on their inner products G alone: each rule gives one factor per dataset.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cover.config.recipe import Recipe
from cover.config.training_sections import OptimizerSection
from cover.models.classifier import HEADS, PROJECTIONS
from cover.training.gradients import flat_gradients
from cover.training.objective import Objective, StepOutput
from cover.training.packed_batch import PackedBatch

OWN = (HEADS, PROJECTIONS)
"""Weights that datasets do not share. (With projections, a head also learns from clips of other datasets.)"""


class DatasetGradients:
    """The gradient of the shared weights by dataset, which every call adds to.

    Args:
        module: What `objective` calls, not wrapped: processes sum their gradients here.
        objective: Computes the loss.
        recipe: Names the datasets, and says how their gradients are combined.
        accelerator: Precision and communication of the process.
        updates: Whether the optimizer takes the combined gradient. Then parameters get their `grad` here; do not
            replace it. Otherwise the gradients are only measured, and `grad` is left alone.
    """

    def __init__(
        self, module: nn.Module, objective: Objective, recipe: Recipe, accelerator: Accelerator, *, updates: bool
    ) -> None:
        self.module = module
        self.objective = objective
        self.recipe = recipe
        self.accelerator = accelerator
        self.updates = updates
        self.names = tuple(recipe.datasets)
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        self._shared = [parameter for name, parameter in named if not name.startswith(OWN)]
        self._heads = [parameter for name, parameter in named if name.startswith(OWN)] if updates else []
        device = accelerator.device
        self._summed = flat_gradients([*self._shared, *self._heads], device) if updates else None
        sizes = [parameter.numel() for parameter in self._shared]
        self._buffer = torch.zeros(len(self.names), sum(sizes), device=device)
        self._parts = self._buffer.split(sizes, dim=1)
        self._seconds = 0.0

    def add(self, batch: PackedBatch) -> StepOutput:
        """Add the gradients of a micro-batch."""
        started = self._now()
        present = [number for number in range(len(self.names)) if bool((batch.numbers == number).any())]
        finite = torch.ones_like(batch.labels, dtype=torch.bool)
        outputs = []
        for number in present:
            positions, part = batch.of_dataset(number)
            outputs.append(self._add(number, part))
            finite[positions] = outputs[-1].finite
        self._seconds += self._now() - started
        totals, sums = (torch.stack([output[field] for output in outputs]).sum(0) for field in (0, 1))
        return StepOutput(totals, sums, finite)

    def _add(self, number: int, batch: PackedBatch) -> StepOutput:
        with self.accelerator.autocast():
            output = self.objective.step(self.module, batch)
        scaler = self.accelerator.scaler
        total = output.total if scaler is None else scaler.scale(output.total)
        found = torch.autograd.grad(total, [*self._shared, *self._heads], allow_unused=True)
        own = [part[number].view_as(parameter) for part, parameter in zip(self._parts, self._shared, strict=True)]
        heads = [head.grad for head in self._heads if head.grad is not None]
        used = [(kept, new) for kept, new in zip([*own, *heads], found, strict=True) if new is not None]
        torch._foreach_add_([kept for kept, _ in used], [new for _, new in used])
        return output._replace(total=output.total.detach())

    @property
    def _scale(self) -> float:
        """The factor of the gradients: the loss scaling of fp16."""
        scaler = self.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())

    def sum_over_processes(self) -> None:
        """Replace the gradients by their sums over all processes, which each must call."""
        if self.accelerator.num_processes > 1:
            for gradients in (self._buffer, self._summed):
                if gradients is not None:
                    torch.distributed.all_reduce(gradients)

    def measure(self, step: int) -> Measurement:
        """Compare the gradients of all micro-batches of a step, after `sum_over_processes`.

        Args:
            step: Counted from 0; it seeds what is random.
        """
        products = torch.zeros(len(self.names), len(self.names), dtype=torch.float64)
        for part in self._parts:
            products = products.to(part.device) + (part @ part.T).double()
        products = products.cpu() / self._scale**2
        section = self.recipe.optimizer
        weights = [self.recipe.clips(name).loss_weight for name in self.recipe.datasets]
        generator = torch.Generator().manual_seed(self.recipe.seed + step)
        return Measurement(self.names, products, factors(products, section, weights, generator), self._seconds)

    def combine(self, step: int) -> Measurement:
        """Give the shared weights their combined gradient. Arguments and result as of `measure`."""
        measurement = self.measure(step)
        factors_D = measurement.factors_D.to(self._buffer)
        for part, parameter in zip(self._parts, self._shared, strict=True):
            assert parameter.grad is not None
            torch.mv(part.T, factors_D, out=parameter.grad.view(-1))
        return measurement

    def clear(self) -> None:
        """Set the gradients to zero."""
        self._buffer.zero_()
        self._seconds = 0.0
        if self._summed is not None:
            self._summed.zero_()

    def _now(self) -> float:
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize(self.accelerator.device)
        return time.perf_counter()


@dataclass(frozen=True)
class Measurement:
    """The gradients of a step.

    Attributes:
        names: The D datasets.
        products_DD: Float64, the inner products of their gradients.
        factors_D: Float64, what each gradient is multiplied by in the update.
        seconds: What computing them took.
    """

    names: tuple[str, ...]
    products_DD: Tensor
    factors_D: Tensor
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """For metrics.jsonl: of the datasets with clips in this step, norm, share of the update, and cosines.

        The share of a dataset is what its part contributes to the squared norm of their sum g, ⟨g_i, g⟩ / ⟨g, g⟩.
        Shares add up to 1; a dataset that the others work against may have a negative one.
        """
        norms = self.products_DD.diagonal().sqrt()
        present = [number for number in range(len(self.names)) if norms[number] > 0]
        owned = self.factors_D * (self.products_DD @ self.factors_D)
        cosines = self.products_DD / torch.outer(norms, norms)

        def by_name(values: Tensor, numbers: Sequence[int]) -> dict[str, float]:
            return {self.names[number]: float(f"{float(values[number]):.5g}") for number in numbers}

        return {
            "norm": by_name(norms, present),
            "share": by_name(owned / owned.sum(), present),
            "cosine": {
                self.names[first]: by_name(cosines[first], present[place:])
                for place, first in enumerate(present[:-1], start=1)
            },
            "seconds": round(self.seconds, 4),
        }


def factors(
    products_DD: Tensor, section: OptimizerSection, weights: Sequence[float], generator: torch.Generator
) -> Tensor:
    """What each dataset's gradient is multiplied by before they are summed.

    Args:
        products_DD: Float64, the inner products of the gradients.
        section: `clip_dataset_norm`, which is applied first, and `balance`.
        weights: loss_weight of each dataset.
        generator: The order of PCGrad's projections.

    Returns:
        Float64 [D].
    """
    norms = products_DD.diagonal().sqrt()
    clipping = torch.ones_like(norms)
    if section.clip_dataset_norm is not None:
        clipping = (section.clip_dataset_norm / norms).clamp(max=1.0)
        products_DD, norms = products_DD * torch.outer(clipping, clipping), norms * clipping
    if section.balance == "gradient_norm":
        return clipping * equal_norms(norms, torch.tensor(weights, dtype=torch.float64))
    return clipping * projected(products_DD, generator) if section.balance == "pcgrad" else clipping


def equal_norms(norms_D: Tensor, weights_D: Tensor) -> Tensor:
    """Factors that bring gradients to their mean norm, times the dataset's weight over the mean weight."""
    present = norms_D > 0
    target = norms_D[present].mean() * weights_D / weights_D[present].mean()
    return torch.where(present, target / norms_D, 1.0)


def projected(products_DD: Tensor, generator: torch.Generator) -> Tensor:
    """Factors of PCGrad: where two gradients conflict, each loses its part along the other one.

    Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020, Algorithm 1. A projected gradient is a sum of the
    original ones, so only its coefficients are computed.
    """
    number = len(products_DD)
    coefficients = torch.eye(number, dtype=torch.float64)
    for own in range(number):
        for other in torch.randperm(number, generator=generator).tolist():
            product = coefficients[own] @ products_DD[:, other]
            if other != own and product < 0:
                coefficients[own, other] -= product / products_DD[other, other]
    return coefficients.sum(0)
