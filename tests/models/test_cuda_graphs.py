from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from cover.models.create import create_model
from cover.models.cuda_graphs import BUCKETS, ClipGraphs, GraphedFunction, Tensors
from cover.models.linear import freeze_weights


def numbers(*shape: int) -> Tensor:
    return torch.rand(shape, device="cuda")


@pytest.mark.needs_cuda
def test_each_signature_has_a_graph_after_the_first_call() -> None:
    calls: list[tuple[int, ...]] = []

    def double(inputs: Tensors, factor: int) -> dict[str, Tensor]:
        calls.append((*inputs["x"].shape, factor))
        return {"y": factor * inputs["x"]}

    graphed = GraphedFunction(double)
    for shape, factor in (((2,), 2), ((2,), 2), ((3,), 2), ((2,), 3), ((2,), 2), ((3,), 2)):
        x = numbers(*shape)
        assert torch.equal(graphed({"x": x}, factor)["y"], factor * x)
    assert calls == [(2, 2), (2, 2), (3, 2), (2, 3)] and graphed.num_graphs == 3  # the first call records nothing


@pytest.mark.needs_cuda
def test_a_function_that_waits_for_the_gpu_runs_without_graphs(caplog: pytest.LogCaptureFixture) -> None:
    graphed = GraphedFunction[None](lambda inputs, _: {"y": inputs["x"] * float(inputs["x"].sum())})
    for _ in range(3):
        x = numbers(4)
        assert torch.equal(graphed({"x": x}, None)["y"], x * float(x.sum()))
    assert graphed.num_graphs == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "stream is capturing" in warning
    test_each_signature_has_a_graph_after_the_first_call()  # of another function


@pytest.mark.needs_cuda
def test_features_of_any_number_of_clips_and_frames() -> None:
    torch.manual_seed(0)
    model = create_model("timesformer_tiny", num_frames=4, image_size=32, heads={"k400": 5}, temporal_init="random")
    model.cuda().eval()
    freeze_weights(model)

    def features(frames: Tensor) -> Tensor:
        with torch.inference_mode():
            return model.features(frames)

    graphed = ClipGraphs(features)
    for num_frames, num_clips in ((4, 1), (4, 5), (1, 1), (4, 5), (4, 7), (1, 5), (4, BUCKETS[-1] + 1), (4, 1)):
        frames = torch.randint(256, (num_frames, num_clips, 3, 32, 32), dtype=torch.uint8, device="cuda")
        torch.testing.assert_close(graphed(frames), features(frames), rtol=1e-5, atol=1e-5)


def test_results_are_those_of_the_clips_alone_and_stay_after_later_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, what stands in for graphs writes all outputs of a shape to one place."""
    places: dict[torch.Size, Tensor] = {}

    def replay(self: GraphedFunction[None], inputs: Tensors, layout: None) -> dict[str, Tensor]:
        found = self.function(inputs, layout)["out"]
        return {"out": places.setdefault(inputs["frames"].shape, found.clone()).copy_(found)}

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(GraphedFunction, "__call__", replay)
    graphs = ClipGraphs(lambda frames: frames.float().mean((0, 2, 3, 4)))
    batches = [torch.randint(256, (2, num_clips, 3, 4, 4), dtype=torch.uint8) for num_clips in (5, 6, 1, 5, 70)]
    results = [graphs(frames) for frames in batches]
    assert {shape[1] for shape in places} == {6, 1}
    for frames, result in zip(batches, results, strict=True):
        assert torch.equal(result, frames.float().mean((0, 2, 3, 4)))
