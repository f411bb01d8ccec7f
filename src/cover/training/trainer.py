"""The training loop: fetch, forward, loss, backward, step, log, evaluate, save."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object
from rich.console import Console

from cover.config.recipe import Recipe
from cover.core.atomic_files import writing
from cover.core.progress import progress_bar
from cover.core.run_files import RunFiles
from cover.core.signals import StopSignal
from cover.mixture.mixture import Mixture
from cover.training.checkpoint import CheckpointWriter, TrainingState
from cover.training.dataset_gradients import Measurement
from cover.training.engine import Engine
from cover.training.guards import LossSpikeMonitor, NonFiniteGuard
from cover.training.metrics import CONTINUE, MetricsFile, TrainMetrics, flat_numbers
from cover.training.optimizer import learning_rate
from cover.training.packed_batch import PackedBatch
from cover.training.parallel import any_rank_stopped
from cover.training.scores import best_score, shown_scores
from cover.training.throughput import Throughput


@dataclass
class Trainer:
    """Trains a model on the micro-batches of a mixture, and writes metrics and checkpoints.

    Args:
        recipe: Schedule, and when to log, validate and save.
        run: Where metrics and checkpoints go.
        engine: Takes the steps, by an objective.
        mixture: What the steps are made of.
        batches: `Objective.batches` of the mixture, from step state.step on.
        num_steps: Length of the run.
        steps_per_epoch: May be fractional.
        state: The position of the run; it is updated.
        totals: Sums for the next line of metrics.
        speed: Times the parts of steps.
        console: For the progress, validation and warnings.
    """

    recipe: Recipe
    run: RunFiles
    engine: Engine
    mixture: Mixture
    batches: Iterator[PackedBatch]
    num_steps: int
    steps_per_epoch: float
    state: TrainingState
    totals: TrainMetrics
    speed: Throughput
    console: Console

    def __post_init__(self) -> None:
        self.accelerator = self.engine.accelerator
        self.is_main = self.accelerator.is_main_process
        self._progress = progress_bar("steps", self.console, visible=self.is_main)
        self._saved_step = self.state.step
        self._measured = False
        self._finite = NonFiniteGuard(self.accelerator)
        # Losses of datasets that take turns cannot be compared with each other.
        takes_turns = self.recipe.data.batches == "one_dataset"
        watched = {name: f"the loss of {name}" for name in self.recipe.datasets} if takes_turns else {"": "the loss"}
        self._losses = {name: LossSpikeMonitor(self.state.step, what) for name, what in watched.items()}
        if self.is_main:
            self.metrics = MetricsFile(self.run.metrics_file, self.state.step)
            self.checkpoints = CheckpointWriter(self.run, self.recipe.training.keep_checkpoints)

    def fit(self) -> signal.Signals | None:
        """Train to the last step.

        Returns:
            The signal that interrupted the run, after its state was saved; None at the end.

        Raises:
            CheckpointError: A checkpoint cannot be written.
            TrainingError: Losses or gradients are not finite.
        """
        self._counted_at = time.perf_counter()
        with ExitStack() as stack:
            if self.is_main:
                stack.callback(self.checkpoints.wait)
            stop, progress = stack.enter_context(StopSignal()), stack.enter_context(self._progress)
            bar = progress.add_task("training", total=self.num_steps, completed=self.state.step)
            stopped = None
            while not self._is_over and stopped is None:
                gradient_norm = self.train_step()
                self.state.step += 1
                progress.update(bar, completed=self.state.step)
                if is_logged := self._due(self.recipe.training.log_every):
                    progress.update(bar, description=self._log(gradient_norm))
                if self._due_validation():
                    is_best = self._evaluate()
                    if self._is_over and not is_logged:  # it has ended the run early
                        self._log(gradient_norm)
                    self._save(best=is_best)
                elif self._due(self.recipe.training.save_every):
                    self._save()
                stopped = any_rank_stopped(stop.requested, self.accelerator)
            if self._saved_step < self.state.step:
                self._save()
            if self._is_over and self.state.step < self.num_steps and self.is_main:
                number, best = self.state.num_without_better, self.recipe.training.best.phrase
                self.console.print(f"ended early: no better {best} in {number} validations")
        return stopped

    def train_step(self) -> torch.Tensor:
        """Take one optimizer step on this process's micro-batches. Returns the norm of the gradients."""
        num_micro_batches = self.mixture.num_micro_batches
        every = self.recipe.training.measure_gradients_every
        measure = every is not None and (self.state.step + 1) % every == 0
        for number in range(1, num_micro_batches + 1):
            with self.speed.part("data"):
                batch = next(self.batches)
            with self.speed.part("forward_backward", on_device=True):
                output = self.engine.backward(batch, last=number == num_micro_batches, measure=measure)
            self.totals.add(output)
            self._finite.add(batch, output)
        self.totals.end_step()
        with self.speed.part("optimizer", on_device=True):
            gradient_norm = self.engine.step(self._learning_rate(), self.state.step, measure=measure)
        if measure and self.engine.measurement:
            self._write_gradients(self.engine.measurement)
        self.speed.end_step()
        self._finite.end_step(self.state.step + 1, gradient_norm)
        return gradient_norm

    def _write_gradients(self, measurement: Measurement) -> None:
        step = self.state.step + 1
        epoch = round(step / self.steps_per_epoch, 4)
        self._write({"step": step, "epoch": epoch, "gradients": measurement.metrics()}, step)
        if self.is_main and not self._measured:
            self.console.print(
                f"each dataset's gradient took {measurement.seconds:.3g} s at step {step}, and is measured every "
                f"{self.recipe.training.measure_gradients_every} steps",
                soft_wrap=True,
            )
        self._measured = True

    def _learning_rate(self) -> float:
        rate = learning_rate(
            self.recipe.optimizer,
            self._epoch_steps(self.state.step),
            steps_per_epoch=self.steps_per_epoch,
            num_epochs=self.recipe.training.epochs,
        )
        only = self.mixture.schedule.dataset_of(self.state.step - self.state.mixture_start)
        return rate if only is None else rate * self.recipe.datasets[only].learning_rate_factor

    @property
    def _is_over(self) -> bool:
        return self.state.is_over(self.num_steps, self.recipe.training.early_stopping)

    @property
    def _epoch(self) -> float:
        return self._epoch_steps(self.state.step) / self.steps_per_epoch

    def _epoch_steps(self, step: int) -> float:
        """Return how many steps the epochs before a step would have with the present number of steps an epoch."""
        return step + self.state.epoch_offset * self.steps_per_epoch

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.num_steps

    def _due_validation(self) -> bool:
        every = self.recipe.training.evaluate_every_epochs
        before = self._epoch_steps(self.state.step - 1) / self.steps_per_epoch
        crossed = int(self._epoch / every + 1e-9) > int(before / every + 1e-9)
        return crossed or self.state.step == self.num_steps

    def _log(self, gradient_norm: torch.Tensor) -> str:
        """Write a line of metrics. Returns a short version for the progress bar."""
        self._finite.check()
        self._count_seconds()
        loss, datasets = self.totals.take()
        for name, reasons in self.mixture.unreadable.share(gather_object).items():
            datasets[name]["unreadable_reasons"] = reasons
        schedule = self.mixture.schedule
        for name, row in datasets.items():
            owner = self.recipe.clips_of(name)
            row["epochs"] = round(
                self._epoch_steps(self.state.step) * (schedule.expected[owner] / schedule.sizes[owner]), 4
            )
        values = {
            "step": self.state.step,
            "epoch": round(self._epoch, 4),
            "seconds": round(self.state.seconds, 2),
            **self.speed.take(),
            **self.engine.graph_metrics(),
            "learning_rate": self.engine.optimizer.param_groups[0]["lr"],
            "gradient_norm": float(gradient_norm),
            "loss": loss,
            "datasets": datasets,
        }
        self._write(values)
        losses = {"": loss} | {name: row["loss"] for name, row in datasets.items() if row["clips"]}
        for name in losses.keys() & self._losses.keys() if self.is_main else ():
            self._losses[name].see(self.state.step, losses[name], values["learning_rate"])
        tops = " ".join(f"{name} {100 * row['top1']:.0f}" for name, row in datasets.items() if row["clips"])
        return f"loss {loss:.2f} · top-1 % {tops}"[:60]

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self._counted_at
        self._counted_at = now

    def _write(self, values: dict[str, object], step: int | None = None) -> None:
        if self.is_main:
            self.metrics.write(values)
            with writing(self.run.path, CONTINUE):
                self.accelerator.log(flat_numbers(values), step=self.state.step if step is None else step)

    def _evaluate(self) -> bool:
        """Validate. Returns whether no earlier validation was better."""
        validate = self.engine.objective.validate
        if validate is None:
            return False
        with self.speed.part("validation"), self.engine.evaluating() as model:
            scores = validate(model)
        self._write({"step": self.state.step, "epoch": round(self._epoch, 4), "val": scores})
        section = self.recipe.training.best
        score, before = best_score(scores, section), self.state.best_score
        is_best = score >= (-math.inf if before is None else before)
        if is_best:
            self.state.best_score = score
        self.state.num_without_better = 0 if before is None or score > before else self.state.num_without_better + 1
        if self.is_main:
            self.console.print(f"epoch {self._epoch:.1f} · validation {shown_scores(scores, section.measure)}")
        return is_best

    def _save(self, best: bool = False) -> None:
        """Copy what a checkpoint keeps to the host. It is written while training continues."""
        self._finite.check()
        self._count_seconds()
        self._saved_step = self.state.step
        with self.speed.part("saving"):
            weights = self.engine.weights()
            training = self.engine.training_tensors() | self.totals.tensors()
        if self.is_main:
            if self.accelerator.scaler is not None:
                self.state.grad_scaler = self.accelerator.scaler.state_dict()
            self.checkpoints.save(self.engine.model.config, weights, training, self.state, best=best)
