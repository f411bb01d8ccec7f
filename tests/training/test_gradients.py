"""CUDA graphs compute what the same kernels compute when they are launched one by one, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe
from cover.core.batch import UNREADABLE, ClipBatch, MixedBatch
from cover.models.create import create_model
from cover.models.cuda_graphs import GraphedFunction, Tensors
from cover.training import gradients
from cover.training.engine import Engine
from cover.training.gradients import GraphedGradients, obstacle
from cover.training.objective import Supervised
from cover.training.packed_batch import Layout
from cover.training.parallel import to_device

NUM_STEPS = 100
NUM_FRAMES, PX = 4, 32
HEADS = {"videos": 5, "clips": 3, "images": 4}
MODEL = {"depth": 3, "width": 48, "num_heads": 3, "num_frames": NUM_FRAMES, "image_size": PX}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "average and clipping": {"training": {"ema_decay": 0.9}, "optimizer": {"clip_gradient_norm": 0.5}},
    "adamw": {"optimizer": {"name": "adamw", "learning_rate": 1e-3}},
    "recomputed": {"training": {"activation_checkpointing": 1}},
    "fp16": {"training": {"precision": "fp16"}},
    "fp32": {"training": {"precision": "fp32"}},
    "fp8": {"training": {"precision": "fp8", "activation_checkpointing": 2}},
}


def recipe(graphs: str, case: dict[str, Any]) -> Recipe:
    training = {"precision": "bf16", "graphs": graphs} | case.get("training", {})
    datasets = {name: {"train": "none.arrow"} for name in HEADS}
    values: dict[str, Any] = {"policy": "cotrain", "datasets": datasets, "training": training}
    optimizer = {"learning_rate": 0.05} | case.get("optimizer", {})
    return parse_recipe(values | {"optimizer": optimizer, "model": {"drop_path_rate": 0.3}}, "test")


def engine_of(settings: Recipe, weights: dict[str, Tensor] | None = None) -> Engine:
    torch.manual_seed(0)
    model = create_model("timesformer_tiny", heads=HEADS, drop_path_rate=0.3, temporal_init="random", **MODEL)
    if weights:
        model.load_state_dict(weights)
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = {"fp32": "no", "fp8": "bf16"}.get(settings.training.precision, settings.training.precision)
    accelerator = Accelerator(mixed_precision=precision)
    to_device(model, settings.training, accelerator)
    return Engine(model, Supervised(settings), settings, accelerator)


def mixed_batch(step: int, part: int) -> MixedBatch:
    """Counts that change from step to step; mixed labels; some clips are unreadable."""
    generator = torch.Generator().manual_seed(2 * step + part)

    def clips(dataset: str, num_clips: int) -> ClipBatch:
        num_frames = 1 if dataset == "images" else NUM_FRAMES
        frames = torch.randint(256, (num_frames, num_clips, 3, PX, PX), dtype=torch.uint8, generator=generator)
        labels = torch.randint(UNREADABLE, 3, (num_clips,), generator=generator)
        partners = torch.where(labels == UNREADABLE, labels, labels.flip(0).clamp_min(0))
        seeds = torch.randint(2**62, (num_clips,), generator=generator)
        return ClipBatch(dataset, frames, labels, ("",) * num_clips, seeds, partners, torch.full((num_clips,), 0.75))

    num_videos = step % 4
    counts = {"videos": num_videos, "clips": 3 - num_videos, "images": 2 + step % 2}
    parts = {name: clips(name, count) for name, count in counts.items() if count}
    return MixedBatch(parts, {name: 4.0 for name in HEADS}, step)


def losses(engine: Engine, steps: range) -> Tensor:
    """The loss of each step, of two micro-batches, and the norm of its gradients, which fp16 may find infinite."""
    found: list[Tensor] = []
    objective, device = engine.objective, engine.accelerator.device
    assert isinstance(objective, Supervised)
    for step in steps:
        batches = [objective.pack(mixed_batch(step, part), device) for part in range(2)]
        parts = [engine.backward(batch, last=batch is batches[-1]).total for batch in batches]
        found += [sum(parts, torch.zeros((), device=device)), engine.step(0.05, step)]
    return torch.stack(found).nan_to_num(-1.0, -2.0, -3.0)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("case", CASES)
def test_losses_equal_those_without_graphs_to_the_bit_also_after_a_resumption(case: str) -> None:
    plain = engine_of(recipe("off", CASES[case]))
    assert plain.gradients is None
    expected = losses(plain, range(NUM_STEPS))
    first = engine_of(recipe("auto", CASES[case]))
    found = losses(first, range(NUM_STEPS // 2))
    assert first.graph_metrics()["cuda_graphs"] == 2  # 2 or 3 images
    second = engine_of(recipe("auto", CASES[case]), first.weights())
    second.restore(first.training_tensors())
    if first.accelerator.scaler is not None and second.accelerator.scaler is not None:
        second.accelerator.scaler.load_state_dict(first.accelerator.scaler.state_dict())
    found = torch.cat([found, losses(second, range(NUM_STEPS // 2, NUM_STEPS))])
    assert torch.equal(found, expected)
    for name, weight in plain.weights().items():
        assert torch.equal(second.weights()[name], weight), name


def test_gradients_in_one_buffer_are_those_of_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a CPU: absent datasets, two micro-batches, and a validation between steps.

    What stands in for graphs writes all outputs of a layout to one place, as they do.
    """
    places: dict[Any, dict[str, Tensor]] = {}

    def replay(self: GraphedFunction[Layout], inputs: Tensors, layout: Layout) -> dict[str, Tensor]:
        found = self.function(inputs, layout)
        place = places.setdefault(layout, {name: tensor.clone() for name, tensor in found.items()})
        return {name: place[name].copy_(tensor) for name, tensor in found.items()}

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(GraphedFunction, "__call__", replay)
    settings = recipe("off", {"training": {"ema_decay": 0.9, "precision": "fp32"}, "optimizer": {"name": "adamw"}})
    found = []
    for in_one_buffer in (False, True):
        engine = engine_of(settings)
        if in_one_buffer:
            engine.gradients = GraphedGradients(engine.wrapped, engine.objective, engine.accelerator)
        before = losses(engine, range(3))
        with engine.evaluating() as model, torch.inference_mode():
            scores = model(mixed_batch(0, 0).to(engine.accelerator.device))["images"].flatten()
        found.append(torch.cat([before, scores, losses(engine, range(3, 5))]))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("training", "hosts", "reason"),
    [
        ({}, ["a"], None),
        ({}, ["a", "a"], None),
        ({"parallel": "fsdp"}, ["a"], None),
        ({"parallel": "fsdp"}, ["a", "a"], "gathers weights"),
        ({"compile": True}, ["a"], "kernels of its own"),
        ({}, ["a", "a", "b", "b"], "several machines"),
    ],
    ids=str,
)
def test_what_keeps_a_training_from_graphs_is_named(
    training: dict[str, Any], hosts: list[str], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(type(accelerator), "num_processes", len(hosts))
    monkeypatch.setattr(gradients, "gather_object", lambda _: hosts)
    found = obstacle(recipe("auto", {"training": training}).training, accelerator)
    assert found == reason or (reason and found and reason in found)
