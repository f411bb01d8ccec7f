"""`init` brings its architecture to a recipe that does not say which model it is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.family_runs import HEADS, TINY, model_of, section_of
from tests.models import foreign
from tests.models.oracle import create_oracle
from tests.models.videomae.test_formats import official_state
from tests.models.videomae.videomaes import create_oracle as create_videomae

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.run_files import LATEST
from cover.errors import CheckpointError, RecipeError
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.models.family import configure
from cover.models.loading import check_fits
from cover.models.sources import open_source
from cover.runs.init import with_model_of_init

FILES = {"moves": {"train": "moves.arrow"}}


def recipe_of(init: Path | str, policy: str = "standard", **model: Any) -> Recipe:
    """A recipe that names no model, and has these keys of `[model]`."""
    values = {"policy": policy, "init": str(init), "datasets": FILES} | ({"model": model} if model else {})
    recipe = parse_recipe(with_model_of_init(values), "test")
    check_fits(open_source(init), configure(recipe.model, HEADS))
    return recipe


@pytest.mark.parametrize("family", TINY)
def test_a_folder_brings_its_backbone(family: str, tmp_path: Path) -> None:
    model = model_of(family)
    save_model(model, tmp_path / "model")
    recipe = recipe_of(tmp_path / "model")
    config, saved = configure(recipe.model, HEADS).settled(), model.config.settled()
    assert all(getattr(config, name) == getattr(saved, name) for name in config.weight_sizes)
    assert (config.num_frames, config.image_size_px) == (saved.num_frames, saved.image_size_px)
    assert recipe_of(tmp_path / "model", num_frames=8).model.num_frames == 8


@pytest.mark.parametrize("family", ["timesformer", "mvit"])
def test_a_run_brings_its_section(family: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {"policy": "standard", "datasets": FILES, "model": section_of(family)}
    run = tmp_path / "runs" / family
    run.mkdir(parents=True)
    parse_recipe(values, "test").write(run / "recipe.toml")
    save_model(model_of(family), run / "checkpoints" / "step-1")
    (run / LATEST).write_text("step-1")
    for init in (run, run / "checkpoints" / "step-1"):
        assert recipe_of(init).model == recipe_of(init, "probe").model == parse_recipe(values, "test").model


def test_an_attentive_head_comes_along_but_not_to_a_probe(tmp_path: Path) -> None:
    save_model(model_of("videomae"), tmp_path / "linear")
    model = create_model("videomae_small", depth=1, width=32, num_heads=2, head="attentive", pooler_depth=0,
                         pooler_heads=2, num_frames=2, image_size=32, heads={"moves": 2})  # fmt: skip
    save_model(model, tmp_path / "model")
    section = recipe_of(tmp_path / "model").model
    assert (section.head, section.pooler_depth, section.pooler_heads) == ("attentive", 0, 2)
    assert recipe_of(tmp_path / "model", "probe").model.head == "linear"


def test_weights_of_other_code_bring_what_they_state_and_the_recipe_the_rest(tmp_path: Path) -> None:
    create_oracle(num_frames=4).save_pretrained(tmp_path / "timesformer")
    assert recipe_of(tmp_path / "timesformer").model.model_dump(exclude_defaults=True) == {
        "variant": "timesformer_tiny", "depth": 2, "width": 48, "num_frames": 4, "image_size": 32,
    }  # fmt: skip
    torch.save(official_state(create_videomae()), tmp_path / "videomae.pth")
    with pytest.raises(CheckpointError, match="does not state its num_heads, and it is no named size that does; set m"):
        recipe_of(tmp_path / "videomae.pth")
    assert recipe_of(tmp_path / "videomae.pth", num_heads=2).model.family == "videomae"


def test_an_image_model_brings_a_video_model(tmp_path: Path) -> None:
    foreign.save_transformers_vit(foreign.create_vit(), tmp_path / "vit")
    section = recipe_of(tmp_path / "vit").model.model_dump()
    assert (section["attention"], section["num_frames"], section["width"]) == ("divided", 8, foreign.WIDTH)


def test_a_contradiction_is_one_message_with_a_block_that_settles_it(tmp_path: Path) -> None:
    save_model(model_of("timesformer"), tmp_path / "model")
    with pytest.raises(CheckpointError) as caught:
        recipe_of(tmp_path / "model", variant="timesformer_tiny")
    assert str(caught.value).endswith(
        "has depth 2, width 32 and num_heads 2, this model has depth 6, width 192 and num_heads 3; set [model] as below"
    )
    (block,) = caught.value.__notes__
    assert recipe_of(tmp_path / "model", **tomllib.loads(block)["model"]).model.variant == "timesformer_tiny"
    with pytest.raises(CheckpointError, match=r"has weights of timesformer, and model\.family is mvit") as caught:
        recipe_of(tmp_path / "model", family="mvit")
    (block,) = caught.value.__notes__
    recipe_of(tmp_path / "model", **tomllib.loads(block)["model"])


def test_without_weights_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="absent does not exist; give a run, a file or folder of weights"):
        recipe_of(tmp_path / "absent")
    with pytest.raises(RecipeError, match=r"unknown key 'model\.widht'; did you mean 'width'"):
        save_model(model_of("mvit"), tmp_path / "model")
        recipe_of(tmp_path / "model", widht=8)
