from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cover.config.recipe import Recipe, parse_recipe
from cover.datasets.layouts.class_folders import index_folder
from cover.errors import ManifestError, RecipeError
from cover.runs.dry_run import rehearse
from cover.runs.plan import plan


def recipe(root: Path, **changes: object) -> Recipe:
    values = {"policy": "pretrain", "datasets": {"pets": {"train": str(root / "pets-train.arrow")}}}
    return parse_recipe(values | {"data": {"batch_size": 2}, "training": {"epochs": 10}} | changes, "test")


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path, write_image: object) -> None:
    for name in ("cat/0.png", "dog/1.png", "dog/2.png"):
        write_image(tmp_path / "pets" / name)  # type: ignore[operator]
    index_folder(tmp_path / "pets", kind="image", out=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    console = Console(file=StringIO(), width=100)
    rehearse(plan(recipe(tmp_path, init=str(tmp_path / "vit.npz"))), console)
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
    assert "warning: init = " in shown
    assert "vit.npz' does not exist" in shown.replace("\n", "")


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
    rehearse(plan(recipe(tmp_path, datasets=datasets, data={"batch_size": 3, "rates": {"temperature": 3}})), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    loss = "dataset_mean; weights of 1 for a (1 a clip), 1 for b (1 a clip), 1 for c (1 a clip): 3 in all"
    binary = "binary cross-entropy of each class"
    for expected in ("temperature 3", "classes equally often: a", "weigh 0.667 to 2 in the loss", loss, binary):
        assert expected in shown
    datasets["b"]["class_weights"] = {"bird": 2.0}
    with pytest.raises(RecipeError, match=r"datasets\.b\.class_weights names 'bird', which is not a class of pets"):
        plan(recipe(tmp_path, datasets=datasets))


def test_a_dry_run_ends_as_training_would(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"pets-train\.arrow does not exist; write it with `cover index`"):
        rehearse(plan(recipe(tmp_path)), Console(file=StringIO()))
