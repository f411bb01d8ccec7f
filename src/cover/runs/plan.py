"""What a recipe amounts to, known before anything is trained: data, model, objective, cost, length, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from accelerate import Accelerator
from rich.console import Console

from cover.config.recipe import Recipe
from cover.datasets.manifest import Moves
from cover.errors import CoverError, RecipeError
from cover.mixture.mixture import Mixture
from cover.mixture.summary import MixtureRow, mixture_rows, mixture_warnings
from cover.models.checkpoints.source import Source
from cover.models.classifier import PROJECTIONS, VideoClassifier, empty_model
from cover.models.config import ModelConfig
from cover.models.family import configure
from cover.models.loading import LoadReport, check_fits, load_weights, module_names, report_table
from cover.runs.adapters import losses_of
from cover.runs.data import Manifests, RecipeData, create_mixture, open_data
from cover.runs.folder import RunFolder
from cover.runs.init import init_label
from cover.runs.objectives import objective_of
from cover.runs.recipe_warnings import recipe_warnings
from cover.training.checkpoint import TrainingState
from cover.training.dataset_gradients import OWN
from cover.training.objective import Objective
from cover.training.projections import num_weights
from cover.training.scores import check_best
from cover.training.trained_weights import backward_share

Item = TypeVar("Item")


@dataclass(frozen=True)
class Plan:
    """A checked recipe, with all that training takes.

    Attributes:
        recipe: What to train.
        data: Its manifests.
        rows: The mixture, a row per dataset.
        config: Of the model.
        objective: What is trained, and how.
        num_parameters: Of the model.
        num_trained: Weights that learn, adapters of LoRA included, projections (`num_projection_weights`) not.
        backward_share: Of the backbone, the part that the backward pass goes through.
        clip_multiply_adds: Of one clip of each dataset through the backbone and that dataset's heads, forward only.
            Papers call 1e9 of them a GFLOP.
        steps_per_epoch: Steps with as many clips as all training sets have together; may be fractional.
        num_steps: Length of the run.
        warnings: What is probably not meant: see `mixture_warnings` and `recipe_warnings`. And missing test manifests.
            One line each.
    """

    recipe: Recipe
    data: RecipeData
    rows: list[MixtureRow]
    config: ModelConfig
    objective: Objective
    num_parameters: int
    num_trained: int
    backward_share: float
    clip_multiply_adds: dict[str, int]
    steps_per_epoch: float
    num_steps: int
    warnings: tuple[str, ...]

    @cached_property
    def model(self) -> VideoClassifier:
        """The model without memory for its weights. Those that learn require gradients."""
        model = empty_model(self.config)
        self.objective.module(model)
        return model

    @property
    def num_projection_weights(self) -> int:
        """Weights that the projection loss trains beside the model; 0 without it."""
        heads = {name: len(classes) for name, classes in self.config.heads.items()}
        return num_weights(heads) if self.recipe.training.projection_weight else 0

    @property
    def step_flops(self) -> float:
        """Floating-point operations of a step, counted as published. Those of heads alone are next to nothing: 0."""
        if not self.objective.takes_clips:
            return 0.0
        # Two operations a multiply-add; a backward pass takes twice a forward pass, none through frozen first layers.
        backbone, size_px, total = self.model.backbone, self.config.image_size_px, 0.0
        for row in self.rows:
            cost = self.clip_multiply_adds[row.dataset]
            frozen = (1 - self.backward_share) * backbone.multiply_adds(row.num_frames, size_px, size_px)
            total += row.clips_per_batch * 2 * (3 * cost - 2 * frozen)
        return total

    def continued(self, state: TrainingState) -> Plan:
        """Return the plan with the length of a run that is at that state."""
        return replace(self, num_steps=training_length(self.recipe, self.steps_per_epoch, state.epoch_offset))

    def started_from(self, init: Source) -> Plan:
        """Return the plan of a model with what it adopts from weights, such as a norm before the blocks.

        Raises:
            CheckpointError: The weights do not fit the model.
        """
        config = self.config.adopt(check_fits(init, self.config).config)
        num_parameters, num_trained, share = _parameters(empty_model(config), self.recipe, self.objective)
        return replace(
            self, config=config, num_parameters=num_parameters, num_trained=num_trained, backward_share=share
        )

    def mixture(self, state: TrainingState, accelerator: Accelerator) -> Mixture:
        """This process's share of every batch from a run's position to its last step."""
        return create_mixture(
            self.recipe,
            self.data.training,
            self.num_steps,
            state,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            pin_memory=accelerator.device.type == "cuda",
        )


def plan(recipe: Recipe, moves: Moves | None = None) -> Plan:
    """Check a recipe against its manifests, and say what it amounts to.

    Nothing is written, no clip is decoded, and no weight is read or allocated. Weights that training starts from are
    not looked at (`load_init` does that).

    Args:
        recipe: What to train.
        moves: Old folder → new folder, for manifests and media that lie elsewhere than the recipe says.

    Raises:
        CoverError: What training would end with. Test manifests that are missing are warnings.
    """
    return plan_with(recipe, open_data(recipe, moves))


def plan_with(recipe: Recipe, data: RecipeData) -> Plan:
    """As `plan`, with manifests that are open."""
    classes = {name: len(val.class_names) for name, val in data.splits["val"].items()}
    multi_label = [name for name, manifest in data.training.items() if manifest.is_multi_label]
    check_best(recipe.training.best, classes, multi_label)
    objective = objective_of(recipe, data.training, data.splits["val"])
    config = model_config(recipe, data.training)
    mixture = create_mixture(recipe, data.training, num_steps=1)
    steps_per_epoch = sum(mixture.schedule.sizes.values()) / mixture.schedule.clips_per_step
    num_steps = training_length(recipe, steps_per_epoch)
    rows = mixture_rows(mixture, reduction=recipe.training.reduction)
    for row in rows:
        _check_length(config, row)
    model = empty_model(config)
    multiply_adds = {
        row.dataset: model.multiply_adds(row.num_frames, map(recipe.head_of, recipe.heads_of(row.dataset)))
        for row in rows
    }
    num_parameters, num_trained, share = _parameters(model, recipe, objective)
    return Plan(
        recipe=recipe,
        data=data,
        rows=rows,
        config=config,
        objective=objective,
        num_parameters=num_parameters,
        num_trained=num_trained,
        backward_share=share,
        clip_multiply_adds=multiply_adds,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        warnings=(
            *mixture_warnings(rows, num_steps),
            *recipe_warnings(recipe, data.training, steps_per_epoch, num_steps, takes_clips=objective.takes_clips),
            *_missing_tests(recipe, data),
        ),
    )


def load_init(planned: Plan, model: VideoClassifier, init: Source, console: Console | None) -> LoadReport:
    """Load the weights that training starts from, and print what happened to every tensor.

    Args:
        planned: The plan.
        model: Its model. On torch's meta device, the weights are checked and nothing is kept.
        init: The weights.
        console: Where to print; None prints nothing.

    Returns:
        What happened to every tensor.

    Raises:
        CheckpointError: The weights are damaged, or do not fit the model.
    """
    recipe = planned.recipe
    fresh_heads = recipe.fresh_heads or recipe.is_probe
    report = load_weights(
        model,
        init,
        temporal_init=recipe.model.temporal_init,
        fresh_heads=fresh_heads,
        heads_from={name: section.init_head for name, section in recipe.datasets.items() if section.init_head},
    )
    if console:
        lines = (
            f"weights from {init_label(recipe.init or '', init)}: {report}".splitlines()
        )  # each by itself, or it would be one line
        console.print(*lines, report_table(report), sep="\n")
        if recipe.optimizer.fresh_at_full_rate:
            new = report.not_in_source
            console.print(f"at the full rate: {module_names(new) if new else 'nothing, because init has all tensors'}")
    return report


def model_config(recipe: Recipe, manifests: Manifests) -> ModelConfig:
    """The recipe's model, a head a dataset. Policy "pretrain" has no temporal layers (paper, Eq. 1)."""
    heads = {name: manifests[name].class_names for name in recipe.with_heads}
    images_only = recipe.media_kind == "image"
    sigmoid_heads = tuple(
        name for name, loss in losses_of(recipe, manifests).items() if name in heads and loss.kind == "bce"
    )
    config = replace(configure(recipe.model, heads, images_only=images_only), sigmoid_heads=sigmoid_heads)
    # A frozen backbone learns nothing from dropped branches; they would only blur what the heads see.
    return replace(config, drop_path_rate=0.0) if recipe.is_probe else config


def _parameters(model: VideoClassifier, recipe: Recipe, objective: Objective) -> tuple[int, int, float]:
    """Return `num_parameters`, `num_trained` and `backward_share` of a plan. The model is on torch's meta device.

    Raises:
        RecipeError: What learns cannot be what is meant.
    """
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    objective.module(model)
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if recipe.num_gradients > 1 and all(name.startswith(OWN) for name in learning):
        raise RecipeError(
            f"optimizer.freeze = {list(recipe.optimizer.freeze)} freezes all weights that datasets share; leave out "
            "optimizer.balance, clip_dataset_norm and training.measure_gradients_every"
        )
    num_trained = sum(parameter.numel() for name, parameter in learning.items() if not name.startswith(PROJECTIONS))
    return num_parameters, num_trained, backward_share(model)


def _check_length(config: ModelConfig, row: MixtureRow) -> None:
    """Raise RecipeError if the model does not take clips of a dataset's length."""
    try:
        if row.num_frames not in (1, config.num_frames):
            replace(config, num_frames=row.num_frames)
    except CoverError as error:
        raise RecipeError(f"datasets.{row.dataset}: {error}") from None


def in_order_of(run: RunFolder, planned: Plan) -> Plan:
    """Return the plan with its datasets in the order of a run that it continues, on which batches depend."""
    before = list(run.read_recipe().datasets) if run.checkpoints() else []
    datasets = planned.recipe.datasets
    names = sorted(datasets, key=lambda name: before.index(name) if name in before else len(before))
    if names == list(datasets):
        return planned

    def ordered(items: Mapping[str, Item]) -> dict[str, Item]:
        return {name: items[name] for name in names if name in items}

    recipe = planned.recipe.model_copy(update={"datasets": ordered(datasets)})
    splits = {split: ordered(manifests) for split, manifests in planned.data.splits.items()}
    return plan_with(recipe, RecipeData(ordered(planned.data.training), splits))


def training_length(recipe: Recipe, steps_per_epoch: float, epoch_offset: float = 0.0) -> int:
    """Steps of the whole run.

    Args:
        recipe: Epochs and max_steps.
        steps_per_epoch: Steps with as many clips as all training sets have together.
        epoch_offset: As in TrainingState.
    """
    num_steps = max(1, round((recipe.training.epochs - epoch_offset) * steps_per_epoch))
    return min(num_steps, recipe.training.max_steps or num_steps)


def _missing_tests(recipe: Recipe, data: RecipeData) -> list[str]:
    paths = {name: section.test for name, section in recipe.datasets.items()}
    missing = [
        f"datasets.{name}.test = '{path}'" for name, path in paths.items() if path and name not in data.splits["test"]
    ]
    return [f"{what} does not exist; `cover evaluate` reads it" for what in missing]
