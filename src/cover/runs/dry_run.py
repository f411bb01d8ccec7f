"""What `cover train --dry-run` prints: the plan of a recipe, its memory, and what this machine makes of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cover.config.layers import toml_value
from cover.config.recipe import Recipe
from cover.config.training_sections import OptimizerSection, TrainingSection
from cover.datasets.class_list import mirror_pairs
from cover.errors import CoverError
from cover.mixture.summary import mixture_table
from cover.models.classifier import BACKBONE, empty_model
from cover.models.config import counted
from cover.models.info import giga
from cover.models.sources import HUB, open_source
from cover.runs.measurements import (
    FILES_OPENED,
    device_line,
    sample_files,
    step_time,
    time_line,
    warnings_before_training,
)
from cover.runs.plan import Plan, load_init
from cover.training.objective import Supervised
from cover.training.optimizer import lr_scale


def rehearse(planned: Plan, console: Console, *, is_resumed: bool = False, measure: bool = False) -> None:
    """Print what a plan amounts to, and what is loaded from `init`. Nothing is written.

    Args:
        planned: The plan.
        console: Where to print.
        is_resumed: Whether training continues from a checkpoint, and so does not read `init`.
        measure: Open some files of each dataset, and time some steps.

    Raises:
        CoverError: What training would end with.
    """
    console.print(mixture_table(planned.rows))
    init, source, refusal = planned.recipe.init or "", None, None
    if init and not is_resumed and not init.startswith(HUB):
        try:
            source = open_source(init)
            planned = planned.started_from(source)
        except CoverError as error:
            refusal = error  # which ends the dry run, but the plan helps to understand it
    console.print(plan_table(planned))
    for warning in planned.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    if init.startswith(HUB):
        unchecked = f"init = '{init}' is downloaded when training starts; it was not checked"
        console.print(f"warning: {unchecked}", soft_wrap=True)
    if refusal:
        raise refusal
    if source:
        load_init(planned, empty_model(planned.config), source, console)
    if measure:
        print_measurements(planned, console)


def print_measurements(planned: Plan, console: Console) -> None:
    """Print what this machine says: whether files can be read, what it computes on, and how long training takes."""
    files = sample_files(planned)
    for warning in (*warnings_before_training(planned), *files.warnings):
        console.print(f"warning: {warning}", soft_wrap=True)
    clips = ", ".join(f"{1000 * seconds:.3g} ms a clip of {name}" for name, seconds in files.seconds.items())
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("device", device_line())
    table.add_row("reading", f"{clips or 'no file could be read'} (median of {FILES_OPENED} files)")
    if isinstance(planned.objective, Supervised):
        table.add_row("time", time_line(planned, step_time(planned, planned.objective), files))
    console.print(table)


def plan_table(planned: Plan) -> Table:
    """Model, cost, length and memory, for the terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("model", f"{planned.config.family}, {planned.config.describe()}")
    table.add_row("parameters", f"{planned.num_parameters:,}, trained {planned.num_trained:,}")
    if lora := planned.recipe.optimizer.lora:
        table.add_row("LoRA", Text(str(lora)))
    if patterns := planned.recipe.optimizer.freeze:
        table.add_row("frozen", Text(", ".join(patterns)))
    if planned.config.pooler is not None:
        table.add_row("pooler", planned.config.pooler.describe())
    for row in planned.rows:
        table.add_row(f"clips of {row.dataset}", clips_line(planned, row.dataset, row.num_frames))
    for name in planned.recipe.datasets:
        if (owner := planned.recipe.clips_of(name)) != name:
            table.add_row(f"clips of {name}", f"those of {owner}, for a further head")
        if (owner := planned.recipe.head_of(name)) != name:
            table.add_row(f"head of {name}", f"that of {owner}")
    for name, cost in planned.clip_multiply_adds.items():
        table.add_row(f"a clip of {name}", f"{giga(cost)} GFLOPs (multiply-adds, forward)")
    table.add_row("batches", batches_line(planned))
    table.add_row("rates", shares_line(planned))
    table.add_row("loss", loss_line(planned))
    if weight := planned.recipe.training.projection_weight:
        number = f"{planned.num_projection_weights:,} weights beside the model"
        table.add_row("projection loss", f"weight {weight:g}; its maps between heads have {number}")
    for name, head in planned.objective.losses.items():
        several = "cross-entropy towards the distribution of a sample's classes"
        table.add_row(
            f"loss of {name}", several if head.kind == "cross_entropy" else "binary cross-entropy of each class"
        )
    for name, weights in planned.objective.class_weights.items():
        used = weights[weights > 0].tolist() or [0.0]  # classes without a sample have none
        table.add_row(f"classes of {name}", f"weigh {min(used):.3g} to {max(used):.3g} in the loss")
    table.add_row("steps", f"{planned.num_steps:,}; {planned.steps_per_epoch:,.1f} an epoch")
    table.add_row("optimizer", optimizer_line(planned.recipe.optimizer))
    table.add_row("learning rate", rates_line(planned))
    table.add_row("schedule", schedule_line(planned.recipe))
    if line := gradients_line(planned.recipe):
        table.add_row("gradients", line)
    if planned.data.splits["val"]:
        table.add_row("best checkpoint", best_line(planned.recipe.training))
    if planned.objective.takes_clips:
        table.add_row("training", f"{planned.step_flops * planned.num_steps:.2g} floating-point operations")
        table.add_row("memory", f"{states_bytes(planned) / 2**30:,.3g} GiB of weights and states in each process")
        kept = f"about {backward_bytes(planned) / 2**30:,.3g} GiB for the backward pass of a whole batch, to be split"
        table.add_row("", f"{kept} by processes, micro_batches and activation_checkpointing")
    return table


def batches_line(planned: Plan) -> str:
    """Return what a step holds; with one dataset a step, also each one's steps of an epoch and learning rate."""
    if planned.recipe.data.batches == "mixed":
        of_all = " of all datasets" * (len(planned.rows) > 1)
        return f"{planned.recipe.data.batch_size} clips{of_all}"
    parts = []
    for row in planned.rows:
        factor = planned.recipe.datasets[row.dataset].learning_rate_factor
        part = f"{row.steps_share * planned.steps_per_epoch:,.4g} of {row.batch_size} clips of {row.dataset}"
        parts.append(part if factor == 1 else f"{part} at {factor:g} times the learning rate")
    return f"one dataset a step; an epoch has {', '.join(parts)}, in random order"


def shares_line(planned: Plan) -> str:
    """Return what the shares of the datasets follow."""
    if any(section.rate for section in planned.recipe.datasets.values()):
        return "by hand: datasets.NAME.rate"
    rates = planned.recipe.data.rates
    return rates if isinstance(rates, str) else f"temperature {planned.recipe.data.temperature:g}"


def loss_line(planned: Plan) -> str:
    """Return what the clips of each dataset weigh together in the loss of an average step, and one clip alone."""
    parts, total = [], 0.0
    for row in planned.rows:
        for head in planned.recipe.heads_of(row.dataset):
            a_clip = row.head_weights[head]
            parts.append(f"{a_clip * row.clips_per_batch:.3g} for {head} ({a_clip:.3g} a clip)")
            total += a_clip * row.clips_per_batch
    return f"{planned.recipe.training.reduction}; weights of {', '.join(parts)}: {total:.3g} in all"


def clips_line(planned: Plan, dataset: str, num_frames: int) -> str:
    """Return the length of a dataset's training clips, and their keys that are not the defaults."""
    clips, length = planned.recipe.clips(dataset), f"{num_frames} frame{'s' * (num_frames > 1)}"
    shown_elsewhere = {"horizontal_flip", "loss_weight"}
    set_keys = clips.model_dump(exclude_defaults=True, exclude=shown_elsewhere)
    if not planned.objective.takes_clips:
        taken = [f"{length}, the centre crop, unchanged"]
        set_keys = {key: value for key, value in set_keys.items() if key == "sampling"}
    else:
        flip = "mirrored at random" if clips.horizontal_flip else "not mirrored"
        if pairs := planned.recipe.datasets[dataset].mirror_pairs:
            found = mirror_pairs(planned.data.training[dataset].class_names) if pairs == "auto" else pairs
            flip += f" with labels swapped in {counted(len(found), 'pair')} of classes"
        taken = [f"{length}, cropped, {flip}"]
    return "; ".join([*taken, *(f"{key} = {toml_value(value)}" for key, value in set_keys.items())])


def optimizer_line(section: OptimizerSection) -> str:
    """Return the kind of optimizer, and what decays."""
    momentum = f"{'Nesterov ' if section.nesterov else ''}momentum {section.momentum:g}"
    name = f"SGD, {momentum}" if section.name == "sgd" else "AdamW"
    decaying = "all weights" if section.decay_all else "linear and convolution weights"
    return f"{name}, weight decay {section.weight_decay:g} of {decaying}"


def schedule_line(recipe: Recipe) -> str:
    """Return how the learning rate changes over the epochs."""
    section, epochs = recipe.optimizer, recipe.training.epochs
    line = f"cosine down to 0 after {epochs:g} epochs"
    if section.schedule == "step":
        drops = ", ".join(f"{drop:g}" for drop in section.drops(epochs))
        line = f"times {section.drop_factor:g} after each of {drops} epochs" if drops else "constant"
    return f"{line}; warm-up over {section.warmup_epochs:g} epochs" if section.warmup_epochs else line


def rates_line(planned: Plan) -> str:
    """Return the peak learning rates of heads and backbone."""
    section, heads = planned.recipe.optimizer, f"{planned.recipe.optimizer.learning_rate:g}"
    if not planned.objective.takes_clips:
        return heads
    model = planned.model
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    rates = [section.learning_rate * lr_scale(model, name, section) for name in learning if name.startswith(BACKBONE)]
    if not rates:
        return f"{heads} of the heads; the backbone is frozen"
    first, last = min(rates), max(rates)
    backbone = f"{last:.3g}" if first == last else f"{first:.3g} in the first layer to {last:.3g} in the last"
    return f"{heads} of the heads; of the backbone {backbone}"


def gradients_line(recipe: Recipe) -> str:
    """Return how the datasets' gradients are combined and measured, "" if they are only added."""
    section, every = recipe.optimizer, recipe.training.measure_gradients_every
    parts = {
        "none": "",
        "gradient_norm": "each dataset's is brought to their mean norm",
        "pcgrad": "conflicting parts of datasets are taken out (PCGrad)",
    }[section.balance]
    lines = [parts] if parts else []
    if section.clip_dataset_norm is not None:
        lines.append(f"each dataset's is clipped at norm {section.clip_dataset_norm:g}")
    if every and section.combines_datasets:
        lines.append(f"measured every {every} steps")
    elif every:
        lines.append(f"each dataset's is measured every {every} steps, about {100 / every:.2g} % more computation")
    return "; ".join(lines)


def best_line(section: TrainingSection) -> str:
    """What chooses the best checkpoint, and whether it ends the run."""
    extreme = "lowest" if section.best.measure == "loss" else "highest"
    number = section.early_stopping
    end = f"; the run ends after {number} validations without a better one" if number else ""
    return f"{extreme} {section.best.phrase} of validation{end}"


def states_bytes(planned: Plan) -> int:
    """Bytes of weights, and of gradients, states and average of those that learn, all in float32."""
    recipe = planned.recipe
    learning = recipe.num_gradients + {"sgd": 1, "adamw": 2}[recipe.optimizer.name]
    learning += recipe.training.ema_decay is not None
    beside = (1 + learning) * planned.num_projection_weights
    return 4 * (planned.num_parameters + learning * planned.num_trained + beside)


def backward_bytes(planned: Plan) -> float:
    """Rough estimate of the bytes that the backward pass needs for a whole batch."""
    model, half = planned.model, planned.recipe.training.precision != "fp32"
    size_px, frozen = planned.config.image_size_px, 1 - planned.backward_share
    parts = []
    for row in planned.rows:
        kept = model.activation_bytes(row.num_frames, half=half)
        kept -= frozen * model.backbone.activation_bytes(row.num_frames, size_px, size_px, half=half)
        parts.append((row.batch_size or row.clips_per_batch) * kept)
    return sum(parts) if planned.recipe.data.batches == "mixed" else max(parts)
