"""Training of heads on frozen features: the mixture, loss, optimizer and schedule of any run, without a backbone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from cover.clip import UNREADABLE
from cover.mixture.mixture import Mixture
from cover.models.timesformer import TimeSformer
from cover.probing.features import Features
from cover.progress import progress_bar
from cover.recipe import Recipe
from cover.training.checkpoint import TrainingState, prune, save_checkpoint
from cover.training.metrics import MetricsFile, flatten
from cover.training.optimizer import learning_rate
from cover.training.signals import StopSignal


@dataclass
class HeadTrainer:
    """Trains a model's heads on features and keeps the run folder up to date, as Trainer does.

    optimizer: of the heads' parameters. mixture: its schedule says what each step holds; it decodes nothing. training,
    validation: features of each dataset. Every process does the same work, which is little; the main one writes.
    """

    recipe: Recipe
    run: Path
    accelerator: Accelerator
    model: TimeSformer
    optimizer: torch.optim.Optimizer
    mixture: Mixture
    training: Mapping[str, Features]
    validation: Mapping[str, Features]
    num_steps: int
    steps_per_epoch: float
    state: TrainingState
    console: Console
    _sums: dict[str, Tensor] = field(default_factory=dict, init=False)

    def fit(self) -> bool:
        """Train to the last step and save. Returns False when a signal ended the run early."""
        is_main = self.accelerator.is_main_process
        if is_main:
            self.metrics = MetricsFile(self.run / "metrics.jsonl", self.state.step)
        started = time.perf_counter() - self.state.seconds
        with StopSignal() as stop, progress_bar("steps", self.console, visible=is_main) as progress:
            bar = progress.add_task("training heads", total=self.num_steps, completed=self.state.step)
            while self.state.step < self.num_steps and not stop.requested:
                self._step()
                self.state.step += 1
                self.state.seconds = time.perf_counter() - started
                progress.update(bar, completed=self.state.step)
                for values in self._due_lines() if is_main else []:
                    self.metrics.write(values)
                    self.accelerator.log(flatten(values), step=self.state.step)
        if is_main:
            save_checkpoint(self.run, self.model, self.optimizer, self.state)
            prune(self.run)
        return self.state.step == self.num_steps

    def _step(self) -> None:
        """One step of the optimizer: Σ_i w_i · mean cross-entropy of dataset i (paper §3.3.2), as in training.loss."""
        schedule = self.mixture.schedule
        samples = schedule.samples(self.state.step - self.state.mixture_start)
        counts = schedule.counts(samples)
        pooled = sum(counts.values())
        total = torch.zeros((), device=self.accelerator.device)
        for name, features in self.training.items():
            rows = [sample.index for sample in samples if sample.dataset == name]
            labels = features.labels_N[rows]
            logits = self.model.heads[name](features.features_ND[rows])
            loss = F.cross_entropy(logits, labels, ignore_index=UNREADABLE, reduction="sum")
            divisor = counts[name] if self.recipe.training.reduction == "dataset_mean" else pooled
            total = total + self.recipe.datasets[name].loss_weight * loss / divisor
            self._count(name, loss, logits, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe.optimizer, self._epoch, self.recipe.training.epochs)
        self.optimizer.zero_grad()
        total.backward()
        if limit := self.recipe.optimizer.clip_gradient_norm:
            torch.nn.utils.clip_grad_norm_(self.model.heads.parameters(), limit)
        self.optimizer.step()

    def _count(self, name: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        readable = (labels != UNREADABLE).sum()
        counted = torch.stack([loss.detach(), (logits.argmax(-1) == labels).sum(), readable, len(labels) - readable])
        self._sums[name] = self._sums.get(name, torch.zeros(4, device=counted.device)) + counted

    @property
    def _epoch(self) -> float:
        return self.state.step / self.steps_per_epoch

    def _due_lines(self) -> list[dict[str, object]]:
        """The lines of metrics that belong to this step: of training, of validation."""
        log_every, every = self.recipe.training.log_every, self.recipe.training.evaluate_every_epochs
        last, position = self.state.step == self.num_steps, {"step": self.state.step, "epoch": round(self._epoch, 4)}
        before = (self.state.step - 1) / self.steps_per_epoch
        crossed = int(self._epoch / every + 1e-9) > int(before / every + 1e-9)
        lines: list[dict[str, object]] = []
        if last or self.state.step % log_every == 0:
            rate = {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": round(self.state.seconds, 2)}
            lines.append(position | rate | {"datasets": self._means()})
        if self.validation and (last or crossed):
            lines.append(position | {"val": {name: {"top1": self._top1(name)} for name in self.validation}})
        return lines

    def _means(self) -> dict[str, dict[str, float]]:
        rows: dict[str, dict[str, float]] = {}
        for name, (loss, correct, clips, unreadable) in ((name, sums.tolist()) for name, sums in self._sums.items()):
            rows[name] = {"clips": int(clips), "unreadable": int(unreadable)}
            if clips:
                rows[name] |= {"loss": loss / clips, "top1": correct / clips}
        self._sums.clear()
        return rows

    @torch.no_grad()
    def _top1(self, name: str) -> float:
        features = self.validation[name]
        readable = features.labels_N != UNREADABLE
        answers = self.model.heads[name](features.features_ND[readable]).argmax(-1)
        return float((answers == features.labels_N[readable]).float().mean())
