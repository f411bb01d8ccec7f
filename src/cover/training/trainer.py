"""The training loop: fetch, forward, loss, backward, step, log, save, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from cover.clip import MixedBatch
from cover.models.timesformer import TimeSformer
from cover.models.weights import BEST
from cover.progress import progress_bar
from cover.recipe import Recipe
from cover.training.checkpoint import TrainingState, point, prune, save_checkpoint
from cover.training.loss import dataset_losses, weighted_sum
from cover.training.metrics import DatasetTotals, MetricsFile, flatten
from cover.training.optimizer import learning_rate, set_learning_rate
from cover.training.signals import StopSignal

Validate = Callable[[TimeSformer], dict[str, dict[str, float]]]
"""Evaluates the model on the validation splits: {dataset: {"top1": share, …}}."""


@dataclass
class Trainer:
    """Trains a model on the micro-batches of a mixture and keeps the run folder up to date.

    model: as created; `wrapped` is the same one prepared by accelerate. batches: yields recipe.training.micro_batches
    MixedBatches a step, from step state.step on. steps_per_epoch: may be fractional. validate: called every
    recipe.training.evaluate_every_epochs and at the end; None where there are no validation splits.
    """

    recipe: Recipe
    run: Path
    accelerator: Accelerator
    model: TimeSformer
    wrapped: torch.nn.Module
    optimizer: torch.optim.Optimizer
    batches: Iterator[MixedBatch]
    num_steps: int
    steps_per_epoch: float
    validate: Validate | None
    state: TrainingState
    console: Console
    _waited_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._progress = progress_bar("steps", self.console, visible=self.accelerator.is_main_process)
        self.totals = DatasetTotals(list(self.recipe.datasets), self.accelerator.device)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        self.weights = {name: dataset.loss_weight for name, dataset in self.recipe.datasets.items()}
        self.is_main = self.accelerator.is_main_process
        if self.is_main:
            self.metrics = MetricsFile(self.run / "metrics.jsonl", self.state.step)

    def fit(self) -> bool:
        """Train to the last step. Returns False when a signal ended the run early, after saving it."""
        self._logged_at, self._logged_step = time.perf_counter(), self.state.step
        self._counted_at = self._logged_at
        with StopSignal() as stop, self._progress as progress:
            bar = progress.add_task("training", total=self.num_steps, completed=self.state.step)
            stopped = False
            while self.state.step < self.num_steps and not stopped:
                gradient_norm = self.train_step()
                self.state.step += 1
                progress.update(bar, completed=self.state.step)
                if self._due(self.recipe.training.log_every):
                    progress.update(bar, description=self._log(gradient_norm))
                if self._due_validation():
                    self._evaluate()
                elif self._due(self.recipe.training.save_every):
                    self._save()
                stopped = self._agreed(stop.requested is not None)
        if stopped:
            self._save()
        return not stopped

    def train_step(self) -> torch.Tensor | None:
        """One optimizer step over this process's micro-batches; returns the gradient's norm where it is clipped."""
        for last in [False] * (self.recipe.training.micro_batches - 1) + [True]:
            batch = self._fetch()
            if last:
                self._backward(batch)
            else:
                with self.accelerator.no_sync(self.wrapped):
                    self._backward(batch)
        set_learning_rate(self.optimizer, self._learning_rate())
        norm = None
        if limit := self.recipe.optimizer.clip_gradient_norm:
            norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def _fetch(self) -> MixedBatch:
        started = time.perf_counter()
        batch = next(self.batches)
        self._waited_seconds += time.perf_counter() - started
        return batch.to(self.accelerator.device)

    def _backward(self, batch: MixedBatch) -> None:
        logits = self.wrapped(batch)
        losses = dataset_losses(logits, batch, self.recipe.training.label_smoothing)
        total = weighted_sum(losses, batch, self.weights, self.recipe.training.reduction)
        # Processes average their gradients; the loss is a sum over all of them.
        self.accelerator.backward(total * self.accelerator.num_processes)
        self.totals.add(batch, logits, losses)
        self._loss_sum += total.detach().double()

    def _learning_rate(self) -> float:
        return learning_rate(
            self.recipe.optimizer,
            self.state.step,
            steps_per_epoch=self.steps_per_epoch,
            num_epochs=self.recipe.training.epochs,
        )

    @property
    def _epoch(self) -> float:
        return self.state.step / self.steps_per_epoch

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.num_steps

    def _due_validation(self) -> bool:
        every = self.recipe.training.evaluate_every_epochs
        crossed = int(self._epoch / every + 1e-9) > int((self.state.step - 1) / self.steps_per_epoch / every + 1e-9)
        return crossed or self.state.step == self.num_steps

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was asked to stop: all of them must leave the loop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop
        requests = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(requests, reduction="sum") > 0)

    def _log(self, gradient_norm: torch.Tensor | None) -> str:
        """Write one line of metrics and return it short enough for the progress bar."""
        now = time.perf_counter()
        seconds = now - self._logged_at
        self._count_seconds()
        num_steps = self.state.step - self._logged_step
        datasets = self.totals.means(self.accelerator)
        loss = float(self.accelerator.reduce(self._loss_sum, reduction="sum")) / num_steps
        self._loss_sum.zero_()
        values = {
            "step": self.state.step,
            "epoch": round(self._epoch, 4),
            "seconds": round(self.state.seconds, 2),
            "step_seconds": round(seconds / num_steps, 5),
            "clips_per_second": round(num_steps * self.recipe.data.batch_size / seconds, 2),
            "data_wait_share": round(self._waited_seconds / seconds, 4),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "loss": loss,
            "datasets": datasets,
        }
        if gradient_norm is not None:
            values["gradient_norm"] = float(gradient_norm)
        self._write(values)
        self._logged_at, self._logged_step, self._waited_seconds = now, self.state.step, 0.0
        tops = " ".join(f"{name} {100 * row['top1']:.0f}" for name, row in datasets.items() if row["clips"])
        return f"loss {loss:.2f} · top-1 % {tops}"[:60]

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self._counted_at
        self._counted_at = now

    def _write(self, values: dict[str, object]) -> None:
        if self.is_main:
            self.metrics.write(values)
            self.accelerator.log(flatten(values), step=self.state.step)

    def _evaluate(self) -> None:
        """Validate, save, and point `best` at the new checkpoint where it is the best so far."""
        improved = False
        if self.validate and self.is_main:
            scores = self.validate(self.model)
            self._write({"step": self.state.step, "epoch": round(self._epoch, 4), "val": scores})
            mean_top1 = sum(row["top1"] for row in scores.values()) / len(scores)
            improved = mean_top1 >= self.state.best_top1
            self.state.best_top1 = max(mean_top1, self.state.best_top1)
            shown = ", ".join(f"{name} {100 * row['top1']:.1f}" for name, row in scores.items())
            self.console.print(f"epoch {self._epoch:.1f} · validation top-1 %: {shown}")
        self._save(best=improved)

    def _save(self, best: bool = False) -> None:
        self._count_seconds()
        self.accelerator.wait_for_everyone()
        if self.is_main:
            if self.accelerator.scaler is not None:
                self.state.grad_scaler = self.accelerator.scaler.state_dict()
            name = save_checkpoint(self.run, self.model, self.optimizer, self.state)
            if best:
                point(self.run, BEST, name)
            prune(self.run)
        self.accelerator.wait_for_everyone()
