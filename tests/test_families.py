"""One engine serves all built-in families of backbones: what recipes, training and commands promise holds for each."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tests import family_runs
from tests.family_runs import EMA, HEADS, NUM_FRAMES, PX, TINY, WriteMedia, assert_same_weights, mixed_batch, model_of
from tests.processes import TRAINING, become_rank, free_port
from tests.runs.tiny import lines_of, quiet
from tests.terminal import Cover, terminal
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cover.config.families import BUILT_IN
from cover.config.recipe_files import read_recipe
from cover.core.batch import MixedBatch
from cover.core.run_files import find_checkpoint
from cover.models.backbone import Backbone
from cover.models.classifier import VideoClassifier, empty_model, read_model
from cover.models.family import backbone_family
from cover.models.linear import freeze_weights
from cover.models.loading import load_weights
from cover.runs.plan import plan
from cover.runs.train import train
from cover.training.loss import loss
from cover.training.parallel import recompute_blocks
from cover.training.trainer import Trainer

NUM_STEPS, KILLED_AT = 6, 3
WHOLE: dict[str, Any] = {}
SPLITS: dict[str, dict[str, Any]] = {
    "micro-batches": {"micro_batches": 2},
    "ddp": {"parallel": "ddp"},
    "fsdp": {"parallel": "fsdp"},
}
CERTAIN = 0.999
"""A drop rate with which the last block drops everything, for the seeds of these tests."""


@pytest.fixture(scope="module", params=BUILT_IN)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_built_in_family_is_tested() -> None:
    assert TINY.keys() == BUILT_IN.keys(), "add the family to TINY in tests/family_runs.py"


# Models


def logits_of(model: VideoClassifier, batch: MixedBatch) -> dict[str, Tensor]:
    with torch.no_grad():
        found: dict[str, Tensor] = model(batch)
    return found


@pytest.mark.parametrize(("mode", "head"), [("train", "linear"), ("eval", "linear"), ("train", "attentive")])
def test_the_logits_of_a_clip_do_not_depend_on_its_company(family: str, mode: str, head: str) -> None:
    """In training mode, clips drop branches by their own seeds, so a clip drops the same ones in every batch."""
    model = model_of(family, drop_path_rate=0.5, head=head).double().train(mode == "train")
    whole = logits_of(model, mixed_batch(3, 4))
    for num_videos, num_images, first in ((3, 0, 0), (0, 4, 0), (1, 2, 0), (1, 1, 2), (0, 1, 3)):
        part = logits_of(model, mixed_batch(num_videos, num_images, first=first))
        for name, count in (("moves", num_videos), ("pets", num_images)):
            torch.testing.assert_close(part[name], whole[name][first : first + count], rtol=0, atol=1e-10)


def test_every_branch_of_a_block_is_dropped(family: str) -> None:
    """A block gets no gradient from clips that drop all of its branches."""
    model = model_of(family, drop_path_rate=CERTAIN)
    last = dict(model.backbone.units()[-1].named_parameters())
    for name, gradient in gradients(model, mixed_batch(2, 2), last).items():
        assert not gradient.any(), name
    for name, gradient in gradients(model.eval(), mixed_batch(2, 2), last).items():
        assert gradient.any() or gradient.ndim != 2 or not name.endswith("weight"), name


def gradients(model: VideoClassifier, batch: MixedBatch, parameters: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """The gradients of a step's loss, by parameter."""
    model.zero_grad()
    loss(model(batch), batch).backward()
    named = dict(model.named_parameters()) if parameters is None else parameters
    found = {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}
    assert found.keys() == named.keys()
    return found


@pytest.mark.parametrize(("num_videos", "num_images"), [(2, 3), (0, 2), (3, 0)])
def test_recomputation_gives_the_same_gradients_to_the_bit(family: str, num_videos: int, num_images: int) -> None:
    """Every parameter has one, whichever dataset is absent: otherwise DDP would wait."""
    batch, recomputed = mixed_batch(num_videos, num_images), model_of(family, drop_path_rate=0.3)
    recompute_blocks(recomputed, 1)
    found = gradients(recomputed, batch)
    for name, gradient in gradients(model_of(family, drop_path_rate=0.3), batch).items():
        assert torch.equal(found[name], gradient), name


def test_frames_are_normalised_and_weights_can_be_frozen(family: str) -> None:
    model, frames = model_of(family).eval(), torch.randint(256, (NUM_FRAMES, 2, 3, PX, PX), dtype=torch.uint8)
    with torch.no_grad():
        expected = model({"moves": frames})["moves"]
        normalised = (frames.float() / 255 - model.mean) / model.std
        torch.testing.assert_close(model({"moves": normalised})["moves"], expected, rtol=0, atol=1e-5)
        freeze_weights(model)
        for _ in range(2):
            torch.testing.assert_close(model({"moves": frames})["moves"], expected, rtol=0, atol=1e-5)


def test_every_parameter_has_a_layer(family: str) -> None:
    backbone = model_of(family).backbone
    layers = {name: backbone.layer_of(name) for name, _ in backbone.named_parameters()}
    assert {*layers.values()} == {*range(backbone.num_layers + 1)}
    units = [{layers[name] for name in layers if name.startswith(f"{prefix}.")} for prefix in prefixes(backbone)]
    assert all(len(unit) == 1 for unit in units) and [*map(min, units)] == sorted(map(min, units))


def prefixes(backbone: Backbone) -> list[str]:
    names = {module: name for name, module in backbone.named_modules()}
    return [names[unit] for unit in backbone.units()]


def test_costs_grow_with_clips_and_are_close_to_what_torch_counts(family: str) -> None:
    """Tests of each family have the published numbers. Torch counts depthwise convolutions as if they were dense."""
    model = empty_model(model_of(family).config).eval()
    sizes = (1, PX, PX), (NUM_FRAMES, PX, PX), (NUM_FRAMES, 64, 64)
    costs = [model.backbone.multiply_adds(*size) for size in sizes]
    kept = [model.backbone.activation_bytes(*size, half=half) for size in sizes for half in (True, False)]
    assert 0 < costs[0] < costs[1] < costs[2]
    assert 0 < kept[0] < kept[2] < kept[4] and all(kept[place] < kept[place + 1] for place in (0, 2, 4))
    for (num_frames, height_px, width_px), cost in zip(sizes, costs, strict=True):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model({"moves": torch.empty(num_frames, 1, 3, height_px, width_px, device="meta")})
        assert 0.7 < counter.get_total_flops() / 2 / cost < 2


# Runs


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory, write_video: WriteMedia, write_image: WriteMedia) -> Path:
    return family_runs.write_mixture(tmp_path_factory.mktemp("mixture"), "", write_video, write_image)


def train_until_killed(recipe: Path, run: Path) -> None:
    """In a process of its own: SIGKILL before step KILLED_AT."""
    step = Trainer.train_step

    def last_step(trainer: Trainer) -> Tensor:
        if trainer.state.step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(trainer)

    Trainer.train_step = last_step  # type: ignore[assignment, method-assign]
    train(plan(read_recipe(recipe)), run, quiet())


def train_as_rank(rank: int, port: int, folder: Path) -> None:
    """In a process of its own: one of two that train FOLDER/ddp.toml, then FOLDER/fsdp.toml."""
    become_rank(rank, port)
    Accelerator.end_training = Accelerator.wait_for_everyone  # the processes stay together for the next run
    for name in ("ddp", "fsdp"):
        train(plan(read_recipe(folder / f"{name}.toml")), folder / name, quiet())


@pytest.fixture(scope="module")
def runs(family: str, mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """FOLDER/whole, and the runs that must equal it."""
    folder = tmp_path_factory.mktemp(family)
    model = family_runs.section_of(family, drop_path_rate=0.3)
    for name, changes in ({"whole": WHOLE} | SPLITS).items():
        family_runs.recipe_of(mixture, model, **changes).write(folder / f"{name}.toml")
    port = free_port()
    processes = [TRAINING.Process(target=train_until_killed, args=(folder / "whole.toml", folder / "killed"))]
    processes += [TRAINING.Process(target=train_as_rank, args=(rank, port, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    try:
        for name in ("whole", "micro-batches"):
            assert not train(plan(read_recipe(folder / f"{name}.toml")), folder / name, quiet())
        for process in processes:
            process.join(100)
        assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0, 0]
        yield folder
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_a_killed_run_resumes_to_the_bit(runs: Path) -> None:
    assert [line["step"] for line in lines_of(runs / "killed")] == [*range(1, KILLED_AT + 1)]
    assert not train(plan(read_recipe(runs / "whole.toml")), runs / "killed", quiet(), resume=True)
    assert_same_weights(runs / "killed", runs / "whole", to_the_bit=True)
    assert lines_of(runs / "killed") == lines_of(runs / "whole")


@pytest.mark.parametrize("split", SPLITS)
def test_a_step_may_be_split_over_micro_batches_and_processes(runs: Path, split: str) -> None:
    found, expected = ([line["loss"] for line in lines_of(runs / run) if "loss" in line] for run in (split, "whole"))
    assert len(expected) == NUM_STEPS and found == pytest.approx(expected, rel=1e-5)
    assert_same_weights(runs / split, runs / "whole", to_the_bit=False)


def test_the_saved_weights_are_averages(runs: Path) -> None:
    before, after = (runs / "whole" / "checkpoints" / f"step-{step}" for step in (NUM_STEPS - 1, NUM_STEPS))
    averages, old = load_file(after / "model.safetensors"), load_file(before / "model.safetensors")
    weights = load_file(after / "training.safetensors")
    for name, average in averages.items():
        torch.testing.assert_close(average, EMA * old[name] + (1 - EMA) * weights[f"weights/{name}"])


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


def test_a_run_is_evaluated_described_and_saved(runs: Path, family: str, cover: Cover, tmp_path: Path) -> None:
    run = runs / "whole"
    assert "pets" in cover("evaluate", run, "--split", "val").out
    model = read_model(find_checkpoint(run))
    answer = json.loads(cover("info", run, "--json").out)
    assert answer["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert answer["multiply_adds"] == model.multiply_adds(NUM_FRAMES, HEADS)
    assert "G multiply-adds" in cover("info", run).out
    assert cover("export", run, tmp_path / "saved", "--to", "safetensors").code == 0
    again = VideoClassifier.from_pretrained(tmp_path / "saved").eval()
    frames = torch.randint(256, (NUM_FRAMES, 2, 3, PX, PX), dtype=torch.uint8)
    with torch.no_grad():
        for name, logits in model.eval().predict(frames).items():
            assert torch.equal(again.predict(frames)[name], logits)


def test_explanations_and_exports_are_offered_or_refused_in_a_line(
    runs: Path, mixture: Path, family: str, cover: Cover, tmp_path: Path
) -> None:
    known, run = backbone_family(family), runs / "whole"
    video = next((mixture / "moves").rglob("*.mp4"))
    head = ["--head", "moves"] if known.attribution else []  # a refusal comes before the question of the head
    answer = cover("explain", run, video, "--out", tmp_path / "seen", *head)
    refusal = f'models of the family {family} cannot be explained; choose a run with model.family = "timesformer"'
    assert answer.code == 0 if known.attribution else answer.code == 2 and refusal in answer.err
    for library in ("transformers", "torchvision"):
        answer = cover("export", run, tmp_path / library, "--to", library, "--head", "moves")
        if answer.code == 0:
            assert "2 classes" in cover("info", tmp_path / library).out
        elif library in known.exporters:  # the library may have only some models of the family
            assert answer.code == 2 and library in answer.err
        else:
            assert (
                f"{library} has no model of the family {family}; export with --to safetensors, onnx or torch-export"
                in answer.err
            )


def test_a_run_on_images_starts_a_run_on_videos(family: str, mixture: Path, tmp_path: Path) -> None:
    section, images = family_runs.section_of(family), tmp_path / "images"
    recipe = family_runs.recipe_of(mixture, section, policy="pretrain", datasets=["pets"], max_steps=1)
    assert not train(plan(recipe), images, quiet())
    recipe = family_runs.recipe_of(mixture, section, init=images, max_steps=1)
    assert not train(plan(recipe), tmp_path / "videos", quiet())
    report = load_weights(model_of(family), images)
    assert report.loaded and not report.unused


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_a_file_that_runs_by_itself_gives_the_same_logits(
    runs: Path, cover: Cover, tmp_path: Path, format: str
) -> None:
    """The export compares the logits with those of the model, for other numbers of clips than the traced one."""
    assert cover("export", runs / "whole", tmp_path / "file", "--to", format).code == 0
