from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from cover.config.training_sections import OptimizerSection
from cover.models.classifier import saved_name
from cover.models.create import create_model
from cover.training.optimizer import create_optimizer, learning_rate, set_learning_rate

PAPER = OptimizerSection()


def rates(section: OptimizerSection, *steps: int, steps_per_epoch: float = 10, num_epochs: float = 10) -> list[float]:
    return [learning_rate(section, step, steps_per_epoch=steps_per_epoch, num_epochs=num_epochs) for step in steps]


@pytest.mark.parametrize("steps_per_epoch", [10, 10.5, 0.5])
def test_default_schedule_is_the_papers(steps_per_epoch: float) -> None:
    """§4.1: 5e-3, a tenth of it after 11 completed epochs and again after 15."""
    for step in range(int(20 * steps_per_epoch)):
        completed = step // steps_per_epoch
        expected = 5e-3 if completed < 11 else 5e-4 if completed < 15 else 5e-5
        (rate,) = rates(PAPER, step, steps_per_epoch=steps_per_epoch, num_epochs=20)
        assert rate == pytest.approx(expected, rel=1e-12), step


def test_nesterov_and_decay_of_everything_are_those_of_timesformer() -> None:
    model = create_model("timesformer_tiny", depth=1, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    plain, lineage = (
        create_optimizer(model, OptimizerSection(nesterov=on, decay_all=on, weight_decay=0.1)) for on in (False, True)
    )
    assert [plain.defaults["nesterov"], lineage.defaults["nesterov"]] == [False, True]
    assert {group["weight_decay"] for group in plain.param_groups} == {0.0, 0.1}
    assert [group["weight_decay"] for group in lineage.param_groups] == [0.1]


def test_default_drops_scale_with_the_run_and_given_ones_do_not() -> None:
    given = OptimizerSection(drop_epochs=(1, 2))
    for num_epochs in (4, 40):
        of_run = rates(PAPER, *range(10 * num_epochs), num_epochs=num_epochs)
        assert [of_run.count(rate) for rate in sorted(set(of_run), reverse=True)] == [
            round(share * 10 * num_epochs) for share in (0.55, 0.2, 0.25)
        ]
        assert rates(given, 9, 10, 20, num_epochs=num_epochs) == pytest.approx([5e-3, 5e-4, 5e-5])


def test_cosine_falls_from_the_rate_to_zero() -> None:
    cosine = OptimizerSection(schedule="cosine", learning_rate=0.8)
    expected = [0.8, 0.4 * (1 + 0.5**0.5), 0.4, 0.4 * (1 + math.cos(0.99 * math.pi)), 0, 0]
    assert rates(cosine, 0, 25, 50, 99, 100, 105) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["step", "cosine"])
def test_warm_up_begins_above_zero_and_meets_the_schedule(schedule: str) -> None:
    section = OptimizerSection.model_validate({"schedule": schedule, "learning_rate": 0.8, "warmup_epochs": 2.0})
    assert rates(section, 0, 1, 9, 18, 19, 20) == pytest.approx([0.04, 0.08, 0.4, 0.76, 0.8, 0.8])
    assert rates(section, 60) == pytest.approx([0.4 if schedule == "cosine" else 0.08])
    assert rates(section, 100) == pytest.approx([0 if schedule == "cosine" else 0.008])


def test_a_warm_up_of_less_than_a_step_is_none() -> None:
    section = OptimizerSection(schedule="cosine", learning_rate=0.8, warmup_epochs=0.05)
    assert rates(section, 0, 1, 2) == sorted(rates(section, 0, 1, 2), reverse=True)
    assert rates(section, 0) == [0.8]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weights_of_linear_and_convolution_layers_alone_decay(name: str, kind: type[torch.optim.Optimizer]) -> None:
    model = create_model("timesformer_tiny", depth=1, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    section = OptimizerSection.model_validate({"name": name, "weight_decay": 0.3})
    optimizer = create_optimizer(model, section)
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    decayed = {name for name, parameter in model.named_parameters() if decays.pop(parameter) == 0.3}
    assert isinstance(optimizer, kind) and not decays
    modules = {name: module for name, module in model.named_modules()}
    layers = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)}
    assert decayed == {f"{layer}.weight" for layer in layers}
    assert not [name for name in decayed if re.search("norm|embed$|token|bias", name)]


def test_paper_optimizer_is_sgd_with_momentum_without_nesterov() -> None:
    optimizer = create_optimizer(torch.nn.Linear(2, 2), PAPER)
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (5e-3, 0.9, False, 1e-4)


def scales_of(model: torch.nn.Module, section: OptimizerSection) -> dict[str, float]:
    """{name: share of the learning rate}, after checking that every parameter is in one group."""
    optimizer = create_optimizer(model, section)
    set_learning_rate(optimizer, 2.0)
    grouped = [(parameter, group["lr"] / 2) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len(list(model.parameters()))
    scales = dict(grouped)
    return {saved_name(name): scales[parameter] for name, parameter in model.named_parameters()}


def test_layer_decay_scales_each_layer_by_those_behind_it() -> None:
    """Embeddings are layer 0, block i is layer i + 1, heads and last norm come last (BEiT, MAE)."""
    model = create_model(
        "timesformer_tiny", depth=3, width=12, num_frames=2, image_size=32, heads={"blocks": 3, "b": 2}
    )
    scales = scales_of(model, OptimizerSection(layer_decay=0.75))
    for name, scale in scales.items():
        layer = re.match(r"blocks\.(\d+)", name)
        power = 3 - int(layer[1]) if layer else 0 if re.match("heads|norm", name) else 4
        assert scale == pytest.approx(0.75**power), name
    assert {"heads.blocks.weight", "norm.bias", "cls_token", "pos_embed", "time_embed"} < scales.keys()
    assert set(scales_of(model, OptimizerSection()).values()) == {1.0}


@pytest.mark.parametrize("variant", ["timesformer_tiny", "videomae_small"])
def test_the_rate_of_the_backbone_is_a_share_of_the_heads_rate(variant: str) -> None:
    """As in Video Swin. It multiplies what layer_decay makes of each layer, in both schedules."""
    model = create_model(variant, depth=3, width=12, num_frames=2, image_size=32, heads={"backbone": 3, "b": 2})
    plain = scales_of(model, OptimizerSection(layer_decay=0.75))
    scales = scales_of(model, OptimizerSection(layer_decay=0.75, backbone_rate=0.1))
    factors = {name: 0.1 if not name.startswith("heads.") else 1.0 for name in plain}
    assert scales == pytest.approx({name: factors[name] * scale for name, scale in plain.items()})
    assert scales_of(model, OptimizerSection(backbone_rate=0.1)) == factors


def compiled(module: Any) -> Any:
    return torch.compile(module, backend="eager")


@pytest.mark.parametrize(("wrap_model", "wrap_block"), [(compiled, None), (None, compiled), (None, checkpoint_wrapper)])
def test_wrappers_do_not_change_what_a_parameter_gets(wrap_model: Any, wrap_block: Any) -> None:
    section = OptimizerSection(layer_decay=0.5, backbone_rate=0.3, weight_decay=0.3)

    def groups(model: torch.nn.Module) -> list[tuple[float, float, int]]:
        found = create_optimizer(model, section).param_groups
        return [(group["lr"], group["weight_decay"], len(group["params"])) for group in found]

    model = create_model("timesformer_tiny", depth=2, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    names, plain = [name for name, _ in model.named_parameters()], groups(model)
    if wrap_block:
        model.backbone.blocks = torch.nn.ModuleList(map(wrap_block, model.backbone.units()))
    wrapped = wrap_model(model) if wrap_model else model
    assert [name for name, _ in wrapped.named_parameters()] != names
    assert groups(wrapped) == plain


def test_the_first_group_has_the_whole_rate() -> None:
    model = create_model("timesformer_tiny", depth=2, width=12, num_frames=2, image_size=32, heads={"k400": 3})
    optimizer = create_optimizer(model, OptimizerSection(layer_decay=0.5, backbone_rate=0.1, learning_rate=0.1))
    assert optimizer.param_groups[0]["lr"] == 0.1
