from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.family_runs import check_that_clips_ignore_their_company
from tests.models.mvit.oracle import SMALL
from torch import Tensor

from cover.errors import CoverError
from cover.models.classifier import VideoClassifier, empty_model, save_model
from cover.models.create import create_model, num_parameters
from cover.models.cuda_graphs import ClipGraphs
from cover.models.loading import load_weights
from cover.models.mvit import FAMILY
from cover.models.mvit.config import MViTConfig, MViTSection
from cover.models.mvit.model import MViT

VERSIONS = ("mvitv1_base", "mvitv2_small")


def small_model(variant: str = "mvitv2_small", *, images_only: bool = False, **settings: Any) -> VideoClassifier:
    """A model in which every parameter matters."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"num_frames": 8, "image_size": 32, "drop_path_rate": 0.0, "variant": variant}
    heads = {"k400": 5, "imagenet": 4}
    config = FAMILY.configure(MViTSection(**SMALL | values | settings), heads, images_only=images_only)
    model = VideoClassifier(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=1 if "pos" in name or "norm" in name else 0.3)
    return model.eval()


def clips(num_frames: int, num_clips: int, size: int = 32) -> Tensor:
    return torch.randn(num_frames, num_clips, 3, size, size)


@pytest.mark.parametrize(
    ("settings", "parameters", "giga_multiply_adds"),
    [
        ({"variant": "mvitv1_base"}, 36_610_672, 70.60),
        ({"variant": "mvitv1_base", "num_frames": 32}, 36_611_440, 169.96),
        ({"variant": "mvitv2_small"}, 34_537_744, 64.22),
        ({"variant": "mvitv2_base", "num_frames": 32}, 51_230_128, 224.47),
        ({"variant": "mvitv2_large", "num_frames": 40, "image_size": 312}, 213_390_112, 2823.40),
    ],
)
def test_sizes_and_costs_are_the_published_ones(
    settings: dict[str, Any], parameters: int, giga_multiply_adds: float
) -> None:
    """They also equal those of torchvision's class with these settings."""
    config = FAMILY.configure(MViTSection(**settings), {"head": 400})
    assert num_parameters(config) == parameters
    model = empty_model(config)
    assert model.multiply_adds(config.num_frames, ["head"]) / 1e9 == pytest.approx(giga_multiply_adds, abs=0.005)


def test_layers_are_numbered_from_the_input_to_the_heads() -> None:
    model = small_model("mvitv1_base")
    numbers = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    expected = {
        "backbone.patch_embed.proj.bias": 0,
        "backbone.cls_token": 0,
        "backbone.pos_embed_temporal": 0,
        "backbone.blocks.0.norm1.bias": 1,
        "backbone.blocks.3.attn.pool_k.weight": 4,
        "backbone.norm.bias": 5,
        "heads.k400.bias": 5,
    }
    assert {name: numbers[name] for name in expected} == expected and model.num_layers == 5
    assert len(model.backbone.units()) == 4


@pytest.mark.parametrize("variant", VERSIONS)
def test_an_image_is_not_a_clip_of_equal_frames(variant: str) -> None:
    """It meets the middle of each kernel. A clip that repeats it meets the kernels as a whole."""
    model, image = small_model(variant), clips(1, 2)
    once, twice = (model({"k400": image.repeat(n, 1, 1, 1, 1)})["k400"] for n in (1, 2))
    assert (once - twice).abs().max() > 0.01


@pytest.mark.parametrize("variant", VERSIONS)
def test_reversing_the_frames_changes_the_answer(variant: str) -> None:
    model, frames = small_model(variant), clips(7, 2)
    forward, backward = (model({"k400": clip})["k400"] for clip in (frames, frames.flip(0)))
    assert (forward - backward).abs().max() > 0.01


@pytest.mark.parametrize("variant", VERSIONS)
def test_an_image_model_has_no_sense_of_order(variant: str) -> None:
    model, frames = small_model(variant, images_only=True), clips(7, 2)
    torch.testing.assert_close(model({"k400": frames})["k400"], model({"k400": frames.flip(0)})["k400"])


def test_only_relative_positions_tell_up_from_down() -> None:
    """With symmetric kernels and without them, a clip that is turned upside down has the same answer."""
    model, frames = small_model(), clips(8, 2, size=33)  # 9, 5 and 3 tokens a side, with one at both edges
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data.copy_((module.weight + module.weight.flip(3)).detach() / 2)
    assert (model({"k400": frames.flip(3)})["k400"] - model({"k400": frames})["k400"]).abs().max() > 0.01
    for name, parameter in model.named_parameters():
        if "rel_pos_h" in name:
            parameter.data.zero_()
    torch.testing.assert_close(model({"k400": frames.flip(3)})["k400"], model({"k400": frames})["k400"])


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("variant", VERSIONS)
def test_a_clip_does_not_depend_on_its_company(variant: str, class_token: bool) -> None:
    """Also with drop path, which the seed of each clip decides."""
    check_that_clips_ignore_their_company(small_model(variant, drop_path_rate=0.5, class_token=class_token))


def test_a_model_of_videos_starts_from_one_of_images(tmp_path: Path) -> None:
    """Kernels are repeated over time and divided, so away from its ends, a still clip has the patches of the image."""
    image, video = small_model(images_only=True), small_model()
    save_model(image, tmp_path)
    report = load_weights(video, tmp_path)
    assert not report.unused and {name.rpartition(".")[2] for name in report.fresh} == {"rel_pos_t"}
    assert all("pool_" in name or name == "patch_embed.proj.weight" for name in report.resized)
    still = clips(1, 2)
    image_backbone, backbone = image.backbone, video.backbone
    assert isinstance(image_backbone, MViT) and isinstance(backbone, MViT)
    (expected,) = image_backbone.patch_embed(packed(image, still))
    (patches,) = backbone.patch_embed(packed(video, still.expand(8, -1, -1, -1, -1)))
    torch.testing.assert_close(patches[:, 1:], expected.expand(-1, 3, -1, -1, -1), atol=1e-5, rtol=1e-5)
    bias = backbone.patch_embed.proj.bias
    torch.testing.assert_close((patches[:, :1] - bias) * 3 / 2, expected - bias, atol=1e-5, rtol=1e-5)
    (of_image,) = backbone.patch_embed(packed(video, still))
    torch.testing.assert_close((of_image - bias) * 3, expected - bias, atol=1e-5, rtol=1e-5)
    for name, parameter in backbone.named_parameters():
        assert "rel_pos_t" not in name or not parameter.any()


def packed(model: VideoClassifier, frames: Tensor) -> Any:
    from cover.models.packing import PackedClips, pack

    found, _ = pack({"": frames})
    return PackedClips(found.frames_FCYX, found.groups, found.seeds_B, model.mean, model.std)


def test_a_model_of_images_starts_from_one_of_videos(tmp_path: Path) -> None:
    """It takes the middle of each kernel, which is what an image meets. So its patches are the same."""
    image, video = small_model(images_only=True), small_model()
    save_model(video, tmp_path)
    assert "blocks.0.attn.rel_pos_t" in load_weights(image, tmp_path).unused
    frames = clips(1, 2)
    patches = [model.backbone.patch_embed(packed(model, frames))[0] for model in (image, video)]  # type: ignore[operator]
    torch.testing.assert_close(*patches)


def test_kernels_of_half_precision_are_divided_in_float32(tmp_path: Path) -> None:
    image, video = small_model(images_only=True).half(), small_model()
    torch.save({f"model.{name}": tensor for name, tensor in image.backbone.state_dict().items()}, tmp_path / "i.pyth")
    load_weights(video, tmp_path / "i.pyth")
    kernel = image.state_dict()["patch_embed.proj.weight"].float()
    assert torch.equal(video.state_dict()["patch_embed.proj.weight"], (kernel / 3).expand(-1, -1, 3, -1, -1))


@pytest.mark.parametrize("variant", VERSIONS)
def test_positions_are_resized_for_another_length_and_size(variant: str, tmp_path: Path) -> None:
    """Relative positions that are resized once, when they are loaded, are what the model computes in every pass."""
    model = small_model(variant)
    save_model(model, tmp_path)
    other = small_model(variant, num_frames=12, image_size=48)
    resized = load_weights(other, tmp_path).resized
    assert any("temporal" in name or "rel_pos_t" in name for name in resized)
    frames = clips(12, 2, 48)
    torch.testing.assert_close(other({"k400": frames})["k400"], model({"k400": frames})["k400"], atol=1e-5, rtol=1e-5)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("variant", VERSIONS)
def test_graphs_of_any_shapes_compute_what_the_model_does(variant: str) -> None:
    model = small_model(variant).cuda()
    graphs = ClipGraphs(lambda frames: model.predict(frames)["k400"])
    with torch.inference_mode():
        for num_clips in (1, 2, 3, 2, 1, 3):
            frames = torch.randint(256, (8, num_clips, 3, 32, 32), dtype=torch.uint8, device="cuda")
            found = graphs(frames).clone()
            torch.testing.assert_close(found, model.predict(frames)["k400"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "width 8 is not a multiple of the 3 attention heads; change one of them"),
        ({"depths": (1,) * 9}, "give the number of blocks of each of 1 to 8 stages"),
        ({"widen_in": "norm"}, "widen_in = 'norm'"),
        ({"patch_size": 16}, "unknown key 'patch_size'"),
        ({"kv_stride": 0}, "kv_stride = 0: input should be greater than 0"),
    ],
)
def test_settings_that_fit_no_model_are_refused_in_a_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CoverError, match=message) as error:
        create_model("mvitv2_small", **SMALL | settings, heads={"k400": 5})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"version": 3}, {"depths": "22"}, {"depths": [2, -1]}, {"depths": [10**9, 1]}, {"width": 10**9},
        {"class_token": "yes"}, {"images_only": "no"},
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_refused(values: dict[str, Any]) -> None:
    sizes: dict[str, Any] = {"version": 2, "width": 8, "depths": [1, 2], "num_heads": 1, "widen_in": "mlp"}
    with pytest.raises(CoverError):
        MViTConfig(**sizes | values)
