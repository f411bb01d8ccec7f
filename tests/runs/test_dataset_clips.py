"""Each dataset's clips are made its own way, and those of other datasets stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.runs.tiny import IMAGES, VIDEOS, MakeRecipe, quiet

from cover.config.clips import ClipData
from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe, read_recipe
from cover.core.batch import MixedBatch
from cover.errors import RecipeError
from cover.runs.data import create_mixture
from cover.runs.dry_run import plan_table
from cover.runs.plan import plan
from cover.runs.train import train
from cover.runs.trained import TrainedRun
from cover.training.checkpoint import TrainingState

PLAIN: dict[str, Any] = {
    "augmentation": {"randaugment": {"num_ops": 0}, "mixup": 0.0, "cutmix": 0.0},
    "training": {"label_smoothing": 0.0, "micro_batches": 1},
}
EVERYTHING: dict[str, Any] = {
    "short_side": [40, 60],
    "scale_jitter": "inverse_uniform",
    "horizontal_flip": False,
    "temporal_jitter": True,
    "sampling": {"stride_frames": 1},
    "randaugment": {"num_ops": 2},
    "random_resized_crop": [0.1, 0.9],
    "color_jitter": 0.4,
    "random_erasing": 1.0,
    "mixup": 0.8,
    "cutmix": 1.0,
}
Clips = dict[tuple[str, int], torch.Tensor]


def batches(recipe: Recipe, step: int = 0, rank: int = 0, world_size: int = 1) -> list[MixedBatch]:
    planned = plan(recipe)
    state = TrainingState(step=step)
    return list(create_mixture(recipe, planned.data.training, 4, state, rank=rank, world_size=world_size))


def clips_of(parts: Sequence[MixedBatch], dataset: str) -> Clips:
    return {
        (sample_id, seed): frames
        for part in parts
        if dataset in part
        for sample_id, seed, frames in zip(
            part[dataset].sample_ids, part[dataset].seeds.tolist(), part[dataset].frames.unbind(1), strict=True
        )
    }


def same(left: Clips, right: Clips) -> bool:
    assert left.keys() == right.keys()
    return all(frames.equal(right[key]) for key, frames in left.items())


@pytest.mark.parametrize("key", EVERYTHING)
def test_a_key_changes_the_clips_of_its_dataset_alone(key: str, recipe_of: MakeRecipe) -> None:
    plain = batches(recipe_of("cotrain", VIDEOS, **PLAIN))
    changed = batches(recipe_of("cotrain", VIDEOS, options={"jumps": {key: EVERYTHING[key]}}, **PLAIN))
    assert not same(clips_of(changed, "jumps"), clips_of(plain, "jumps"))
    assert same(clips_of(changed, "turns"), clips_of(plain, "turns"))


def test_a_key_of_a_dataset_does_what_the_key_for_all_does(recipe_of: MakeRecipe) -> None:
    own = batches(recipe_of("cotrain", VIDEOS, options={name: EVERYTHING for name in VIDEOS}, **PLAIN))
    data = {key: value for key, value in EVERYTHING.items() if key in ClipData.model_fields}
    augmentation = {key: value for key, value in EVERYTHING.items() if key not in data}
    shared = batches(recipe_of("cotrain", VIDEOS, **PLAIN | {"augmentation": augmentation, "data": data}))
    off = PLAIN["augmentation"]
    returned = batches(
        recipe_of("cotrain", VIDEOS, options={"jumps": off}, **PLAIN | {"augmentation": augmentation, "data": data})
    )
    for name in VIDEOS:
        assert same(clips_of(own, name), clips_of(shared, name))
    assert not same(clips_of(returned, "jumps"), clips_of(shared, "jumps"))
    assert same(clips_of(returned, "turns"), clips_of(shared, "turns"))


def test_clips_do_not_depend_on_ranks_micro_batches_or_where_a_run_resumes(recipe_of: MakeRecipe) -> None:
    def recipe(**training: Any) -> Recipe:
        options = {"jumps": EVERYTHING}
        return recipe_of("cotrain", VIDEOS + IMAGES, options=options, **PLAIN | {"training": training})

    whole = batches(recipe(micro_batches=1))
    parts = [part for rank in range(2) for part in batches(recipe(micro_batches=2), rank=rank, world_size=2)]
    resumed = batches(recipe(micro_batches=1), step=2)
    for name in VIDEOS + IMAGES:
        assert same(clips_of(parts, name), clips_of(whole, name))
        assert same(clips_of(resumed, name), clips_of(whole[2:], name))


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_mirrored_clips_have_the_labels_of_their_mirror_images(mixup: float, recipe_of: MakeRecipe) -> None:
    """A clip has the other label exactly if its pixels are mirrored, and so has the partner that is mixed into it."""
    changes = PLAIN | {"augmentation": PLAIN["augmentation"] | {"mixup": mixup}}

    def recipe(**options: Any) -> Recipe:
        return recipe_of("cotrain", VIDEOS, options={"jumps": options}, **changes)

    still, plain = batches(recipe(horizontal_flip=False)), batches(recipe())
    swapped, found = batches(recipe(mirror_pairs=[["left", "right"]])), batches(recipe(mirror_pairs="auto"))
    assert all(a["jumps"].labels.equal(b["jumps"].labels) for a, b in zip(found, swapped, strict=True))
    assert same(clips_of(swapped, "jumps"), clips_of(plain, "jumps"))
    mirrored = []
    for before, after, unmirrored in zip(plain, swapped, still, strict=True):
        one, other = before["jumps"], after["jumps"]
        differs = one.labels != other.labels
        mirrored += differs.tolist()
        if not mixup:
            own = unmirrored["jumps"].frames
            assert differs.tolist() == [
                not a.equal(b) for a, b in zip(own.unbind(1), one.frames.unbind(1), strict=True)
            ]
        else:
            assert one.partner_labels is not None and other.partner_labels is not None
            assert (one.partner_labels != other.partner_labels).any()
    assert 0 < sum(mirrored) < len(mirrored)
    assert all(a["turns"].labels.equal(b["turns"].labels) for a, b in zip(plain, swapped, strict=True))


def test_the_weight_of_all_datasets_is_that_of_those_without_their_own(recipe_of: MakeRecipe, tmp_path: Any) -> None:
    changes = PLAIN | {"training": PLAIN["training"] | {"loss_weight": 0.25}}
    recipe = recipe_of("cotrain", VIDEOS, options={"jumps": {"loss_weight": 2.0}}, **changes)
    planned = plan(recipe)
    assert {row.dataset: row.loss_weight for row in planned.rows} == {"jumps": 2.0, "turns": 0.25}
    (batch, *_) = batches(recipe)
    factors = planned.objective.pack(batch, torch.device("cpu")).factors  # type: ignore[attr-defined]
    assert factors.tolist() == [2.0 / batch.counts["jumps"], 0.25 / batch.counts["turns"]]
    recipe.write(tmp_path / "recipe.toml")
    again = read_recipe(tmp_path / "recipe.toml", ["training.loss_weight=0.5"])
    assert [again.clips(name).loss_weight for name in VIDEOS] == [2.0, 0.5]


def test_a_dataset_is_limited_to_some_of_its_samples(recipe_of: MakeRecipe) -> None:
    def samples(max_clips: int) -> set[str]:
        planned = plan(recipe_of("cotrain", VIDEOS, options={"jumps": {"max_clips": max_clips}}, **PLAIN))
        manifest = planned.data.training["jumps"]
        assert {row.dataset: row.num_excluded for row in planned.rows} == {"jumps": 12 - len(manifest), "turns": 0}
        return set(manifest.sample_ids(range(len(manifest))))

    four, eight, more = samples(4), samples(8), samples(40)
    assert (len(four), len(eight), len(more)) == (4, 8, 12)
    assert four < eight < more and samples(4) == four
    seen = {
        name
        for name, _ in clips_of(
            batches(recipe_of("standard", ["jumps"], options={"jumps": {"max_clips": 4}}, **PLAIN)), "jumps"
        )
    }
    assert seen == {f"jumps/{sample_id}" for sample_id in four}


def test_labels_are_smoothed_by_dataset(recipe_of: MakeRecipe) -> None:
    """The loss of a step is a weighted sum over datasets: what one of them adds is what it adds alone."""

    def loss(smoothing: dict[str, float]) -> float:
        options = {name: {"label_smoothing": value} for name, value in smoothing.items()}
        planned = plan(recipe_of("cotrain", VIDEOS, options=options, **PLAIN))
        (batch, *_) = batches(planned.recipe)
        packed = planned.objective.pack(batch, torch.device("cpu"))  # type: ignore[attr-defined]
        packed = replace(packed, labels=torch.zeros_like(packed.labels))

        def answers(_: object) -> dict[str, torch.Tensor]:
            return {name: torch.tensor([3.0, -1.0]).repeat(batch.num_clips, 1) for name in VIDEOS}

        return float(planned.objective.step(answers, packed).total)  # type: ignore[arg-type]

    none, jumps, turns = loss({}), loss({"jumps": 0.2}), loss({"turns": 0.1})
    assert none < turns < jumps
    assert loss({"jumps": 0.2, "turns": 0.1}) == pytest.approx(jumps + turns - none)


def test_a_dataset_has_clips_of_its_own_length(recipe_of: MakeRecipe, tmp_path: Any) -> None:
    """In training, in the plan, and in evaluation, unless another length is asked for."""
    options = {"jumps": {"num_frames": 2}}
    recipe = recipe_of("cotrain", VIDEOS + IMAGES, options=options, **PLAIN | {"training": {"max_steps": 2}})
    assert recipe.num_frames("of_another_run") == recipe.model.num_frames  # `compare` asks for those, too
    lengths = {name: clips.num_frames for batch in batches(recipe) for name, clips in batch.items()}
    assert lengths == {"jumps": 2, "turns": 4, "pets": 1}
    planned = plan(recipe)
    costs = planned.clip_multiply_adds
    assert costs["jumps"] < 0.6 * costs["turns"]
    assert not train(planned, tmp_path / "run", quiet())
    for asked, expected in ((None, [2, 4]), (3, [3, 3])):
        run = TrainedRun.open(tmp_path / "run", num_frames=asked)
        results = [run.evaluate(name, run.manifest(name, "val"), "normal") for name in VIDEOS]
        assert [result.num_frames for result in results] == expected


def test_a_length_that_the_model_does_not_take_is_refused(recipe_of: MakeRecipe) -> None:
    model = {"family": "videomae", "variant": "videomae_small", "depth": 1, "width": 48, "num_heads": 3}
    recipe = recipe_of("cotrain", VIDEOS, options={"jumps": {"num_frames": 3}}, model=model, **PLAIN)
    with pytest.raises(RecipeError, match=r"datasets\.jumps: num_frames 3 is not a multiple of 2"):
        plan(recipe)


def test_a_run_keeps_each_datasets_keys_and_no_others(recipe_of: MakeRecipe, tmp_path: Any) -> None:
    recipe = recipe_of("cotrain", VIDEOS, options={"jumps": EVERYTHING}, **PLAIN)
    recipe.write(tmp_path / "recipe.toml")
    again = read_recipe(tmp_path / "recipe.toml", ["augmentation.cutmix=0.5", "datasets.jumps.mixup=0.1"])
    assert [again.clips(name).cutmix for name in VIDEOS] == [1.0, 0.5]
    assert [again.clips(name).mixup for name in VIDEOS] == [0.1, 0.0]
    assert [again.clips(name).temporal_jitter for name in VIDEOS] == [True, False]


def test_a_dry_run_shows_how_each_datasets_clips_are_made(recipe_of: MakeRecipe) -> None:
    options = {"jumps": {"randaugment": {"num_ops": 2}, "mixup": 0.8}, "turns": {"horizontal_flip": False}}
    console = Console(file=StringIO(), width=150)
    console.print(plan_table(plan(recipe_of("cotrain", VIDEOS, options=options, **PLAIN))))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (jumps,), (turns,) = ([line for line in lines if line.startswith(f"clips of {name}")] for name in VIDEOS)
    assert "mirrored at random; randaugment = { num_ops = 2 }; mixup = 0.8" in jumps
    assert turns.split(None, 3)[3].strip() == "4 frames, cropped, not mirrored"


@pytest.mark.parametrize(
    ("policy", "options", "expected"),
    [
        ("cotrain", {"mixup": -1}, "datasets.jumps.mixup = -1: input should be greater than or equal to 0"),
        ("cotrain", {"sampling": {"stride": 4}}, 'it is "uniform", { window_seconds = S }'),
        (
            "cotrain",
            {"mixups": 1},
            r"unknown key 'datasets.jumps.mixups'; did you mean 'mixup'\? known here: train, .*cutmix",
        ),
        ("cotrain", {"short_side": [60, 40]}, r"datasets.jumps.short_side \[60, 40\] is not a range"),
        (
            "cotrain",
            {"mirror_pairs": [["a", "b"]], "horizontal_flip": False},
            "datasets.jumps.mirror_pairs name labels of mirrored clips, and horizontal_flip is off; leave one out",
        ),
        ("cotrain", {"mirror_pairs": "left"}, "mirror_pairs = 'left': it is \"auto\" or a list of pairs of classes"),
        ("cotrain", {"mirror_pairs": "auto", "horizontal_flip": False}, "horizontal_flip is off; leave one out"),
        ("cotrain", {"mirror_pairs": [["a", "b"], ["c", "a"]]}, "mirror_pairs names 'a' twice; a class has one"),
        ("cotrain", {"random_resized_crop": [0.9, 0.1]}, r"datasets.jumps.random_resized_crop \[0.9, 0.1\] is not a"),
        ("probe", {"mixup": 0.8}, "policy 'probe' computes features once, of unchanged clips; leave out augmentation"),
    ],
)
def test_mistakes_are_named(policy: str, options: dict[str, Any], expected: str) -> None:
    values = {"policy": policy, "init": "run", "datasets": {"jumps": {"train": "jumps.arrow"} | options}}
    with pytest.raises(RecipeError, match=expected):
        parse_recipe(values, "test")
