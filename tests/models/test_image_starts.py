"""Models start from image models: a still clip has the feature that the image model's own code gives the image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import save_file
from tests.models.foreign import saved_state
from tests.timesformers import config_of
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from cover.errors import CheckpointError
from cover.models.classifier import VideoClassifier, read_model, save_model
from cover.models.create import create_model
from cover.models.family import backbone_family, configure
from cover.models.loading import LoadReport, check_fits, load_weights
from cover.models.opening import load_model
from cover.models.sources import open_source
from cover.models.videomae.model import sine_positions

WIDTH, DEPTH, NUM_HEADS, IMAGE_PX, PATCH_PX = 32, 2, 2, 32, 8
SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": NUM_HEADS,
    "image_size": IMAGE_PX,
    "patch_size": PATCH_PX,
}


Model = TypeVar("Model", bound=nn.Module)


def randomised(model: Model) -> Model:
    """In float64, with weights that all matter."""
    for name, parameter in model.double().named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return model.eval()


def create_clip(**settings: Any) -> CLIPVisionModel:
    return randomised(CLIPVisionModel(CLIPVisionConfig(**SIZES | {"intermediate_size": 4 * WIDTH} | settings)))


def create_dinov2(**settings: Any) -> Dinov2Model:
    return randomised(Dinov2Model(Dinov2Config(**SIZES | {"mlp_ratio": 4} | settings)))


def create_siglip(**settings: Any) -> SiglipVisionModel:
    return randomised(SiglipVisionModel(SiglipVisionConfig(**SIZES | {"intermediate_size": 3 * WIDTH} | settings)))


def openai_names(clip: CLIPVisionModel) -> dict[str, Tensor]:
    """The weights as OpenAI's CLIP and OpenCLIP have them."""
    theirs = {name.removeprefix("vision_model."): tensor for name, tensor in saved_state(clip).items()}
    state = {
        "visual.class_embedding": theirs["embeddings.class_embedding"],
        "visual.positional_embedding": theirs["embeddings.position_embedding.weight"],
        "visual.conv1.weight": theirs["embeddings.patch_embedding.weight"],
        "visual.proj": torch.randn(WIDTH, 16),
        "logit_scale": torch.tensor(4.6),
        "positional_embedding": torch.randn(7, 24),
        "token_embedding.weight": torch.randn(9, 24),
        "transformer.resblocks.0.attn.in_proj_weight": torch.randn(72, 24),
        "transformer.resblocks.0.attn.in_proj_bias": torch.randn(72),
    }
    for kind in ("weight", "bias"):
        state[f"visual.ln_pre.{kind}"] = theirs[f"pre_layrnorm.{kind}"]
        state[f"visual.ln_post.{kind}"] = theirs[f"post_layernorm.{kind}"]
        for i in range(DEPTH):
            layer, block = f"encoder.layers.{i}", f"visual.transformer.resblocks.{i}"
            qkv = [theirs[f"{layer}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
            state[f"{block}.attn.in_proj_{kind}"] = torch.cat(qkv)
            for ours, other in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                state[f"{block}.{ours}.{kind}"] = theirs[f"{layer}.{other}.{kind}"]
    return state


TIMM = {
    "transformer.resblocks.": "blocks.",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj": "attn.proj",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
    "conv1": "patch_embed.proj",
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
}


def timm_names_of_clip(clip: CLIPVisionModel) -> dict[str, Tensor]:
    """The weights as timm's vit_base_patch16_clip_224 has them."""
    state = {}
    for name, tensor in openai_names(clip).items():
        tower, _, timms = name.partition("visual.")
        for theirs, other in TIMM.items():
            timms = timms.replace(theirs, other)
        if not tower and timms != "proj":
            state[timms] = tensor
    state["cls_token"], state["pos_embed"] = state["cls_token"][None, None], state["pos_embed"][None]
    return state


def official_names_of_dinov2(dinov2: Dinov2Model) -> dict[str, Tensor]:
    """The weights as dinov2_vitb14_pretrain.pth has them; timm uses the same names."""
    theirs = saved_state(dinov2)
    state = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "mask_token": theirs["embeddings.mask_token"],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = theirs[f"embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = theirs[f"layernorm.{kind}"]
    for i in range(DEPTH):
        layer, block = f"encoder.layer.{i}", f"blocks.{i}"
        for number in (1, 2):
            state[f"{block}.ls{number}.gamma"] = theirs[f"{layer}.layer_scale{number}.lambda1"]
        for kind in ("weight", "bias"):
            qkv = [theirs[f"{layer}.attention.attention.{name}.{kind}"] for name in ("query", "key", "value")]
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(qkv)
            state[f"{block}.attn.proj.{kind}"] = theirs[f"{layer}.attention.output.dense.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{block}.{name}.{kind}"] = theirs[f"{layer}.{name}.{kind}"]
    return state


def as_transformers(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def as_whole_clip(clip: CLIPVisionModel, folder: Path) -> Path:
    """Both towers in one folder, as they are published."""
    text = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    both = CLIPModel(CLIPConfig(vision_config=clip.config.to_dict(), text_config=text | {"vocab_size": 9})).double()
    both.vision_model.load_state_dict(clip.state_dict())
    return as_transformers(both, folder)


def as_openai(clip: CLIPVisionModel, path: Path) -> Path:
    torch.save(openai_names(clip), path)
    return path


def as_visual_tower(clip: CLIPVisionModel, path: Path) -> Path:
    names = openai_names(clip)
    torch.save({n.removeprefix("visual."): t for n, t in names.items() if n.startswith("visual.")}, path)
    return path


def as_open_clip(clip: CLIPVisionModel, folder: Path) -> Path:
    folder.mkdir()
    save_file(openai_names(clip), folder / "open_clip_model.safetensors")
    vision = {"layers": DEPTH, "width": WIDTH, "head_width": WIDTH // NUM_HEADS, "patch_size": PATCH_PX}
    config = {"model_cfg": {"quick_gelu": clip.config.hidden_act == "quick_gelu", "vision_cfg": vision}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def as_timm_clip(clip: CLIPVisionModel, folder: Path) -> Path:
    folder.mkdir()
    quick = "quickgelu_" if clip.config.hidden_act == "quick_gelu" else ""
    arguments = {"num_heads": NUM_HEADS, "embed_dim": WIDTH, "depth": DEPTH}
    config = {"architecture": f"vit_base_patch16_clip_{quick}224.laion2b", "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(timm_names_of_clip(clip), folder / "model.safetensors")
    return folder


def as_official_dinov2(dinov2: Dinov2Model, path: Path) -> Path:
    torch.save(official_names_of_dinov2(dinov2), path)
    return path


def in_memory(model: nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


def classifying_dinov2(dinov2: Dinov2Model, folder: Path) -> Path:
    whole = Dinov2ForImageClassification(dinov2.config).double()
    whole.dinov2.load_state_dict(dinov2.state_dict())
    return as_transformers(whole, folder)


def as_whole_siglip(siglip: SiglipVisionModel, folder: Path) -> Path:
    """Both towers in one folder, as they are published."""
    text = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    both = SiglipModel(SiglipConfig(vision_config=siglip.config.to_dict(), text_config=text | {"vocab_size": 9}))
    both.double().vision_model.load_state_dict(siglip.state_dict())
    return as_transformers(both, folder)


def as_timm_siglip(siglip: SiglipVisionModel, path: Path) -> Path:
    theirs = saved_state(siglip)
    state = {
        "pos_embed": theirs["embeddings.position_embedding.weight"][None],
        "attn_pool.latent": theirs["head.probe"],
        "attn_pool.q.weight": theirs["head.attention.in_proj_weight"][:WIDTH],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = theirs[f"embeddings.patch_embedding.{kind}"]
        state[f"norm.{kind}"] = theirs[f"post_layernorm.{kind}"]
        for i in range(DEPTH):
            layer, block = f"encoder.layers.{i}", f"blocks.{i}"
            state[f"{block}.attn.qkv.{kind}"] = torch.cat([theirs[f"{layer}.self_attn.{n}_proj.{kind}"] for n in "qkv"])
            state[f"{block}.attn.proj.{kind}"] = theirs[f"{layer}.self_attn.out_proj.{kind}"]
            for number in (1, 2):
                state[f"{block}.norm{number}.{kind}"] = theirs[f"{layer}.layer_norm{number}.{kind}"]
                state[f"{block}.mlp.fc{number}.{kind}"] = theirs[f"{layer}.mlp.fc{number}.{kind}"]
    torch.save(state, path)
    return path


Save = Callable[[Any, Path], Path]
CLIPS: dict[str, tuple[Save, str, str]] = {
    "transformers": (as_transformers, "transformers-clip", "quick_gelu"),
    "gelu": (as_transformers, "transformers-clip", "gelu"),
    "both towers": (as_whole_clip, "transformers-clip", "quick_gelu"),
    "openclip": (as_open_clip, "clip", "gelu"),
    "openclip quick": (as_open_clip, "clip", "quick_gelu"),
    "timm": (as_timm_clip, "timm-vit", "gelu"),
    "timm quick": (as_timm_clip, "timm-vit", "quick_gelu"),
}
DINOV2S: dict[str, tuple[Save, str]] = {
    "transformers": (as_transformers, "transformers-dinov2"),
    "classifier": (classifying_dinov2, "transformers-dinov2"),
    "memory": (in_memory, "transformers-dinov2"),
    "official": (as_official_dinov2, "dinov2"),
}


def start(path: Path, **settings: Any) -> tuple[VideoClassifier, LoadReport]:
    model = create_model(
        "timesformer_tiny",
        depth=DEPTH,
        width=WIDTH,
        num_heads=NUM_HEADS,
        patch_size=PATCH_PX,
        num_frames=4,
        heads={"d": 3},
        **{"image_size": IMAGE_PX} | settings,
    )
    model.double().eval()
    return model, load_weights(model, path)


def assert_still_clips_have(
    expected_BD: Tensor, model: VideoClassifier, images_BCYX: Tensor, lengths: Sequence[int] = (1, 4)
) -> None:
    for num_frames in lengths:
        features_BD = model.features(images_BCYX.expand(num_frames, -1, -1, -1, -1))
        torch.testing.assert_close(features_BD, expected_BD, rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
@pytest.mark.parametrize("kind", CLIPS)
@torch.no_grad()
def test_a_timesformer_starts_from_clip(kind: str, attention: str, tmp_path: Path) -> None:
    save, format, activation = CLIPS[kind]
    clip = create_clip(hidden_act=activation)
    model, report = start(save(clip, tmp_path / "clip"), attention=attention)
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    # With joint attention, a clip has one class token and the patches of all frames.
    lengths = (1,) if attention == "joint" else (1, 4)
    assert_still_clips_have(clip(images).pooler_output, model, images, lengths)
    assert report.format == format
    assert {"norm_pre.weight", "patch_embed.proj.weight"} <= {*report.loaded}
    assert "patch_embed.proj.bias: the source has none, so it starts at zero" in report.notes
    config = config_of(model.config)
    assert (config.activation, config.norm_pre, config.layer_norm_eps) == (activation, True, 1e-5)


@pytest.mark.parametrize("kind", DINOV2S)
@torch.no_grad()
def test_a_timesformer_starts_from_dinov2(kind: str, tmp_path: Path) -> None:
    save, format = DINOV2S[kind]
    dinov2 = create_dinov2()
    model, report = start(save(dinov2, tmp_path / "dinov2"))
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    assert_still_clips_have(dinov2(images).pooler_output, model, images)
    assert report.format == format and "blocks.0.attn.proj.weight" in report.loaded
    assert not [name for name in report.unused if "scale" in name or "gamma" in name]


@torch.no_grad()
def test_positions_of_another_size_are_resized_as_in_transformers(tmp_path: Path) -> None:
    """transformers resizes them in float32."""
    dinov2 = create_dinov2()
    model, report = start(as_official_dinov2(dinov2, tmp_path / "dinov2.pth"), image_size=48)
    assert report.resized == ["pos_embed"]
    images = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    torch.testing.assert_close(model.features(images[None]), dinov2(images).pooler_output, rtol=0, atol=1e-5)


@pytest.mark.parametrize("save", [as_openai, as_visual_tower])
@torch.no_grad()
def test_an_activation_that_a_file_does_not_state_is_the_users_choice(save: Save, tmp_path: Path) -> None:
    """OpenAI's and OpenCLIP's files have the same tensors, and other GELUs."""
    clip = create_clip()
    path = save(clip, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"\(clip\) does not state its activation, .*; set model.activation"):
        start(path)
    with pytest.raises(CheckpointError, match=r"\(clip\) does not state its num_heads and activation, and it is"):
        load_model(path)
    model, report = start(path, activation="quick_gelu")
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    assert_still_clips_have(clip(images).pooler_output, model, images)
    assert "activation: not stated by the file; taken from the model (quick_gelu)" in report.notes
    assert {"visual.proj", "proj"} & {*report.unused}
    assert "GELU not stated" in open_source(path).config.describe(open_source(path).not_stated)


def test_another_activation_than_that_of_the_weights_is_refused(tmp_path: Path) -> None:
    path = as_transformers(create_clip(), tmp_path)
    with pytest.raises(
        CheckpointError, match=r"has activation quick_gelu, this model has gelu; set model.activation = .quick_gelu"
    ):
        start(path, activation="gelu")
    model, _ = start(path)
    save_model(model.float(), tmp_path / "ours")
    with pytest.raises(CheckpointError, match="has activation quick_gelu, this model has gelu_tanh"):
        start(tmp_path / "ours", activation="gelu_tanh")


@torch.no_grad()
def test_what_came_with_weights_stays_with_them(tmp_path: Path) -> None:
    model, _ = start(as_transformers(create_clip(), tmp_path / "clip"))
    frames = torch.randint(256, (4, 2, 3, IMAGE_PX, IMAGE_PX), dtype=torch.uint8)
    save_model(model.float(), tmp_path / "ours")
    expected = model.features(frames)
    assert torch.equal(read_model(tmp_path / "ours").features(frames), expected)
    again = create_model(
        "timesformer_tiny", depth=DEPTH, width=WIDTH, num_heads=NUM_HEADS, patch_size=PATCH_PX, num_frames=4,
        image_size=IMAGE_PX, heads={"d": 3},
    ).eval()  # fmt: skip
    load_weights(again, tmp_path / "ours")
    assert torch.equal(again.features(frames), expected)
    load_weights(again, as_transformers(create_clip(), tmp_path / "other"))
    assert not torch.equal(again.features(frames), expected)


@torch.no_grad()
def test_a_model_loses_the_norm_that_new_weights_lack(tmp_path: Path) -> None:
    model, _ = start(as_transformers(create_clip(hidden_act="gelu"), tmp_path / "clip"))
    dinov2 = create_dinov2()
    load_weights(model, as_transformers(dinov2, tmp_path / "dinov2"))
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    assert_still_clips_have(dinov2(images).pooler_output, model, images)
    assert not config_of(model.config).norm_pre and not [n for n in model.state_dict() if "norm_pre" in n]


def test_a_source_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    state = openai_names(create_clip())
    state["visual.ln_post.bias"][3] = float("nan")
    torch.save(state, tmp_path / "clip.pt")
    model, _ = start(as_transformers(create_dinov2(), tmp_path / "dinov2"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = model.config
    with pytest.raises(CheckpointError, match="values that are NaN"):
        load_weights(model, tmp_path / "clip.pt")
    assert model.config == config and all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def start_videomae(path: Path, mlp_width: int, **settings: Any) -> tuple[VideoClassifier, LoadReport]:
    sizes: dict[str, Any] = {"depth": DEPTH, "width": WIDTH, "num_heads": NUM_HEADS, "patch_size": PATCH_PX}
    sizes |= {"mlp_width": mlp_width, "num_frames": 4, "image_size": IMAGE_PX}
    model = create_model("videomae_small", heads={"d": 3}, **sizes | settings).double().eval()
    return model, load_weights(model, path)


def encoded(image_model: Any, patches_BDYX: Tensor) -> Tensor:
    """The tokens after the blocks of an image model, for patches with a VideoMAE's positions, without a class token."""
    tokens_BND = patches_BDYX.flatten(2).mT
    tokens_BND = tokens_BND + sine_positions(tokens_BND.shape[1], WIDTH, tokens_BND.device).double()
    if isinstance(image_model, CLIPVisionModel):
        tokens_BND = image_model.pre_layrnorm(tokens_BND)
    if isinstance(image_model, Dinov2Model):
        for layer in image_model.encoder.layer:
            tokens_BND = layer(tokens_BND)
        return tokens_BND
    out: Tensor = image_model.encoder(inputs_embeds=tokens_BND).last_hidden_state
    return out


CLIP_PARTS = ("embeddings.patch_embedding", "post_layernorm")
VIDEOMAES: dict[str, tuple[Callable[[], Any], Save, tuple[str, str], dict[str, Any]]] = {
    "clip": (create_clip, as_transformers, CLIP_PARTS, {}),
    "dinov2": (create_dinov2, as_official_dinov2, ("embeddings.patch_embeddings.projection", "layernorm"), {}),
    "siglip": (create_siglip, as_transformers, CLIP_PARTS, {}),
    "both towers of siglip": (create_siglip, as_whole_siglip, CLIP_PARTS, {}),
    "timm siglip": (create_siglip, as_timm_siglip, CLIP_PARTS, {"activation": "gelu_tanh"}),
}


@pytest.mark.parametrize("tubelet_size", [1, 2])
@pytest.mark.parametrize("kind", VIDEOMAES)
@torch.no_grad()
def test_a_videomae_starts_from_an_image_model(kind: str, tubelet_size: int, tmp_path: Path) -> None:
    """Everything but positions, class token and pooling is that of the image model."""
    create, save, (embedding, norm), settings = VIDEOMAES[kind]
    image_model = create()
    mlp_width = 3 * WIDTH if "siglip" in kind else 4 * WIDTH
    path = save(image_model, tmp_path / "image model")
    model, report = start_videomae(path, mlp_width, tubelet_size=tubelet_size, **settings)
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    tokens_BND = encoded(image_model, image_model.get_submodule(embedding)(images))
    expected_BD = image_model.get_submodule(norm)(tokens_BND.mean(1))
    assert_still_clips_have(expected_BD, model, images, lengths=(1, tubelet_size))
    assert {"fresh", "unused"} <= report.outcomes().keys()
    assert [name for name in report.fresh if not name.startswith("heads.")] == []
    assert [name for name in report.unused if "pos" in name]


def test_a_siglip_without_its_settings_leaves_the_activation_to_the_user(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"\(timm-siglip\) does not state its activation, .*; set model.activation"
    ):
        start_videomae(as_timm_siglip(create_siglip(), tmp_path / "siglip.pth"), 3 * WIDTH)


def test_a_timesformer_cannot_start_from_a_model_without_class_token(tmp_path: Path) -> None:
    message = r"\(transformers-siglip\) has no class token, .*; set model.family = \"videomae\", or start from CLIP or"
    with pytest.raises(CheckpointError, match=message):
        start(as_transformers(create_siglip(), tmp_path))


def test_registers_and_dinov3_are_refused_by_name(tmp_path: Path) -> None:
    registers = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SIZES | {"mlp_ratio": 4, "num_register_tokens": 2})
    )
    with pytest.raises(CheckpointError, match=r"config.json: model_type = 'dinov2_with_registers': input should be"):
        start(as_transformers(registers, tmp_path / "registers"))
    state = official_names_of_dinov2(create_dinov2()) | {"register_tokens": torch.zeros(1, 4, WIDTH)}
    torch.save(state, tmp_path / "dinov2_reg4.pth")
    with pytest.raises(CheckpointError, match="like dinov2, but register_tokens has no place in a model of the family"):
        start(tmp_path / "dinov2_reg4.pth")
    dinov3 = DINOv3ViTModel(DINOv3ViTConfig(**SIZES | {"intermediate_size": 4 * WIDTH}))
    with pytest.raises(CheckpointError, match="looks like a 'dinov3_vit' model; cover loads its own models"):
        start(as_transformers(dinov3, tmp_path / "dinov3"))
    state = {name: tensor for name, tensor in state.items() if name != "pos_embed"}
    torch.save(state | {"rope_embed.periods": torch.ones(8)}, tmp_path / "dinov3.pth")
    with pytest.raises(CheckpointError, match=r"looks like dinov2, .*\(its positions are rotary, as in DINOv3\)"):
        start(tmp_path / "dinov3.pth")


def test_dinov2_giant_is_refused_because_of_its_mlp(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="use_swiglu_ffn = True: input should be False"):
        start(as_transformers(create_dinov2(use_swiglu_ffn=True), tmp_path))


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
@torch.no_grad()
def test_a_vivit_starts_from_an_image_model(kind: str, tmp_path: Path) -> None:
    create, save, _, _ = VIDEOMAES[kind]
    image_model = create()
    path = save(image_model, tmp_path / "image model")
    sizes: dict[str, Any] = {"depth": DEPTH, "width": WIDTH, "num_heads": NUM_HEADS, "patch_size": PATCH_PX}
    sizes |= {"num_frames": 4, "image_size": IMAGE_PX}
    model = create_model("vivit_base", heads={"d": 3}, **sizes).double().eval()
    load_weights(model, path)
    images = torch.randn(2, 3, IMAGE_PX, IMAGE_PX, dtype=torch.float64)
    assert_still_clips_have(image_model(images).pooler_output, model, images, lengths=(1,))


def test_models_of_videos_are_no_image_models(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"heads": {"d": 3}, "depth": 1, "width": WIDTH, "num_heads": 2, "image_size": IMAGE_PX}
    save_model(create_model("vivit_base", **sizes), tmp_path)
    with pytest.raises(CheckpointError, match=r"has weights of vivit, and model\.family is videomae; set it to vivit"):
        load_weights(create_model("videomae_base", **sizes), tmp_path)


@pytest.mark.parametrize("family", ["vjepa2", "video_swin", "mvit"])
def test_a_family_that_cannot_start_from_an_image_vit_names_those_that_can(family: str, tmp_path: Path) -> None:
    source = open_source(as_transformers(create_clip(), tmp_path))
    known = backbone_family(family)
    message = (
        rf"has weights of an image ViT, and model.family is {family}; set it to timesformer, videomae or vivit, or use"
    )
    with pytest.raises(CheckpointError, match=message):
        check_fits(source, configure(known.section(), {"k400": 2}))  # type: ignore[call-arg]
