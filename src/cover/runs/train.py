"""From a recipe to a run: the one place that builds every stage of training and connects them.

Whoever wants to know how the parts fit together reads `train`. What is done with a finished run is in trained.py.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration
from rich.console import Console
from torch import Tensor

from cover.config.recipe import Recipe
from cover.core.atomic_files import write_whole, writing
from cover.core.run_files import BEST, RunFiles
from cover.datasets.manifest import Manifest, Moves
from cover.errors import DecodeError, RecipeError
from cover.evaluation.evaluate import count_correct
from cover.media.workers import workers_watched
from cover.mixture.mixture import Mixture
from cover.mixture.summary import mixture_rows, mixture_table, mixture_warnings
from cover.models.classifier import VideoClassifier
from cover.models.create import build
from cover.models.head_rows import HeadRows
from cover.models.loading import load_weights, report_table
from cover.models.sources import Source, open_source
from cover.models.weights import load_exactly, read_config, read_tensors
from cover.probing.heads import HeadEngine, feature_batches, feature_validator
from cover.runs.folder import RunFolder
from cover.runs.plan import (
    Manifests,
    check_policy,
    clip_multiply_adds,
    mixture_datasets,
    model_config,
    open_manifests,
    training_length,
    training_manifests,
)
from cover.runs.probe import frozen_features
from cover.runs.resume import changed_heads, recipe_changes, resumed_state, starting_point, with_rows
from cover.runs.trained import evaluation_reader, predictor
from cover.training.checkpoint import TrainingState, read_training
from cover.training.engine import Engine
from cover.training.launch import prepare_environment, processes_connected
from cover.training.memory import fewest_micro_batches
from cover.training.metrics import CONTINUE, TrainMetrics
from cover.training.parallel import from_main, place
from cover.training.run_lock import run_lock
from cover.training.throughput import Throughput, matmul_peak_flops
from cover.training.trainer import Trainer, Validate


def train(
    recipe: Recipe,
    run: Path,
    console: Console,
    *,
    resume: bool = False,
    allow_changed_data: bool = False,
    moves: Moves | None = None,
) -> signal.Signals | None:
    """Train a recipe into a run folder.

    Args:
        recipe: What to train.
        run: The folder, which is made.
        console: Where the mixture, the progress and warnings are printed.
        resume: Continue from the newest whole checkpoint in `run`, if there is one.
        allow_changed_data: Resume although manifests differ, with a new epoch of the mixture.
        moves: Old folder → new folder, for manifests and media that lie elsewhere than the recipe says.

    Returns:
        The signal that interrupted the training, after its state was saved; None at the end.

    Raises:
        CoverError: Before anything is written where it can be known then.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")  # or products on some CPUs depend on where in memory a matrix lies
    data = open_data(recipe, moves)
    folder = RunFolder(run, allow_changed_data=allow_changed_data)
    accelerator = start_accelerator(recipe, folder)
    with run_lock(folder, accelerator):
        return _train(recipe, folder, data, accelerator, console, resume)


class TrainingData(NamedTuple):
    """The manifests of a recipe by dataset: training samples, without those that data.exclude lists, and the splits as
    they are on disk."""

    training: dict[str, Manifest]
    splits: dict[str, dict[str, Manifest]]


def open_data(recipe: Recipe, moves: Moves | None = None) -> TrainingData:
    """Open and check the manifests of a recipe; test manifests need not exist. Raises ManifestError, RecipeError."""
    training = training_manifests(recipe, moves)
    check_policy(recipe, training)
    whole = open_manifests(recipe, "train", moves=moves) if recipe.data.exclude else training
    splits = {split: open_manifests(recipe, split, like=training, moves=moves) for split in ("val", "test")}
    return TrainingData(training, {"train": whole} | splits)


def _train(
    recipe: Recipe, folder: RunFolder, data: TrainingData, accelerator: Accelerator, console: Console, resume: bool
) -> signal.Signals | None:
    run, manifests, validation = folder.path, data.training, data.splits["val"]
    shown = console if accelerator.is_main_process else None
    checkpoint = from_main(lambda: starting_point(folder, resume, console), accelerator)
    if checkpoint:
        folder.check_manifests({split: data.splits[split] for split in ("val", "test")})
    digests = {name: manifest.digest for name, manifest in manifests.items()}
    state = TrainingState(optimizer=recipe.optimizer.name, digests=digests)
    tensors: dict[str, Tensor] = {}
    if checkpoint:
        saved, tensors = read_training(checkpoint)
        state = resumed_state(saved, state, folder.allow_changed_data)
    init = open_source(recipe.init) if recipe.init and not checkpoint else None
    model = create(recipe, manifests, init, shown)
    if checkpoint:
        rows = restore_model(model, checkpoint, shown)
        tensors = with_rows(tensors, rows, model.state_dict())
        if rows or not folder.has_same("val", validation):
            state.best_top1 = -1.0  # a score over other classes or samples says nothing about these
    steps_per_epoch, num_steps = training_length(recipe, manifests)
    if state.step >= num_steps:
        if shown:
            shown.print(f"{run} is trained already: {state.step} of {num_steps} steps", soft_wrap=True)
        return None
    mixture = create_mixture(recipe, manifests, state, num_steps, accelerator)
    is_probe = recipe.policy == "probe"
    place(model, recipe.training, accelerator)
    mixture.num_micro_batches = 1 if is_probe else micro_batches(recipe, model, mixture, accelerator)
    engine = HeadEngine(model, recipe, accelerator) if is_probe else Engine(model, recipe, accelerator)
    totals = TrainMetrics(list(recipe.datasets), accelerator)
    for part in (engine, totals):
        part.restore(tensors)
    if accelerator.scaler is not None and state.grad_scaler:
        accelerator.scaler.load_state_dict(state.grad_scaler)
    if shown:
        for change in recipe_changes(recipe, folder) if checkpoint else ():
            shown.print(f"note: continuing with {change}", soft_wrap=True, highlight=False, markup=False)
        if state.best_top1 < 0:  # then the checkpoint that was the best stands for the run no longer
            folder.pointer_file(BEST).unlink(missing_ok=True)
        folder.write(recipe, data.splits)
        describe_run(recipe, folder, mixture, num_steps, shown)
    with writing(run, CONTINUE):
        accelerator.init_trackers("cover", init_kwargs={"tensorboard": {"purge_step": state.step + 1}})
    with ExitStack() as stack:
        stack.enter_context(workers_watched(f"then continue from the last checkpoint of {run} with --resume"))
        stack.callback(show_unreadable, mixture, shown)
        if is_probe:
            features = frozen_features(recipe, model, manifests, validation, folder.features_folder, accelerator)
            if isinstance(features, signal.Signals):
                engine.close()
                return features
            batches, validate = feature_batches(mixture, features.training), feature_validator(features.validation)
        else:
            batches, validate = iter(mixture), validator(recipe, validation, accelerator)
        stopped = Trainer(
            recipe=recipe,
            run=folder,
            engine=engine,
            batches=stack.enter_context(closing(batches)),
            unreadable=mixture.unreadable,
            micro_batches=mixture.num_micro_batches,
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            epochs_per_step={name: rate / len(manifests[name]) for name, rate in mixture.schedule.expected.items()},
            validate=validate if validation else None,
            state=state,
            totals=totals,
            speed=speed_meter(recipe, model, mixture, accelerator),
            console=console,
        ).fit()
    accelerator.wait_for_everyone()  # until the last checkpoint is written
    engine.close()
    return stopped


def speed_meter(recipe: Recipe, model: VideoClassifier, mixture: Mixture, accelerator: Accelerator) -> Throughput:
    """What times this run, with the clips, frames and floating-point operations of its steps."""
    clips = mixture.schedule.expected
    num_frames = {name: reader.num_frames for name, reader in mixture.readers.items()}
    cost = clip_multiply_adds(model.config, num_frames)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return Throughput(
        accelerator.device,
        accelerator.num_processes,
        clips=sum(clips.values()),
        frames=sum(clips[name] * num_frames[name] for name in clips),
        # Two operations a multiply-add; a backward pass takes twice a forward pass. Heads alone are next to nothing.
        flops=0.0 if recipe.policy == "probe" else 2 * 3 * sum(clips[name] * cost[name] for name in clips),
        peak_flops=matmul_peak_flops(accelerator.device, half.get(recipe.training.precision, torch.float32)),
    )


def micro_batches(recipe: Recipe, model: VideoClassifier, mixture: Mixture, accelerator: Accelerator) -> int:
    """Into how many parts each process splits its share of a step. Raises RecipeError."""
    if recipe.training.micro_batches != "auto":
        return recipe.training.micro_batches
    return fewest_micro_batches(
        model,
        mixture.blank_batch,
        most=recipe.data.batch_size // accelerator.num_processes,
        # float32: the gradient; SGD keeps one number a weight, AdamW two; an average one more.
        bytes_per_weight=4 * ({"sgd": 2, "adamw": 3}[recipe.optimizer.name] + (recipe.training.ema_decay is not None)),
        accelerator=accelerator,
    )


def start_accelerator(recipe: Recipe, run: RunFiles | None) -> Accelerator:
    """Devices, processes and precision. A machine without CUDA computes in fp32 on the CPU, also across processes.

    run: where TensorBoard's events go; None where nothing is to be logged.

    Raises RecipeError for a tracker that is not installed, and when there are several processes and the recipe is for
    one; CoverError where the environment is that of no launch, or the processes do not find each other.
    """
    prepare_environment(recipe.training.precision)
    cuda = torch.cuda.is_available()
    precision = {"fp32": "no"}.get(recipe.training.precision, recipe.training.precision) if cuda else "no"
    trackers = ["tensorboard", *recipe.training.trackers]
    available = [str(name.value) for name in get_available_trackers()]
    if absent := [name for name in trackers if name not in available]:
        raise RecipeError(
            f"training.trackers names {absent[0]!r}, which is not installed; `pip install {absent[0]}`, or take one of "
            + ", ".join(available)
        )
    folders = ProjectConfiguration(str(run.path), logging_dir=str(run.events_folder)) if run else None
    with processes_connected():
        accelerator = Accelerator(
            cpu=not cuda, mixed_precision=precision, log_with=trackers if run else None, project_config=folders
        )
    if recipe.training.parallel == "none" and accelerator.num_processes > 1:
        raise RecipeError(
            f"training.parallel = 'none' is for one process, and {accelerator.num_processes} were started; "
            "start one, or set it to 'ddp' or 'fsdp'"
        )
    return accelerator


def create(recipe: Recipe, manifests: Manifests, init: Source | None, console: Console | None) -> VideoClassifier:
    """The model at the start of a run: from `init`, or fresh."""
    torch.manual_seed(recipe.seed)
    temporal_init = recipe.model.temporal_init
    model = build(model_config(recipe, manifests), temporal_init)
    if init:
        fresh_heads = recipe.fresh_heads or recipe.policy == "probe"
        report = load_weights(model, init, temporal_init=temporal_init, fresh_heads=fresh_heads)
        if console:
            lines = f"weights from {recipe.init}: {report}".splitlines()  # each by itself, or it would be one line
            console.print(*lines, report_table(report), sep="\n")
    return model


def restore_model(model: VideoClassifier, checkpoint: Path, console: Console | None) -> dict[str, HeadRows]:
    """Put the weights of a checkpoint into a fresh model. Returns the heads whose classes changed."""
    saved = read_config(checkpoint)
    rows = changed_heads(saved, model.config)
    load_exactly(model, with_rows(read_tensors(checkpoint), rows, model.state_dict()), checkpoint)
    model.normalise_as(saved)
    for name, found in rows.items():
        if console:
            console.print(f"head {name} has other classes than before; {found}", markup=False, highlight=False)
    return rows


def create_mixture(
    recipe: Recipe, manifests: Manifests, state: TrainingState, num_steps: int, accelerator: Accelerator
) -> Mixture:
    """This process's share of every batch from the present step to the last."""
    data = recipe.data
    return Mixture(
        mixture_datasets(recipe, manifests),
        batch_size=data.batch_size,
        image_size=recipe.model.image_size,
        short_side_px=data.short_side,
        seed=recipe.seed + state.mixture_start,
        start_step=state.step - state.mixture_start,
        num_steps=num_steps - state.step,
        num_workers=recipe.num_workers,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        num_micro_batches=1 if recipe.training.micro_batches == "auto" else recipe.training.micro_batches,
        repeats=recipe.augmentation.repeats,
        max_unreadable_share=data.max_unreadable_share,
        pin_memory=accelerator.device.type == "cuda",
    )


def describe_run(recipe: Recipe, run: RunFiles, mixture: Mixture, num_steps: int, console: Console) -> None:
    """Write the mixture into the run folder, and print it."""
    rows = mixture_rows(mixture, reduction=recipe.training.reduction)
    write_whole(run.mixture_file, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    console.print(mixture_table(rows))
    for warning in mixture_warnings(rows, num_steps):
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False)


def show_unreadable(mixture: Mixture, console: Console | None) -> None:
    """Print what was found unreadable, by reason, if anything was."""
    if console and any(mixture.unreadable.reasons.values()):
        console.print(mixture.unreadable.table())


def validator(recipe: Recipe, manifests: Manifests, accelerator: Accelerator) -> Validate:
    """A function that scores a model on the validation splits in normal frame order, each process every n-th sample.

    Where the recipe keeps frames, each process decodes all of them now. The function raises DecodeError when no sample
    of a split can be decoded.
    """
    section = recipe.evaluation
    readers = {
        name: evaluation_reader(recipe, manifest, name, num_clips=section.num_clips)
        for name, manifest in manifests.items()
    }

    def validate(model: VideoClassifier) -> dict[str, dict[str, float]]:
        predict = predictor(model, accelerator.device, accelerator.autocast)
        counts = [
            count_correct(
                predict,
                reader,
                name=name,
                num_clips=section.num_clips,
                num_crops=section.num_crops,
                batch_size=section.batch_size,
                num_workers=recipe.num_workers,
                rows=range(accelerator.process_index, len(reader.manifest), accelerator.num_processes),
            )
            for name, reader in readers.items()
        ]
        sums = accelerator.reduce(torch.tensor(counts, device=accelerator.device), reduction="sum")
        for name, (_, total) in zip(manifests, sums.tolist(), strict=True):
            if not total:
                raise DecodeError(f"no validation sample of {name} can be decoded; `cover check` its manifest")
        return {name: {"top1": right / total} for name, (right, total) in zip(manifests, sums.tolist(), strict=True)}

    return validate
