"""Every recipe of this package, planned on miniature manifests."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.timesformers import config_of

from cover.cli import index
from cover.config.recipe_files import parse_recipe, read_recipe
from cover.datasets.manifest import write_manifest
from cover.datasets.names import Kind
from cover.errors import CheckpointError, CoverError, ManifestError
from cover.models.classifier import save_model
from cover.models.create import create_model
from cover.runs.dry_run import clips_line, rehearse
from cover.runs.plan import plan

ALL = Path(str(files("cover") / "recipes"))
OWN = [path for path in sorted(ALL.rglob("*.toml")) if path.name != "base.toml" and path.parent.name != "parts"]
PAPER = ALL / "paper"
RECIPES = {path.stem: path for path in sorted(PAPER.glob("*.toml"))}
SIZES = {"k400": 24, "k600": 39, "k700": 54, "ssv2": 17, "mit": 79, "imagenet": 128}
IMAGES = {"imagenet", "objects"}
"""The datasets of images in our recipes, besides those of the policy "pretrain"."""


def write_miniature(
    path: Path, name: str, split: str, *, kind: Kind = "video", classes: Sequence[str] = ("a", "b", "c")
) -> None:
    rows = [
        {"sample_id": str(row), "path": f"{row}.mp4", "label": row % len(classes)} for row in range(SIZES.get(name, 9))
    ]
    write_manifest(path, rows, name=name, kind=kind, split=split, class_names=list(classes), root=path.parent)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with manifests/NAME-{train,val}.arrow of every dataset of the paper, a ten-thousandth of its size."""
    folder = tmp_path_factory.mktemp("paper")
    for name in SIZES:
        for split in ("train", "val"):
            kind: Kind = "image" if name in IMAGES else "video"
            write_miniature(folder / "manifests" / f"{name}-{split}.arrow", name, split, kind=kind)
    return folder


@pytest.fixture
def here(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(miniature)
    return miniature


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_paper_can_be_planned(name: str) -> None:
    recipe = read_recipe(RECIPES[name])
    planned = plan(recipe)
    assert all(text.startswith("one clip of ") for text in planned.warnings)
    assert recipe.init and (Path(recipe.init).parent.name == "weights" or Path(recipe.init).name in RECIPES)
    assert [row.dataset for row in planned.rows] == list(recipe.datasets)
    num_clips = sum(row.num_clips for row in planned.rows)
    assert planned.steps_per_epoch == num_clips / 128
    assert planned.num_steps == round(20 * num_clips / 128)
    config = config_of(planned.config)
    assert (config.depth, config.width) == ((12, 768) if "base" in RECIPES[name].read_text() else (24, 1024))
    assert all(section.test and section.val is None for section in recipe.datasets.values())


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(ALL).with_suffix("").as_posix())
def test_every_recipe_is_rehearsed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cover train --dry-run` of each recipe in this package, on manifests of a few samples."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = read_recipe(path)
    for name, section in recipe.datasets.items():
        kind: Kind = "image" if recipe.policy == "pretrain" or name in IMAGES else "video"
        classes = sorted({label for pair in section.reversal_pairs for label in pair}) or ["one", "other"]
        for split, file in (("train", section.train), ("val", section.val), ("test", section.test)):
            if file and not file.exists():
                write_miniature(file, name, split, kind=kind, classes=classes)
    output = StringIO()
    planned = plan(recipe)
    with pytest.raises(CheckpointError, match="does not exist") if recipe.init else nullcontext():
        rehearse(planned, Console(file=output, width=200))
    assert "parameters" in output.getvalue() and "learning rate" in output.getvalue()
    assert [row.dataset for row in planned.rows] == list(recipe.datasets)
    assert not [line for line in planned.warnings if "has no effect" in line]
    if path.parent.parent == ALL and path.parent != PAPER:  # the recipes of another family
        assert planned.config.family == path.parent.name
    if "imagenet" in planned.clip_multiply_adds and "k400" in planned.clip_multiply_adds:
        assert planned.clip_multiply_adds["k400"] > 3 * planned.clip_multiply_adds["imagenet"]


def test_every_part_is_used() -> None:
    used = {part for path in RECIPES.values() for part in tomllib.loads(path.read_text())["extends"]}
    assert used == {f"parts/{path.name}" for path in (PAPER / "parts").glob("*.toml")}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_to_the_setup_of_the_paper(name: str) -> None:
    """§4.1; the sizes are those of §4.1 and appendix B, and of the quoted VideoClassifier."""
    recipe = read_recipe(RECIPES[name])
    assert recipe.data.batch_size == 128 and recipe.training.epochs == 20
    assert recipe.optimizer == type(recipe.optimizer)()
    assert (recipe.evaluation.num_clips, recipe.evaluation.num_crops) == (1, 3)
    assert (recipe.model.num_frames, recipe.model.image_size) in {(8, 224), (16, 448), (96, 224)}
    assert recipe.data.temporal_jitter == (recipe.policy != "probe")
    for dataset in recipe.datasets:
        clips = recipe.clips(dataset)
        assert (clips.horizontal_flip, clips.scale_jitter == "uniform") == (dataset != "ssv2",) * 2
        expected = {"imagenet": 0.75 if name.endswith("w075") else 0.5}.get(dataset, 1.0)
        assert clips.loss_weight == expected


def test_the_parts_read_what_the_layouts_write() -> None:
    """Each part of a dataset names its command, whose default name is that of the manifests."""
    parts = {path.stem: path.read_text() for path in (PAPER / "parts").glob("*.toml")}
    datasets = {name: text for name, text in parts.items() if "[datasets." in text}
    assert datasets.keys() == SIZES.keys()
    for name, text in datasets.items():
        (layout,) = re.findall(r"`cover index (\w+)`", text)
        assert inspect.signature(getattr(index, layout)).parameters["name"].default == name
        assert re.findall(r'"manifests/(.*)\.arrow"', text) == [f"{name}-train", f"{name}-val"]


@pytest.mark.usefixtures("here")
def test_parameters_and_cost_are_those_of_the_model() -> None:
    planned = plan(read_recipe(RECIPES["table2_k400"]))
    model = create_model("timesformer_base", heads={"k400": 3})
    assert planned.num_parameters == planned.num_trained == sum(p.numel() for p in model.parameters())
    assert planned.clip_multiply_adds["k400"] == pytest.approx(195.8e9, rel=1e-3)  # docs/weights.md
    probe = plan(read_recipe(RECIPES["probe_k400_to_ssv2"]))
    assert clips_line(probe, "ssv2", 8) == "8 frames, the centre crop, unchanged"
    assert probe.num_trained == sum(p.numel() for p in model.heads.parameters())
    both = plan(read_recipe(RECIPES["i21k_k400_ssv2_mit_imagenet"])).clip_multiply_adds
    assert both["k400"] > 15.9 * both["imagenet"]


def test_what_does_not_fit_is_refused_and_what_is_missing_named(miniature: Path, tmp_path: Path) -> None:
    def planned(init: Path | str, **paths: str) -> tuple[str, ...]:
        files = {"train": str(miniature / "manifests" / "k400-train.arrow")} | paths
        values = {"policy": "standard", "init": str(init), "datasets": {"k400": files}}
        found = plan(parse_recipe(values | {"model": {"variant": "timesformer_tiny", "depth": 1}}, "test"))
        rehearse(found, Console(file=(output := StringIO()), width=1000))
        lines = output.getvalue().splitlines()
        return tuple(line.removeprefix("warning: ") for line in lines if line.startswith("warning: "))

    def refusal(kind: type[CoverError], init: Path | str, **paths: str) -> str:
        with pytest.raises(kind) as caught:
            planned(init, **paths)
        return str(caught.value)

    for width in (192, 96):
        save_model(create_model("timesformer_tiny", depth=1, width=width, heads={"a": 2}), tmp_path / str(width))
    assert planned(tmp_path / "192") == ()
    assert "has width 96, this model has 192; set model.width = 96" in refusal(CheckpointError, tmp_path / "96")
    assert planned("hf://owner/name") == (
        "init = 'hf://owner/name' is downloaded when training starts; it was not checked",
    )
    assert planned(tmp_path / "192", test="absent.arrow") == (
        "datasets.k400.test = 'absent.arrow' does not exist; `cover evaluate` reads it",
    )
    assert "absent.arrow does not exist" in refusal(ManifestError, tmp_path / "192", train="absent.arrow")
    write_miniature(tmp_path / "k400-val.arrow", "k400", "val", classes=("a", "b", "c", "d"))
    for split in ("val", "test"):
        other = {split: str(tmp_path / "k400-val.arrow")}
        assert "has other classes than its training manifest" in refusal(ManifestError, tmp_path / "192", **other)


def test_what_a_policy_means_is_decided_in_one_place() -> None:
    source = Path(str(files("cover")))
    asking = re.compile(r"\bpolicy\)? *(==|!=|in\b)|\.get\([\w.]*policy\)")
    found = {file.relative_to(source).as_posix() for file in source.rglob("*.py") if asking.search(file.read_text())}
    assert found == {"config/recipe.py", "config/recipe_rules.py"}
