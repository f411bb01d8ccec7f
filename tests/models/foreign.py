"""Models in the formats of other code, with random weights: through that code where transformers has it, by hand
where not."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

LABELS = ("cat", "dog", "owl")
WIDTH, DEPTH, NUM_HEADS = 128, 2, 2


def create_vit(**settings: Any) -> ViTForImageClassification:
    """A small ViT of transformers in which every parameter matters."""
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": NUM_HEADS,
        "image_size": 32,
    }
    config = ViTConfig(
        **sizes
        | {"intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-6, "id2label": dict(enumerate(LABELS))}
        | settings
    )
    vit = ViTForImageClassification(config)
    vit.eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vit


def save_transformers_vit(vit: ViTForImageClassification, folder: Path, **options: Any) -> Path:
    vit.save_pretrained(folder, **options)
    ViTImageProcessorPil(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.2]).save_pretrained(folder)
    return folder


def timm_state(vit: ViTForImageClassification) -> dict[str, Tensor]:
    """The weights by timm's names, as in vit_base_patch16_224."""
    theirs = {name.removeprefix("vit."): tensor for name, tensor in saved_state(vit).items()}
    state = {
        "cls_token": theirs["embeddings.cls_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = theirs[f"embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = theirs[f"layernorm.{kind}"]
        state[f"head.{kind}"] = theirs[f"classifier.{kind}"]
        for i in range(DEPTH):
            layer, block = f"encoder.layer.{i}", f"blocks.{i}"
            qkv = [theirs[f"{layer}.attention.attention.{name}.{kind}"] for name in ("query", "key", "value")]
            state[f"{block}.norm1.{kind}"] = theirs[f"{layer}.layernorm_before.{kind}"]
            state[f"{block}.attn.qkv.{kind}"] = torch.cat(qkv)
            state[f"{block}.attn.proj.{kind}"] = theirs[f"{layer}.attention.output.dense.{kind}"]
            state[f"{block}.norm2.{kind}"] = theirs[f"{layer}.layernorm_after.{kind}"]
            state[f"{block}.mlp.fc1.{kind}"] = theirs[f"{layer}.intermediate.dense.{kind}"]
            state[f"{block}.mlp.fc2.{kind}"] = theirs[f"{layer}.output.dense.{kind}"]
    return state


def saved_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights by the names that transformers writes into files."""
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def save_timm(vit: ViTForImageClassification, folder: Path) -> Path:
    """A folder as timm keeps it on the hub, but with PyTorch's file."""
    folder.mkdir()
    config = {"architecture": "vit_base_patch16_224", "num_classes": len(LABELS), "label_names": LABELS}
    config |= {"model_args": {"num_heads": vit.config.num_attention_heads, "embed_dim": WIDTH, "depth": DEPTH}}
    config |= {"pretrained_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(timm_state(vit), folder / "pytorch_model.bin")
    return folder


def jax_arrays(vit: ViTForImageClassification) -> dict[str, Any]:
    """The weights as the original ViT and AugReg have them in .npz files."""
    state = {name: tensor.numpy() for name, tensor in timm_state(vit).items()}
    num_heads = vit.config.num_attention_heads
    split = (WIDTH, num_heads, WIDTH // num_heads)
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(DEPTH):
        block, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for j, name in enumerate(("query", "key", "value")):
            rows = slice(j * WIDTH, (j + 1) * WIDTH)
            arrays[f"{attention}/{name}/kernel"] = state[f"{ours}.attn.qkv.weight"][rows].T.reshape(split)
            arrays[f"{attention}/{name}/bias"] = state[f"{ours}.attn.qkv.bias"][rows].reshape(split[1:])
        arrays[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(*split[1:], WIDTH)
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for theirs, name in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            arrays[f"{block}/{theirs}/scale"] = state[f"{ours}.{name}.weight"]
            arrays[f"{block}/{theirs}/bias"] = state[f"{ours}.{name}.bias"]
        for theirs, name in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            arrays[f"{block}/MlpBlock_3/{theirs}/kernel"] = state[f"{ours}.mlp.{name}.weight"].T
            arrays[f"{block}/MlpBlock_3/{theirs}/bias"] = state[f"{ours}.mlp.{name}.bias"]
    return arrays


def save_jax(vit: ViTForImageClassification, path: Path, prefix: str = "") -> Path:
    np.savez(path, **{f"{prefix}{name}": array for name, array in jax_arrays(vit).items()})
    return path


def save_published(state: dict[str, Tensor], path: Path) -> Path:
    """state: weights by the published names, the head being "head"."""
    torch.save({"epoch": 15, "model_state": {f"model.{name}": tensor for name, tensor in state.items()}}, path)
    return path
