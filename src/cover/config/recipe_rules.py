"""Keys of a recipe that exclude or need each other. A rule raises ValueError: the value, the rule, the remedy."""

from __future__ import annotations

from collections.abc import Callable

from cover.config.clips import ClipAugmentation, ClipData
from cover.config.recipe import Recipe
from cover.config.training_sections import BestSection


def _check_training(recipe: Recipe) -> None:
    if recipe.policy == "standard" and len(recipe.sampled) > 1:
        raise ValueError(f"policy 'standard' trains one dataset, not {len(recipe.sampled)}; use policy = \"cotrain\"")
    if recipe.optimizer.warmup_epochs > recipe.training.epochs and not recipe.training.max_steps:
        raise ValueError(
            f"optimizer.warmup_epochs = {recipe.optimizer.warmup_epochs:g} with training.epochs = "
            f"{recipe.training.epochs:g}; the learning rate would never get to its value: shorten the warm-up"
        )
    if recipe.optimizer.nesterov and (recipe.optimizer.name != "sgd" or not recipe.optimizer.momentum):
        raise ValueError(
            f"optimizer.nesterov changes the momentum of SGD, and this is {recipe.optimizer.name} with momentum "
            f"{recipe.optimizer.momentum:g}; leave nesterov out"
        )
    if recipe.training.parallel == "fsdp" and recipe.training.precision == "fp16":
        raise ValueError("training.parallel 'fsdp' has no loss scaling for precision 'fp16'; use \"bf16\"")
    if recipe.training.precision == "fp8" and recipe.training.compile:
        raise ValueError(
            "training.compile leaves out the library's kernels, and precision 'fp8' needs them; turn compile off, "
            'or use "bf16"'
        )
    if recipe.data.cache_folder and not any(recipe.clips(name).cache_frames for name in recipe.datasets):
        raise ValueError(
            f"data.cache_folder {str(recipe.data.cache_folder)!r} keeps the frames of data.cache_frames, which is "
            "off; set data.cache_frames = true, or leave the folder out"
        )
    if recipe.data.batch_size % (repeats := recipe.augmentation.repeats):
        raise ValueError(
            f"data.batch_size {recipe.data.batch_size} does not hold every sample {repeats} times "
            f"(augmentation.repeats); make it a multiple of {repeats}"
        )


def _check_shared_clips(recipe: Recipe) -> None:
    for name, section in recipe.datasets.items():
        if section.clips_of is None:
            continue
        if section.clips_of not in recipe.sampled:
            raise ValueError(
                f"datasets.{name}.clips_of = {section.clips_of!r} is no other dataset with clips of its own; it "
                f"is one of {', '.join(recipe.sampled)}"
            )
        if section.val and not recipe.datasets[section.clips_of].val:
            raise ValueError(
                f"datasets.{name}.val has the clips of {section.clips_of}, which names no val; name both or none"
            )
        others = ("num_frames", "max_clips", "rate", "batch_size", "class_balanced", "learning_rate_factor")
        keys = (*ClipData.model_fields, *ClipAugmentation.model_fields, *others)
        if own := [key for key in keys if getattr(section, key, None) != type(section).model_fields[key].default]:
            raise ValueError(
                f"datasets.{name}.{own[0]} concerns clips, and {name} has those of {section.clips_of}; set it there"
            )


def _check_shared_heads(recipe: Recipe) -> None:
    for name, section in recipe.datasets.items():
        if section.head_of is None:
            continue
        if section.head_of not in recipe.with_heads:
            raise ValueError(
                f"datasets.{name}.head_of = {section.head_of!r} is no other dataset with a head of its own; it is "
                f"one of {', '.join(recipe.with_heads)}"
            )
        if key := next((key for key in ("val", "test", "init_head") if getattr(section, key)), None):
            raise ValueError(
                f"datasets.{name}.{key} takes a head of its own, and head_of = {section.head_of!r} gives it "
                "another's; leave one out"
            )


def _check_init(recipe: Recipe) -> None:
    named = next((name for name, section in recipe.datasets.items() if section.init_head), None)
    reasons = {
        "and there is no init; name a run": not recipe.init,
        "and fresh_heads = true starts all heads anew; leave one of them out": recipe.fresh_heads,
        "and policy 'probe' starts all heads anew; leave it out": recipe.policy == "probe",
    }
    if named and (reason := next((reason for reason, holds in reasons.items() if holds), None)):
        raise ValueError(f"datasets.{named}.init_head names a head of init, {reason}")


def _check_batches(recipe: Recipe) -> None:
    if recipe.data.batches == "mixed":
        for name, section in recipe.datasets.items():
            if section.batch_size is not None or section.learning_rate_factor != 1:
                key = "learning_rate_factor" if section.batch_size is None else "batch_size"
                raise ValueError(
                    f"datasets.{name}.{key} is of steps of that dataset alone, and data.batches = 'mixed' has "
                    'none; set data.batches = "one_dataset", or leave it out'
                )
        return
    repeats = recipe.augmentation.repeats
    for name, section in recipe.datasets.items():
        if section.batch_size is not None and section.batch_size % repeats:
            raise ValueError(
                f"datasets.{name}.batch_size {section.batch_size} does not hold every sample {repeats} times "
                f"(augmentation.repeats); make it a multiple of {repeats}"
            )
    if recipe.training.reduction != "dataset_mean":
        raise ValueError(
            f"training.reduction = {recipe.training.reduction!r} weighs datasets of one step, and data.batches = "
            "'one_dataset' has one in each; leave reduction out"
        )
    if recipe.optimizer.balance != "none":
        raise ValueError(
            f"optimizer.balance = {recipe.optimizer.balance!r} shares a step between datasets, and data.batches = "
            "'one_dataset' has one in each; leave balance out"
        )


def _check_projections(recipe: Recipe) -> None:
    weight = recipe.training.projection_weight
    if weight and recipe.policy == "probe":
        raise ValueError(
            f"training.projection_weight = {weight:g} trains heads through each other, and policy 'probe' trains "
            "each by itself; leave it out"
        )
    if weight and len(recipe.with_heads) == 1:
        raise ValueError(
            f"training.projection_weight = {weight:g} maps the classes of other datasets, and there is one; "
            "leave it out"
        )


def _check_lora(recipe: Recipe) -> None:
    if recipe.optimizer.lora and (recipe.policy == "probe" or recipe.optimizer.backbone_rate == 0):
        frozen = "policy 'probe'" if recipe.policy == "probe" else "optimizer.backbone_rate = 0"
        raise ValueError(f"optimizer.lora trains adapters in the backbone, and {frozen} freezes it; leave one out")


def _check_fresh(recipe: Recipe) -> None:
    section = recipe.optimizer
    has_effect = recipe.policy != "probe" and (section.layer_decay < 1 or 0 < section.backbone_rate < 1)
    if section.fresh_at_full_rate and not (recipe.init and has_effect):
        raise ValueError(
            "optimizer.fresh_at_full_rate keeps layer_decay and backbone_rate from weights that init does not "
            "have; set init and one of these, or leave it out"
        )


def _check_probe(recipe: Recipe) -> None:
    if recipe.policy != "probe":
        if not recipe.data.cache_features:
            raise ValueError("data.cache_features is a key of policy 'probe'; leave it out")
        return
    if not recipe.init:
        raise ValueError("policy 'probe' trains heads on frozen features and has no init; name the run with init")
    if recipe.keeps_features and recipe.model.head == "attentive":
        raise ValueError(
            "policy 'probe' keeps one feature per clip, and model.head \"attentive\" learns from all tokens; set "
            "data.cache_features = false"
        )
    all_plain = recipe.augmentation.repeats == 1 and all(_is_plain(recipe, name) for name in recipe.datasets)
    if recipe.keeps_features and not all_plain:
        raise ValueError(
            "policy 'probe' computes features once, of unchanged clips; leave out augmentation and "
            "temporal_jitter, or set data.cache_features = false"
        )
    if recipe.optimizer.backbone_rate not in (0, 1):
        raise ValueError(
            f"policy 'probe' freezes the backbone, and optimizer.backbone_rate = {recipe.optimizer.backbone_rate:g}; "
            'leave it out, or train with policy "standard" or "cotrain"'
        )
    if recipe.keeps_features and recipe.training.precision == "fp8":
        raise ValueError("policy 'probe' trains heads alone, which precision 'fp8' does not change; use \"bf16\"")


def _check_validation(recipe: Recipe) -> None:
    validated = [name for name, dataset in recipe.datasets.items() if dataset.val]
    for name in recipe.training.best.weights:
        if name not in validated:
            raise ValueError(
                f"training.best.weights names {name!r}, and validation has {', '.join(validated) or 'no dataset'}; "
                f"set datasets.{name}.val, or leave the weight out"
            )
    unused = {
        "training.early_stopping": recipe.training.early_stopping,
        "training.best": recipe.training.best != BestSection(),
    }
    if not validated and (key := next((key for key, is_set in unused.items() if is_set), None)):
        raise ValueError(f"{key} compares validations, and no dataset has a val manifest; name one, or leave {key} out")


def _check_clips(recipe: Recipe) -> None:
    for name in recipe.datasets:
        sides = recipe.clips(name).short_side
        if sides and sides[0] > sides[1]:
            where = "data" if sides == recipe.data.short_side else f"datasets.{name}"
            raise ValueError(f"{where}.short_side {list(sides)} is not a range; write [smallest, largest]")
        areas = recipe.clips(name).random_resized_crop
        if areas and areas[0] > areas[1]:
            where = "augmentation" if areas == recipe.augmentation.random_resized_crop else f"datasets.{name}"
            raise ValueError(f"{where}.random_resized_crop {list(areas)} is not a range; write [smallest, largest]")
        pairs = recipe.datasets[name].mirror_pairs
        if pairs and not recipe.clips(name).horizontal_flip:
            raise ValueError(
                f"datasets.{name}.mirror_pairs name labels of mirrored clips, and horizontal_flip is off; leave one out"
            )
        named = [label for pair in pairs for label in pair] if pairs != "auto" else []
        if repeated := [label for label in named if named.count(label) > 1]:
            raise ValueError(f"datasets.{name}.mirror_pairs names {repeated[0]!r} twice; a class has one mirror image")


def _is_plain(recipe: Recipe, dataset: str) -> bool:
    """Whether training clips are the same every time but for crop and mirroring."""
    clips = recipe.clips(dataset)
    plain = ClipAugmentation(**{key: getattr(clips, key) for key in ClipAugmentation.model_fields})
    return plain == ClipAugmentation() and not clips.temporal_jitter


def _check_dataset_gradients(recipe: Recipe) -> None:
    combined, measured = recipe.optimizer.combines_datasets, recipe.training.measure_gradients_every is not None
    key = "optimizer.balance and clip_dataset_norm" if combined else "training.measure_gradients_every"
    if (combined or measured) and recipe.policy == "probe":
        raise ValueError(f"{key}: policy 'probe' trains heads, which datasets do not share; leave them out")
    if (combined or measured) and recipe.training.parallel == "fsdp":
        raise ValueError(f"{key}: training.parallel 'fsdp' splits gradients over processes; use \"ddp\"")
    if (combined or measured) and recipe.freezes_backbone and recipe.model.head == "linear":
        raise ValueError(f"{key}: optimizer.backbone_rate = 0 freezes all weights that datasets share; leave them out")
    if recipe.optimizer.balance != "none" and len(recipe.datasets) == 1:
        raise ValueError(
            f"optimizer.balance = {recipe.optimizer.balance!r} shares the update between datasets, and there is one; "
            "leave balance out"
        )


def _check_sampling(recipe: Recipe) -> None:
    rated = [name for name, dataset in recipe.datasets.items() if dataset.rate is not None]
    if rated and len(rated) < len(recipe.sampled):
        raise ValueError(f"datasets.{rated[0]} has a rate and others have none; give a rate to all or to none")
    if rated and recipe.data.rates != "proportional":
        raise ValueError(
            f"datasets.{rated[0]}.rate sets shares by hand, and data.rates = {recipe.data.rates!r} by size; "
            "leave one of them out"
        )
    for name, section in recipe.datasets.items():
        if section.loss == "bce" and section.class_weights is not None:
            raise ValueError(
                f"datasets.{name}.class_weights are factors of cross-entropy, and its loss is 'bce'; leave one out"
            )
        if section.class_balanced and isinstance(section.class_weights, str):
            raise ValueError(
                f"datasets.{name}.class_balanced and class_weights = {section.class_weights!r} both make up for "
                "rare classes; leave one of them out"
            )


RULES: tuple[Callable[[Recipe], None], ...] = (
    _check_training,
    _check_shared_clips,
    _check_shared_heads,
    _check_init,
    _check_batches,
    _check_projections,
    _check_lora,
    _check_fresh,
    _check_probe,
    _check_validation,
    _check_clips,
    _check_dataset_gradients,
    _check_sampling,
)
"""All of them, in the order in which they are checked."""
