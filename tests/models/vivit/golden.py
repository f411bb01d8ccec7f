"""Logits and gradients of the official ViViT (JAX) for random weights and clips, so that tests need no JAX.

    python tests/models/vivit/golden.py SCENIC

writes the file again, in an environment with jax, flax, ml_collections, immutabledict and absl-py. SCENIC is a checkout
of github.com/google-research/scenic at COMMIT.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

FILE = Path(__file__).with_name("golden.npz")
CHECKPOINT = FILE.with_name("golden.msgpack")
COMMIT = "4a38d475ee89cb821078c0e2bf2065ee030e1535"
ATTENTION = {  # ours: theirs
    "joint": "spacetime",
    "factorised_encoder": "factorized_encoder",
    "factorised_attention": "factorized_self_attention_block",
    "factorised_heads": "factorized_dot_product_attention",
}
WIDTH, HEADS, MLP, DEPTH, TEMPORAL_DEPTH, PATCH, TUBELET, SIZE, FRAMES, CLASSES = 8, 2, 12, 2, 3, 2, 2, 4, 6, 3
"""TEMPORAL_DEPTH differs from DEPTH, so that it must be read from the file."""


class Mocks(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports what the layers do not use as mocks."""

    names = ("tensorflow", "clu", "tensorflow_datasets", "optax", "scipy", "grain", "dmvr", "flax.optim")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        known = name.split(".")[0] in self.names or name in self.names or "dataset" in name
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if known else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        module = mock.MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module

    def exec_module(self, module: Any) -> None:
        pass


def write(scenic: Path) -> None:
    """Draw weights and clips, and store them with the logits, and the gradients of the mean squares of the logits."""
    sys.meta_path.insert(0, Mocks())
    sys.path.insert(0, str(scenic))
    flax, jax = import_module("flax"), import_module("jax")

    jax.config.update("jax_enable_x64", True)
    random = np.random.default_rng(0)
    stored: dict[str, np.ndarray] = {}
    for attention in ATTENTION:
        model = create(attention)
        video, image = (random.uniform(-1, 1, (n, t, SIZE, SIZE, 3)) for n, t in ((2, FRAMES), (3, 1)))
        video, image = video.astype(np.float32).astype(float), image.astype(np.float32).astype(float)
        drawn = flax.traverse_util.flatten_dict(
            model.init(jax.random.PRNGKey(0), video, train=False)["params"], sep="/"
        )
        flat = {name: random.normal(0, 0.3, value.shape).astype(np.float32) for name, value in drawn.items()}

        def logits(flat: Any, model: Any = model, video: Any = video, image: Any = image) -> tuple[Any, Any]:
            def run(values: Any, clips: Any) -> Any:
                params = flax.traverse_util.unflatten_dict(values, sep="/")
                return model.apply({"params": params}, clips, train=False)

            still = np.repeat(image, TUBELET, axis=1)
            return run(flat, video), run({name: of_one_tubelet(name, value) for name, value in flat.items()}, still)

        wide = {name: value.astype(float) for name, value in flat.items()}
        found = logits(wide)
        gradients = jax.grad(lambda flat: sum((part**2).mean() for part in logits(flat)))(wide)
        parts = {"video": video.astype(np.float32), "image": image.astype(np.float32)}
        parts |= {f"logits.{name}": np.asarray(part) for name, part in zip(("video", "image"), found, strict=True)}
        parts["shapes"] = np.array(json.dumps({name: value.shape for name, value in flat.items()}))
        parts["weights"] = np.concatenate([value.ravel() for value in flat.values()])
        parts["gradients"] = np.concatenate([np.asarray(gradients[name]).ravel() for name in flat])
        stored |= {f"{attention}.{name}": value for name, value in parts.items()}
    np.savez_compressed(FILE, **stored)  # type: ignore[arg-type]
    write_checkpoint()


def write_checkpoint() -> None:
    """Store the weights of the factorised encoder in a checkpoint of Flax, as scenic does during training."""
    flax = import_module("flax")
    params = flax.traverse_util.unflatten_dict(read("factorised_encoder")["weights"], sep="/")
    momentum = {"momentum": params["output_projection"]["kernel"]}
    tree = {
        "global_step": np.int32(3),
        "optimizer": {"target": params, "state": {"step": 3, "param_states": {"output_projection": momentum}}},
        "model_state": {},
        "rng": np.zeros(2, np.uint32),
        "accum_train_time": 1.5,
    }
    CHECKPOINT.write_bytes(flax.serialization.msgpack_serialize(tree))


def read(attention: str) -> dict[str, Any]:
    """What the file has of a model: video, image, logits.video, logits.image, and {name: array} of both below."""
    with np.load(FILE) as stored:
        prefix = f"{attention}."
        parts: dict[str, Any] = {
            name.removeprefix(prefix): stored[name] for name in stored.files if name.startswith(prefix)
        }
    shapes: dict[str, tuple[int, ...]] = json.loads(str(parts.pop("shapes")))
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])[:-1]
    for kind in ("weights", "gradients"):
        arrays = np.split(parts[kind], ends)
        parts[kind] = {name: a.reshape(shape) for a, (name, shape) in zip(arrays, shapes.items(), strict=True)}
    return parts


def create(attention: str) -> Any:
    """The official model, in float64."""
    jnp, ml_collections = import_module("jax.numpy"), import_module("ml_collections")
    model = import_module("scenic.projects.vivit.model")
    settings: dict[str, Any] = {
        "num_classes": CLASSES,
        "patches": ml_collections.ConfigDict({"size": (PATCH, PATCH, TUBELET)}),
        "hidden_size": WIDTH,
        "temporal_encoding_config": ml_collections.ConfigDict({"method": "3d_conv"}),
        "attention_config": ml_collections.ConfigDict({"type": ATTENTION[attention], "attention_order": "time_space"}),
        "dropout_rate": 0.0,
        "attention_dropout_rate": 0.0,
        "dtype": jnp.float64,
    }
    sizes = {"mlp_dim": MLP, "num_layers": DEPTH, "num_heads": HEADS}
    if attention == "factorised_encoder":
        parts = {f"{part}_{name}": size for part in ("spatial", "temporal") for name, size in sizes.items()}
        return model.SpaceTimeViViT(**settings, classifier="token", **parts | {"temporal_num_layers": TEMPORAL_DEPTH})
    return model.ViViT(**settings, classifier="token" if attention == "joint" else "gap", **sizes)


def of_one_tubelet(name: str, value: Any) -> Any:
    """The weights of a model of one tubelet in time: its positions are the first ones."""
    if not name.endswith("pos_embedding") or name.startswith("Spatial"):
        return value
    per_tubelet = 1 if name.startswith("Temporal") else (SIZE // PATCH) ** 2
    rest = value.shape[1] % (FRAMES // TUBELET)  # 1 if there is a class token
    return value[:, : rest + per_tubelet]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
