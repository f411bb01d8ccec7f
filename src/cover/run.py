"""From a recipe to a run: the one place that builds every stage of training and connects them.

Whoever wants to know how the parts fit together reads `train`. What is done with a finished run is in trained.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from cover.errors import CheckpointError
from cover.mixture.mixture import Mixture
from cover.mixture.table import mixture_rows, mixture_table
from cover.models.create import build
from cover.models.loading import load_weights, report_table
from cover.models.sources import Source, open_source
from cover.models.timesformer import TimeSformer
from cover.models.weights import LATEST, find_checkpoint, load_exactly, normalise_as, read_config, read_tensors
from cover.plan import Manifests, check_policy, mixture_datasets, model_config, open_manifests, training_length
from cover.probe import FEATURES, frozen_features
from cover.probing.heads import HeadTrainer
from cover.recipe import Recipe
from cover.trained import evaluate_manifest, predictor
from cover.training.checkpoint import TrainingState, restore
from cover.training.optimizer import create_optimizer
from cover.training.trainer import Trainer, Validate


def train(
    recipe: Recipe, run: Path, console: Console, *, resume: bool = False, allow_changed_data: bool = False
) -> bool:
    """Train a recipe into a run folder. Returns False when a signal interrupted it; its state is saved then.

    resume: continue from the latest checkpoint in `run`, if there is one. allow_changed_data: resume although
    manifests differ, with a new epoch of the mixture. Raises CoverError, before anything is written where it can.
    """
    if not resume and (run / LATEST).exists():
        raise CheckpointError(f"{run} holds a run already; continue it with --resume or choose another --out")
    checkpoint = find_checkpoint(run, LATEST) if (run / LATEST).exists() else None
    init = open_source(recipe.init) if recipe.init and not checkpoint else None
    manifests = open_manifests(recipe, "train")
    check_policy(recipe, manifests)
    validation = open_manifests(recipe, "val", like=manifests)
    accelerator = start_accelerator(recipe, run)
    model = create(recipe, manifests, checkpoint, init, console if accelerator.is_main_process else None)
    if recipe.policy == "probe":
        optimizer = create_optimizer(model.to(accelerator.device).heads, recipe.optimizer)
    else:
        wrapped, optimizer = accelerator.prepare(model, create_optimizer(model, recipe.optimizer))
    digests = {name: manifest.digest for name, manifest in manifests.items()}
    state = TrainingState(optimizer=recipe.optimizer.name, digests=digests)
    if checkpoint:
        state = resumed_state(restore(checkpoint, model, optimizer), state, allow_changed_data)
        if accelerator.scaler is not None and state.grad_scaler:
            accelerator.scaler.load_state_dict(state.grad_scaler)
    steps_per_epoch, num_steps = training_length(recipe, manifests)
    if state.step >= num_steps:
        if accelerator.is_main_process:
            console.print(f"{run} is trained already: {state.step} of {num_steps} steps", soft_wrap=True)
        return True
    mixture = create_mixture(recipe, manifests, state, num_steps, accelerator)
    if accelerator.is_main_process:
        describe_run(recipe, run, mixture, console)
    accelerator.init_trackers("tensorboard")
    trainer: Trainer | HeadTrainer
    if recipe.policy == "probe":
        training_features, validation_features = frozen_features(
            recipe, model, manifests, validation, run.parent / FEATURES, accelerator
        )
        trainer = HeadTrainer(
            recipe=recipe,
            run=run,
            accelerator=accelerator,
            model=model,
            optimizer=optimizer,
            mixture=mixture,
            training=training_features,
            validation=validation_features,
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            state=state,
            console=console,
        )
    else:
        trainer = Trainer(
            recipe=recipe,
            run=run,
            accelerator=accelerator,
            model=model,
            wrapped=wrapped.train(),
            optimizer=optimizer,
            batches=iter(mixture),
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            validate=validator(recipe, validation, accelerator) if validation else None,
            state=state,
            console=console,
        )
    finished = trainer.fit()
    accelerator.end_training()
    return finished


def start_accelerator(recipe: Recipe, run: Path) -> Accelerator:
    """Devices, processes and precision. A machine without CUDA computes in fp32 on the CPU, also across processes."""
    cuda = torch.cuda.is_available()
    precision = {"fp32": "no"}.get(recipe.training.precision, recipe.training.precision) if cuda else "no"
    return Accelerator(cpu=not cuda, mixed_precision=precision, log_with="tensorboard", project_dir=run)


def create(
    recipe: Recipe, manifests: Manifests, checkpoint: Path | None, init: Source | None, console: Console | None
) -> TimeSformer:
    """The model at the start of a run: from its checkpoint, from `init`, or fresh."""
    torch.manual_seed(recipe.seed)
    temporal_init = recipe.model.temporal_init
    model = build(model_config(recipe, manifests), temporal_init)
    if checkpoint:
        load_exactly(model, read_tensors(checkpoint), checkpoint)
        normalise_as(model, read_config(checkpoint))
    elif init:
        fresh_heads = recipe.fresh_heads or recipe.policy == "probe"
        report = load_weights(model, init, temporal_init=temporal_init, fresh_heads=fresh_heads)
        if console:
            console.print(f"weights from {recipe.init}: {report}", report_table(report), sep="\n")
    return model


def resumed_state(state: TrainingState, fresh: TrainingState, allow_changed_data: bool) -> TrainingState:
    """The state to go on from.

    state: as saved. fresh: as the recipe would begin. Raises CheckpointError for another optimizer, and naming a
    dataset whose manifest is not the one of before, unless that is allowed; the mixture starts a new epoch then.
    """
    if state.optimizer != fresh.optimizer:
        raise CheckpointError(
            f"optimizer.name = {fresh.optimizer!r}, but this run began with {state.optimizer!r}, whose state cannot "
            "be taken over; resume with that, or start a new run with init"
        )
    digests = fresh.digests
    changed = sorted(
        name for name in digests.keys() | state.digests.keys() if digests.get(name) != state.digests.get(name)
    )
    if changed and not allow_changed_data:
        raise CheckpointError(
            f"the training manifest of {', '.join(changed)} is not the one this run began with; "
            "restore it, or pass --allow-changed-data to go on with the new one"
        )
    if changed:
        state.mixture_start = state.step
    state.digests = digests
    return state


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
        num_micro_batches=recipe.training.micro_batches,
        max_unreadable_share=data.max_unreadable_share,
        pin_memory=accelerator.device.type == "cuda",
    )


def describe_run(recipe: Recipe, run: Path, mixture: Mixture, console: Console) -> None:
    """Write the resolved recipe and the mixture into the run folder, and print the mixture."""
    run.mkdir(parents=True, exist_ok=True)
    recipe.write(run / "recipe.toml")
    rows = mixture_rows(mixture, reduction=recipe.training.reduction)
    (run / "mixture.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    console.print(mixture_table(rows))


def validator(recipe: Recipe, manifests: Manifests, accelerator: Accelerator) -> Validate:
    """A function that scores a model on the validation splits, in normal frame order."""

    def validate(model: TimeSformer) -> dict[str, dict[str, float]]:
        model.eval()
        predict = predictor(model, accelerator.device, accelerator.autocast)
        results = {
            name: evaluate_manifest(predict, recipe, manifest, name, "normal", progress=False)
            for name, manifest in manifests.items()
        }
        model.train()
        return {name: {"top1": result.top1} for name, result in results.items()}

    return validate
