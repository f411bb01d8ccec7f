"""Features and gradients of the official V-JEPA 2.1 for random weights and clips, so that tests do not need its code.

    python tests/models/vjepa2/golden.py VJEPA2

writes the file again. VJEPA2 is a checkout of github.com/facebookresearch/vjepa2 at COMMIT.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

FILE = Path(__file__).with_name("golden.npz")
COMMIT = "16de6c80c258eab97f0517f69399576f06568cb9"
DEPTH, WIDTH, HEADS, PATCH = 12, 32, 2, 16
"""The official class takes 12 blocks or more. A head has 16 features: 4 for each axis, and 4 that do not turn."""
CLIPS = {"image": (1, 48), "tubelet": (2, 64), "video": (6, 80)}
"""{name: (frames, pixels a side)}."""


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random values of these shapes, in the order of their names, float64."""
    random = np.random.default_rng(seed)
    return {name: torch.from_numpy(random.normal(0, 0.2, shapes[name])) for name in sorted(shapes)}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The model's weights."""
    return draw(shapes, seed=0)


def clips() -> dict[str, Tensor]:
    """{name: two clips, [B, C, T, Y, X]}."""
    return draw({name: (2, 3, frames, side, side) for name, (frames, side) in CLIPS.items()}, seed=1)


def fingerprints(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """{name: the gradient's product with two random tensors of its shape, [2]}."""
    probes = draw({name: (2, *gradient.shape) for name, gradient in gradients.items()}, seed=2)
    return {name: (probes[name] * gradient).flatten(1).sum(1) for name, gradient in gradients.items()}


def create(checkout: Path) -> nn.Module:
    """The official class as its 2.1 configurations build it, but small."""
    for name, unused in (("timm.models.layers", "drop_path"), ("einops", "rearrange")):
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], unused, None)
    sys.path.insert(0, str(checkout))
    model: nn.Module = (
        import_module("app.vjepa_2_1.models.vision_transformer")
        .VisionTransformer(
            img_size=64,
            patch_size=PATCH,
            num_frames=6,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            use_rope=True,
            interpolate_rope=True,
            img_temporal_dim_size=1,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        .double()
    )
    return model


def write(checkout: Path) -> None:
    """Store shapes, features [B, D] and fingerprints of the gradients of the features' squares."""
    model = create(checkout)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights(shapes))
    stored: dict[str, np.ndarray] = {f"shape/{name}": np.array(shape) for name, shape in shapes.items()}
    for kind, frames in clips().items():
        model.zero_grad()
        features = model(frames).mean(1)
        features.square().sum().backward()
        stored[f"{kind}/features"] = features.detach().numpy()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        stored |= {f"{kind}/gradient/{name}": value.numpy() for name, value in fingerprints(gradients).items()}
    np.savez_compressed(FILE, **stored)  # type: ignore[arg-type]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
