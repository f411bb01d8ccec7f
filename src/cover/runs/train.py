"""From a plan to a trained run: the one place that builds every stage of training and connects them.

Read `train` to see how the parts fit together. What is done with a finished run is in trained.py.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from cover.config.recipe import Recipe
from cover.core.atomic_files import write_whole, writing
from cover.core.run_files import BEST, RunFiles
from cover.errors import CheckpointError
from cover.media.workers import workers_watched
from cover.mixture.mixture import Mixture
from cover.mixture.summary import mixture_table
from cover.models.classifier import VideoClassifier
from cover.models.create import build
from cover.models.kernels.backend import HALF_TYPES
from cover.models.sources import open_source
from cover.runs.folder import RunFolder
from cover.runs.plan import Plan, in_order_of, load_init
from cover.runs.resume import Start, check_adapters, rate_jump, recipe_changes, resumed, starting_point
from cover.training.checkpoint import TrainingState
from cover.training.engine import Engine
from cover.training.launch import start_accelerator
from cover.training.metrics import CONTINUE, TrainMetrics
from cover.training.parallel import from_main, to_device
from cover.training.run_lock import run_lock
from cover.training.scores import shown_scores
from cover.training.throughput import Throughput, matmul_peak_flops
from cover.training.trainer import Trainer


def train(
    planned: Plan, run: Path, console: Console, *, resume: bool = False, allow_changed_data: bool = False
) -> signal.Signals | None:
    """Train a plan into a run folder.

    Args:
        planned: What to train.
        run: The folder, which is made.
        console: Where the mixture, the progress and warnings are printed.
        resume: Continue from the newest whole checkpoint in `run`, if there is one.
        allow_changed_data: Resume although manifests differ, with a new epoch of the mixture.

    Returns:
        The signal that interrupted the training, after its state was saved; None at the end.

    Raises:
        CoverError: Before anything is written, if it can be known then.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")  # or products on some CPUs depend on where in memory a matrix lies
    folder = RunFolder(run, allow_changed_data=allow_changed_data)
    if resume:
        planned = in_order_of(folder, planned)
    accelerator = start_accelerator(planned.recipe, folder)
    with run_lock(folder, accelerator):
        start = begin(planned, folder, resume, accelerator, console)
        planned = planned.continued(start.state)
        if start.state.is_over(planned.num_steps, patience := planned.recipe.training.early_stopping):
            if accelerator.is_main_process:
                steps = f"{start.state.step} of {planned.num_steps} steps"
                early = f", ended early by training.early_stopping = {patience}; raise it to continue"
                is_early = start.state.step < planned.num_steps
                console.print(f"{run} is trained already: {steps}{early if is_early else ''}", soft_wrap=True)
            return None
        mixture = planned.mixture(start.state, accelerator)
        engine, totals = build_engine(planned, start, mixture, accelerator)
        if accelerator.is_main_process:
            write_beginning(planned, folder, start, console)
        with writing(run, CONTINUE):
            accelerator.init_trackers("cover", init_kwargs={"tensorboard": {"purge_step": start.state.step + 1}})
        stopped = fit(planned, folder, mixture, engine, totals, start.state, console)
        accelerator.wait_for_everyone()  # until the last checkpoint is written
        engine.close()
        return stopped


def begin(planned: Plan, folder: RunFolder, resume: bool, accelerator: Accelerator, console: Console) -> Start:
    """The model and the state that training starts with: those of a checkpoint, or fresh ones.

    Raises:
        CheckpointError: The run cannot be continued, or the weights cannot be loaded.
    """
    shown = console if accelerator.is_main_process else None
    checkpoint = from_main(lambda: starting_point(folder, resume, console), accelerator)
    digests = {name: manifest.digest for name, manifest in planned.data.training.items()}
    recipe = planned.recipe
    state = TrainingState(
        optimizer=recipe.optimizer.name,
        batch_size=recipe.data.batch_size,
        steps_per_epoch=planned.steps_per_epoch,
        digests=digests,
        best_by=str(recipe.training.best),
    )
    if checkpoint:
        check_adapters(folder.read_recipe(), recipe)
        start = resumed(checkpoint, state, planned.data, folder, lambda: create(planned), shown)
        if recipe.optimizer.fresh_at_full_rate and start.state.fresh is None:
            raise CheckpointError(
                f"optimizer.fresh_at_full_rate: {checkpoint} does not say what its init had; leave the key out, or "
                "start a new run"
            )
        return start
    init = open_source(recipe.init) if recipe.init else None
    model = create(planned)
    if init:
        state.fresh = load_init(planned, model, init, shown).not_in_source
    return Start(model, state)


def create(planned: Plan) -> VideoClassifier:
    """The model of a plan with fresh weights."""
    torch.manual_seed(planned.recipe.seed)
    return build(planned.config, planned.recipe.model.temporal_init)


def build_engine(
    planned: Plan, start: Start, mixture: Mixture, accelerator: Accelerator
) -> tuple[Engine, TrainMetrics]:
    """Put the model on its device, spread it over processes, and restore what a checkpoint says.

    Sets the number of micro-batches of the mixture. Raises RecipeError if not even one clip fits into memory.
    """
    recipe, objective, state = planned.recipe, planned.objective, start.state
    to_device(start.model, recipe.training, accelerator)
    mixture.num_micro_batches = objective.num_micro_batches(start.model, mixture, accelerator)
    engine = Engine(start.model, objective, recipe, accelerator, state.fresh or ())
    totals = TrainMetrics(list(recipe.datasets), accelerator)
    for part in (engine, totals):
        part.restore(start.tensors)
    if accelerator.scaler is not None and state.grad_scaler:
        accelerator.scaler.load_state_dict(state.grad_scaler)
    return engine, totals


def write_beginning(planned: Plan, folder: RunFolder, start: Start, console: Console) -> None:
    """Write what the run is about into its folder, and print it with what differs from before."""
    for line in changes(planned, folder.read_recipe(), start.state) if start.is_resumed else ():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if start.state.best_score is None:  # then the checkpoint that was the best stands for the run no longer
        folder.pointer_file(BEST).unlink(missing_ok=True)
    folder.write(planned.recipe, planned.data.splits)
    write_whole(folder.mixture_file, json.dumps([asdict(row) for row in planned.rows], indent=2) + "\n")
    console.print(mixture_table(planned.rows))
    for warning in planned.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False)


def changes(planned: Plan, before: Recipe, state: TrainingState) -> list[str]:
    """Say what a resumed run does otherwise than before, a line each."""
    lines = [f"note: continuing with {change}" for change in recipe_changes(before, planned.recipe)]
    if state.epoch_offset:
        epoch, left = state.step / state.steps_per_epoch + state.epoch_offset, planned.num_steps - state.step
        lines.append(
            f"note: an epoch has {state.steps_per_epoch:.4g} steps now; the run continues at epoch {epoch:.4g} of "
            f"{planned.recipe.training.epochs:g}, with {left:,} steps left"
        )
    if jump := rate_jump(before, planned.recipe, state):
        lines.append(f"warning: {jump}")
    return lines


def fit(
    planned: Plan,
    folder: RunFolder,
    mixture: Mixture,
    engine: Engine,
    totals: TrainMetrics,
    state: TrainingState,
    console: Console,
) -> signal.Signals | None:
    """Train to the last step. Returns the signal that ended it early, after its state was saved."""
    objective, accelerator = planned.objective, engine.accelerator
    with ExitStack() as stack:
        stack.enter_context(workers_watched(f"then continue from the last checkpoint of {folder.path} with --resume"))
        if accelerator.is_main_process:
            stack.callback(show_unreadable, mixture, console)
        if stopped := objective.prepare(engine.model, folder, accelerator):
            return stopped
        return Trainer(
            recipe=planned.recipe,
            run=folder,
            engine=engine,
            mixture=mixture,
            batches=stack.enter_context(closing(objective.batches(mixture, accelerator.device))),
            num_steps=planned.num_steps,
            steps_per_epoch=planned.steps_per_epoch,
            state=state,
            totals=totals,
            speed=throughput(planned, accelerator),
            console=console,
        ).fit()


def throughput(planned: Plan, accelerator: Accelerator) -> Throughput:
    """What times this run."""
    dtype = HALF_TYPES.get(planned.recipe.training.precision, torch.float32)
    return Throughput(
        accelerator.device,
        accelerator.num_processes,
        clips=sum(row.clips_per_batch for row in planned.rows),
        frames=sum(row.clips_per_batch * row.num_frames for row in planned.rows),
        flops=planned.step_flops,
        peak_flops=matmul_peak_flops(accelerator.device, dtype),
    )


def show_unreadable(mixture: Mixture, console: Console) -> None:
    """Print what was found unreadable, by reason, if anything was."""
    if any(mixture.unreadable.reasons.values()):
        console.print(mixture.unreadable.table())


def best_line(run: RunFiles) -> str:
    """Name the best checkpoint of a finished run, and the validation that chose it."""
    best = run.pointer_file(BEST)
    if not best.exists():
        return "no dataset has a val split, so commands use the latest checkpoint"
    name, section = best.read_text().strip(), RunFolder(run.path).read_recipe().training.best
    lines = map(json.loads, run.metrics_file.read_text().splitlines())
    scores = [line["val"] for line in lines if "val" in line and run.checkpoint(line["step"]).name == name]
    return f"best: {name}" + (f", validation {shown_scores(scores[-1], section.measure)}" if scores else "")
