from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.timesformers import config_of

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.errors import CheckpointError, ManifestError, RecipeError
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.models.sources import open_source
from cover.runs.dry_run import rehearse
from cover.runs.measurements import step_time
from cover.runs.plan import Plan, load_init, plan
from cover.runs.train import create, train
from cover.training.objective import Supervised


def recipe(root: Path, **changes: object) -> Recipe:
    values = {"policy": "pretrain", "datasets": {"pets": {"train": str(root / "pets-train.arrow")}}}
    return parse_recipe(values | {"data": {"batch_size": 2}, "training": {"epochs": 10}} | changes, "test")


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, write_image: object) -> None:
    for name in ("cat/0.png", "dog/1.png", "dog/2.png"):
        write_image(tmp_path / "pets" / name)  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    console = Console(file=StringIO(), width=100)
    rehearse(plan(recipe(tmp_path)), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert sorted(tmp_path.rglob("*")) == before
    for expected in (
        "pets     image      3   100%",
        "parameters",
        "85,800,194",
        "15; 1.5 an epoch",
        "GiB of weights",
        "SGD, momentum 0.9, weight decay 0.0001 of linear and convolution weights",
        "0.005 of the heads; of the backbone 0.005",
        "times 0.1 after each of 5.5, 7.5 epochs",
    ):
        assert expected in shown, (expected, shown)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"nesterov": True, "decay_all": True}, "SGD, Nesterov momentum 0.9, weight decay 0.0001 of all weights"),
        (
            {"name": "adamw", "schedule": "cosine", "warmup_epochs": 0.5},
            "cosine down to 0 after 10 epochs; warm-up over 0.5 epochs",
        ),
        ({"backbone_rate": 0.1}, "0.1 of the heads; of the backbone 0.01"),
        (
            {"backbone_rate": 0.1, "layer_decay": 0.5},
            "0.1 of the heads; of the backbone 0.00125 in the first layer to 0.01 in the last",
        ),
        ({"lora": {"train": ["norm.*"]}}, "rank 8, alpha 16 in *.qkv; whole: norm.*"),
        ({"freeze": ["blocks.0.*", "pos_embe[d]"]}, "blocks.0.*, pos_embe[d]"),
    ],
)
def test_a_dry_run_shows_the_optimizer_and_its_rates(
    optimizer: dict[str, object], expected: str, tmp_path: Path, write_image: object
) -> None:
    write_image(tmp_path / "pets" / "cat" / "0.png")  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    console = Console(file=StringIO(), width=120)
    model = {"variant": "timesformer_tiny", "depth": 2}
    values = {"data": {"batch_size": 1}, "model": model, "optimizer": {"learning_rate": 0.1} | optimizer}
    rehearse(plan(recipe(tmp_path, **values)), console)
    assert expected in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_dry_run_shows_how_datasets_and_classes_are_sampled(tmp_path: Path, write_image: object) -> None:
    for name in ("cat/0.png", "dog/1.png", "dog/2.png", "dog/3.png"):
        write_image(tmp_path / "pets" / name)  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    files: dict[str, object] = {"train": str(tmp_path / "pets-train.arrow")}
    datasets: dict[str, dict[str, object]] = {
        "a": files | {"class_balanced": True},
        "b": files | {"class_weights": "inverse"},
        "c": files | {"loss": "bce"},
    }
    console = Console(file=StringIO(), width=120)
    rehearse(
        plan(recipe(tmp_path, datasets=datasets, data={"batch_size": 3, "rates": {"temperature": 3}})),
        console,
        measure=False,
    )
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    loss = "dataset_mean; weights of 1 for a (1 a clip), 1 for b (1 a clip), 1 for c (1 a clip): 3 in all"
    binary = "binary cross-entropy of each class"
    for expected in ("temperature 3", "classes equally often: a", "weigh 0.667 to 2 in the loss", loss, binary):
        assert expected in shown
    datasets["b"]["class_weights"] = {"bird": 2.0}
    with pytest.raises(RecipeError, match=r"datasets\.b\.class_weights names 'bird', which is not a class of pets"):
        plan(recipe(tmp_path, datasets=datasets))


def test_a_dry_run_reports_weights_as_training_does(tmp_path: Path, write_image: object) -> None:
    """The same lines, with heads matched by class name; and the same error for weights that are not usable."""
    for name in ("cat/0.png", "dog/1.png"):
        write_image(tmp_path / "pets" / name)  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    weights, run = tmp_path / "weights", tmp_path / "run"
    model = {"variant": "timesformer_tiny", "depth": 1, "image_size": 32}
    save_model(create_model("timesformer_tiny", depth=1, heads={"pets": ["dog", "bird"]}), weights)
    training = {"max_steps": 1, "epochs": 1, "precision": "fp32"}

    def planned(init: Path) -> Plan:
        return plan(recipe(tmp_path, init=str(init), model=model, training=training))

    def shown(begin: Callable[[Console], object]) -> str:
        console = Console(file=StringIO(), width=200)
        begin(console)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text[text.index("weights from") : text.rindex("┘") + 1]

    def report(console: Console) -> None:
        load_init(planned(weights), create(planned(weights)), open_source(weights), console)

    assert "2 matched" in shown(report)
    assert shown(lambda console: rehearse(planned(weights), console)) == shown(report)
    (tmp_path / "notes.txt").write_text("no weights")
    for bad in (tmp_path / "absent", tmp_path / "notes.txt"):
        errors = []
        for begin in (partial(rehearse, planned(bad)), partial(train, planned(bad), run)):
            with pytest.raises(CheckpointError) as caught:
                begin(Console(file=StringIO()))
            errors.append(str(caught.value))
        assert errors[0] == errors[1] and str(bad) in errors[0]
    rehearse(planned(tmp_path / "absent"), Console(file=StringIO()), is_resumed=True)


def test_a_dry_run_counts_what_the_model_adopts_from_weights(tmp_path: Path, write_image: object) -> None:
    """CLIP has a norm before the blocks."""
    write_image(tmp_path / "pets" / "cat" / "0.png")  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    sizes: dict[str, Any] = {"depth": 1, "width": 48, "num_heads": 3}
    start = create_model("timesformer_tiny", heads={"a": 2}, **sizes)
    start.normalise_as(replace(config_of(start.config), norm_pre=True))
    save_model(start, tmp_path / "clip")
    model = {"variant": "timesformer_tiny", "attention": "space_only"} | sizes
    planned = plan(recipe(tmp_path, init=str(tmp_path / "clip"), model=model))
    console = Console(file=StringIO(), width=200)
    rehearse(planned, console)
    trained = create(planned)
    load_init(planned, trained, open_source(tmp_path / "clip"), None)
    number = sum(parameter.numel() for parameter in trained.parameters())
    assert number == planned.num_parameters + 2 * 48
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"parameters {number:,}, trained {number:,}" in " ".join(shown.split())
    assert "1 block, width 48, 3 heads, norm before the blocks" in " ".join(shown.split())


def test_a_dry_run_ends_as_training_would(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"pets-train\.arrow does not exist; write it with `cover index`"):
        rehearse(plan(recipe(tmp_path)), Console(file=StringIO()))


def test_a_dry_run_tries_files_and_steps(tmp_path: Path, write_image: object) -> None:
    for name in ("cat/0.png", "dog/1.png", "dog/2.png"):
        write_image(tmp_path / "pets" / name)  # type: ignore[operator]
    (tmp_path / "pets/cat/3.png").write_text("no image")
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    console = Console(file=StringIO(), width=200)
    model = {"variant": "timesformer_tiny", "depth": 1, "image_size": 32}
    small = recipe(tmp_path, model=model, data={"batch_size": 6, "num_workers": 0})
    rehearse(plan(small), console, measure=True)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in (
        "warning: 7 steps are too few to learn much; from about 500 (100 with weights in `init`) on",
        "warning: a batch has 6 clips of datasets.pets, which has 4, so a step repeats them; lower data.batch_size",
        "warning: datasets.pets.train: 1 of 4 files that were tried cannot be decoded, such as: ",
        "without validation: 7 steps of ",
        " ms a clip of pets",
    ):
        assert expected in shown, shown


def test_a_model_for_gpus_is_not_timed_on_a_cpu(tmp_path: Path, write_image: object) -> None:
    write_image(tmp_path / "pets" / "cat" / "0.png")  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    large = plan(recipe(tmp_path, model={"variant": "timesformer_large", "image_size": 448}))
    assert isinstance(large.objective, Supervised)
    assert torch.cuda.is_available() or step_time(large, large.objective) is None
