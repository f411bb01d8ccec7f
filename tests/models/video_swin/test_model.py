from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from tests.family_runs import check_that_clips_ignore_their_company
from tests.models.video_swin.oracle import SMALL
from torch import Tensor

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier, empty_model
from cover.models.create import create_model, num_parameters
from cover.models.cuda_graphs import ClipGraphs
from cover.models.kernels.relative_bias import plain_expand
from cover.models.kernels.window import permuted
from cover.models.linear import use_float8
from cover.models.video_swin import FAMILY
from cover.models.video_swin.config import VideoSwinConfig, VideoSwinSection
from cover.models.video_swin.model import resize_bias_table
from cover.models.video_swin.windows import Grid, cut


def small_model(**settings: Any) -> VideoClassifier:
    """A model in which every parameter matters."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"window": (2, 2, 2), "image_size": 32, "heads": {"k400": 5, "imagenet": 4}}
    model = create_model("video_swin_tiny", **SMALL | defaults | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def clips(num_frames: int, num_clips: int, size: int = 32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size, size)


@pytest.mark.parametrize(
    ("settings", "num_classes", "parameters", "giga_multiply_adds"),
    [
        ({"variant": "video_swin_tiny"}, 400, 28_158_070, 87.76),
        ({"variant": "video_swin_small"}, 400, 49_816_678, 165.68),
        ({"variant": "video_swin_base"}, 400, 88_048_984, 281.33),
        ({"variant": "video_swin_large"}, 400, 196_953_916, 603.27),
        ({"variant": "video_swin_large", "window": (8, 12, 12), "image_size": 384}, 400, 199_999_516, 2106.38),
        ({"variant": "video_swin_base", "window": (16, 7, 7)}, 174, 88_834_038, 320.36),
    ],
)
def test_sizes_and_costs_are_the_published_ones(
    settings: dict[str, Any], num_classes: int, parameters: int, giga_multiply_adds: float
) -> None:
    config = FAMILY.configure(VideoSwinSection(**settings), {"head": num_classes})
    assert num_parameters(config) == parameters
    assert empty_model(config).multiply_adds(32, ["head"]) / 1e9 == pytest.approx(giga_multiply_adds, abs=0.005)


def test_layers_are_numbered_from_the_input_to_the_heads() -> None:
    model = small_model(depths=(1, 2))
    numbers = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    expected = {
        "backbone.patch_embed.norm.bias": 0,
        "backbone.layers.0.blocks.0.norm1.bias": 1,
        "backbone.layers.0.downsample.norm.bias": 1,
        "backbone.layers.1.blocks.0.mlp.fc1.bias": 2,
        "backbone.layers.1.blocks.1.mlp.fc1.bias": 3,
        "backbone.norm.bias": 4,
        "heads.k400.bias": 4,
    }
    assert {name: numbers[name] for name in expected} == expected and model.num_layers == 4
    assert len(model.backbone.units()) == 3


def test_an_image_is_two_equal_frames() -> None:
    model, image = small_model(), clips(1, 2)
    torch.testing.assert_close(
        model({"imagenet": image})["imagenet"], model({"imagenet": image.repeat(2, 1, 1, 1, 1)})["imagenet"]
    )


def test_reversing_the_frames_changes_the_answer() -> None:
    model, frames = small_model(), clips(8, 2)
    forward, backward = (model({"k400": clip})["k400"] for clip in (frames, frames.flip(0)))
    assert (forward - backward).abs().max() > 0.01


@pytest.mark.parametrize("window", [(2, 2, 2), (4, 3, 3)])
def test_a_clip_does_not_depend_on_its_company(window: tuple[int, int, int]) -> None:
    """Also with drop path, which the seed of each clip decides."""
    check_that_clips_ignore_their_company(small_model(drop_path_rate=0.5, window=window))


def test_in_float8_it_strays_as_its_numbers_do() -> None:
    """float8 has five bits less than bfloat16 and would err 32 times as much, if nothing else was rounded."""
    model = small_model().train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    frames = clips(4, 3)

    def logits_and_gradients(dtype: torch.dtype) -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = model({"k400": frames, "imagenet": frames[:1]})
        torch.stack([values.float().square().mean() for values in logits.values()]).sum().backward()
        parts = [*logits.values(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)]
        return torch.cat([part.detach().float().flatten() for part in parts])

    expected, half = logits_and_gradients(torch.float32), logits_and_gradients(torch.bfloat16)
    use_float8(model)
    error, half_error = ((found - expected).norm() for found in (logits_and_gradients(torch.bfloat16), half))
    assert 3 * half_error < error < 16 * half_error


@pytest.mark.needs_cuda
def test_graphs_of_any_shapes_compute_what_the_model_does() -> None:
    """The tables of a new shape are made while its graph is recorded, and are not part of the graph's memory."""
    model = small_model().cuda()
    graphs = ClipGraphs(lambda frames: model.predict(frames)["k400"])
    with torch.inference_mode():
        for num_clips in (1, 2, 3, 2, 1, 3):
            frames = torch.randint(256, (8, num_clips, 3, 32, 32), dtype=torch.uint8, device="cuda")
            found = graphs(frames).clone()
            torch.testing.assert_close(found, model.predict(frames)["k400"], atol=1e-4, rtol=1e-4)


def test_every_token_has_one_place_and_windows_of_a_size_are_together() -> None:
    grids = (Grid((4, 5, 6), 2), Grid((2, 5, 6), 3), Grid((1, 5, 6), 1), Grid((8, 5, 6), 1))
    windows = cut(grids, (2, 3, 3), (1, 1, 1))
    assert windows.num_tokens == 2 * 120 + 3 * 60 + 30 + 240
    everything = torch.arange(len(windows.places_M))
    assert torch.equal(windows.places_M.sort().values, everything)  # after the tokens, a number for each empty place
    assert torch.equal(windows.places_M[windows.tokens_M], everything)
    sizes = [run.size for run in windows.runs]
    assert sizes == sorted(sizes) and len(sizes) == 4 + 8
    assert sum(run.num_windows * prod(run.size) for run in windows.runs) == len(windows.places_M)


def test_rows_in_another_order_have_their_gradients() -> None:
    rows, order = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(permuted(rows, order, order.argsort()), rows[order])
    assert torch.autograd.gradcheck(lambda values: permuted(values**2, order, order.argsort()), rows)


def test_the_bias_of_two_tokens_is_that_of_their_distance() -> None:
    window, size = (3, 4, 4), (2, 4, 3)
    table = torch.randn(5 * 7 * 7, 2)
    found = plain_expand(table, size, window)
    places = [(t, y, x) for t in range(size[0]) for y in range(size[1]) for x in range(size[2])]
    for i, query in enumerate(places):
        for j, key in enumerate(places):
            t, y, x = (a - b + length - 1 for a, b, length in zip(query, key, window, strict=True))
            assert torch.equal(found[:, i, j], table[(t * 7 + y) * 7 + x])


def test_a_bias_table_keeps_its_values_at_the_distances_that_both_windows_have() -> None:
    table = torch.randn(3 * 5 * 5, 2)
    assert torch.equal(resize_bias_table(table, (2, 3, 3)), table)
    grown = resize_bias_table(table, (2, 5, 5)).view(3, 9, 9, 2)
    torch.testing.assert_close(grown[:, ::2, ::2], table.view(3, 5, 5, 2))
    longer = resize_bias_table(table, (3, 3, 3)).view(5, 5, 5, 2)
    torch.testing.assert_close(longer[::2], table.view(3, 5, 5, 2))
    image = torch.randn(5 * 5, 2)
    assert torch.equal(resize_bias_table(image, (2, 3, 3)).view(3, 25, 2), image.expand(3, 25, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depths": (2, 2, 2)}, r"depths are \[2, 2, 2\] and num_heads \[1, 2\]; give both one number for each"),
        ({"num_heads": (1, 3)}, "num_heads 3 of stage 2 does not divide its width 32; change one of them"),
        ({"window": (64, 32, 32)}, r"window is \[64, 32, 32\]; give slots of time, rows and columns, together at most"),
        ({"window": (8, 7)}, "window takes more values than 2"),
        ({"patch_size": 16}, "unknown key 'patch_size'"),
        ({"width": 0}, "width = 0: input should be greater than 0"),
    ],
)
def test_settings_that_fit_no_model_are_refused_in_a_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CoverError, match=message) as error:
        create_model("video_swin_tiny", **SMALL | settings, heads={"k400": 5})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values", [{"window": [8, 7]}, {"depths": "22"}, {"depths": [2, -1]}, {"depths": [2, 60_000]}, {"width": 10**9}]
)
def test_a_damaged_configuration_is_refused(values: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"width": 16, "depths": [2, 2], "num_heads": [1, 2]}
    with pytest.raises(CoverError):
        VideoSwinConfig(**sizes | values)
