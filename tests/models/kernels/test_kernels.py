"""Kernels compute what the plain operations beside them compute: on a GPU, and under Triton's interpreter
(test_interpreted.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cover.core.batch import ClipBatch
from cover.models.classifier import VideoClassifier
from cover.models.config import ViTConfig
from cover.models.create import create_model
from cover.models.kernels import backend, folding, mlp, qkv, residual, rotary, temporal, window

CASES: dict[str, dict[str, Any]] = {  # name: settings of the model
    "divided": {},
    "drop-path": {"drop_path_rate": 0.5, "image_temporal": "skip", "depth": 3, "num_heads": 1},  # with smaller tiles
    "space-only": {"attention": "space_only", "activation": "quick_gelu", "norm_pre": True},
    "joint": {"attention": "joint", "drop_path_rate": 0.5, "activation": "gelu_tanh"},
    "odd-sizes": {"width": 36, "num_heads": 3, "num_frames": 5},
    "tubelets": {"variant": "videomae_small", "drop_path_rate": 0.5},
    "windows": {
        "variant": "video_swin_tiny",
        "depths": (2, 1),
        "width": 32,
        "num_heads": (1, 1),
        "window": (2, 4, 4),
        "drop_path_rate": 0.5,
    },
    "rotary": {
        "variant": "vjepa2_large",
        "drop_path_rate": 0.5,
        "head": "attentive",
        "pooler_depth": 0,
        "pooler_heads": 3,
    },
    "class-tokens": {
        "variant": "vivit_base",
        "attention": "factorised_encoder",
        "activation": "gelu_tanh",
        "drop_path_rate": 0.5,
    },
    "time-and-space": {"variant": "vivit_base", "attention": "factorised_heads", "num_heads": 2},
    "long-clips": {},  # more frames than the kernel of temporal attention takes
}
QUICK_CASES = CASES.keys() - {"divided", "windows", "class-tokens", "time-and-space"}
"""Each case takes seconds, and "odd-sizes" is divided, too."""
Found = tuple[dict[str, Tensor], dict[str, Tensor]]


class Size(NamedTuple):
    """How large the cases are.

    most_frames: of a clip that the kernel of temporal attention is allowed to take.
    """

    depth: int
    width: int
    num_videos: int
    num_images: int
    most_frames: int


FULL = Size(depth=3, width=48, num_videos=3, num_images=5, most_frames=temporal.MOST_FRAMES)
QUICK = Size(depth=2, width=24, num_videos=2, num_images=3, most_frames=5)


@contextmanager
def plain_operations() -> Iterator[None]:
    """While entered, no kernel runs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (folding, mlp, qkv, residual, rotary, temporal, window):
            patch.setattr(module, "has_kernel", lambda _tensor: False)
        yield


def model_of(case: str, device: str, size: Size = FULL) -> VideoClassifier:
    torch.manual_seed(0)
    num_frames = size.most_frames + 1 if case == "long-clips" else 4
    small: dict[str, Any] = {
        "variant": "timesformer_tiny",
        "depth": size.depth,
        "width": size.width,
        "num_heads": 3,
        "num_frames": num_frames,
        "image_size": 32,
    }
    settings = small | CASES[case]
    if "depths" in settings:
        del settings["depth"]
    norm_pre = settings.pop("norm_pre", False)
    model = create_model(heads={"videos": 5, "images": 4}, **settings)
    if norm_pre:
        assert isinstance(model.config, ViTConfig)
        model.normalise_as(replace(model.config, norm_pre=norm_pre))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.to(device).train()


def batch_of(model: VideoClassifier, size: Size) -> dict[str, ClipBatch]:
    """Videos and images, of different numbers of clips."""
    generator, device = torch.Generator().manual_seed(1), next(model.parameters()).device

    def clips(dataset: str, num_frames: int, num_clips: int) -> ClipBatch:
        frames = torch.randint(256, (num_frames, num_clips, 3, 32, 32), dtype=torch.uint8, generator=generator)
        numbers = torch.arange(num_clips)
        return ClipBatch(dataset, frames, numbers * 0, ("",) * num_clips, numbers).to(device)

    num_frames = model.config.num_frames
    return {"videos": clips("videos", num_frames, size.num_videos), "images": clips("images", 1, size.num_images)}


def logits_and_gradients(model: VideoClassifier, dtype: torch.dtype = torch.float32, size: Size = FULL) -> Found:
    model.zero_grad()
    device = next(model.parameters()).device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        logits = model(batch_of(model, size))
    sum(values.float().square().mean() for values in logits.values()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: values.detach() for name, values in logits.items()}, gradients


def error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest |difference| of a tensor, by the norm of what is expected. A key's bias has no gradient but rounding,
    and is measured by that of its whole layer."""
    return max(
        float((found[name].double() - value.double()).norm() / value.double().norm())
        for name, value in expected.items()
    )


def errors(case: str, device: str, size: Size = FULL) -> dict[str, float]:
    """Of the kernels against the plain operations in float32."""
    model = model_of(case, device, size)
    with plain_operations():
        plain_logits, plain_gradients = logits_and_gradients(model, size=size)
    logits, gradients = logits_and_gradients(model, size=size)
    return {"logits": error(logits, plain_logits), "gradients": error(gradients, plain_gradients)}


def half_errors(case: str, device: str, dtype: torch.dtype, size: Size = FULL) -> tuple[float, float]:
    """Of the kernels and of the plain operations, in half precision, against float32; logits and gradients as one."""
    model = model_of(case, device, size)
    with plain_operations():
        expected = logits_and_gradients(model, size=size)
        plain = logits_and_gradients(model, dtype, size)
    found = logits_and_gradients(model, dtype, size)
    return joined_error(found[0] | found[1], expected[0] | expected[1]), joined_error(
        plain[0] | plain[1], expected[0] | expected[1]
    )


def split_error(device: str) -> float:
    """Of the class tokens out of a stream in two halves: what a LastBlock adds and normalises."""
    generator = torch.Generator().manual_seed(0)
    exact, values = (torch.randn(6, 5, 48, generator=generator).to(device) for _ in range(2))
    tokens = residual.Tokens.of(10 * exact, torch.bfloat16).map(lambda part: part[:, :1])
    assert tokens.rest is not None
    added = residual.Residual(values[:, :1].bfloat16(), torch.zeros(48, device=device), None, "all")
    with torch.autocast(device, torch.bfloat16):
        found, _ = residual.add_normalise(tokens, added, (), 1e-6)
    expected = 10 * exact[:, :1] + values[:, :1].bfloat16()
    return float((found.exact - expected).abs().max() / expected.abs().max())


def test_temporal_attention_without_a_kernel_that_fits_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    temporal.tile_rows.cache_clear()
    assert [temporal.tile_rows(8, 1024, element_bytes=2) for _ in range(2)] == [0, 0]
    (message,) = caplog.messages
    assert "8 frames with heads of 1024 numbers of 16 bits" in message


def test_gpus_without_support_are_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capabilities = [(7, 5), (8, 6)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_name", ["Tesla T4", "RTX 3060"].__getitem__)
    backend.supports_kernels.cache_clear()
    assert [backend.supports_kernels(device) for device in (0, 0, 1)] == [False, False, True]
    backend.supports_kernels.cache_clear()
    (message,) = caplog.messages
    assert "GPU 0 (Tesla T4) has compute capability 7.5" in message


@pytest.mark.needs_cuda
@pytest.mark.parametrize("case", CASES)
def test_kernels_equal_the_plain_operations(case: str) -> None:
    # The gradient of a bias table is a small difference of large sums, in either order.
    assert max(errors(case, "cuda").values()) < (2e-5 if case == "windows" else 5e-6)


@pytest.mark.needs_cuda
def test_half_precision_strays_no_further_than_that_of_plain_operations() -> None:
    """Both against float64; the plain operations round where the published code does."""
    model = model_of("divided", "cuda")
    with plain_operations():
        expected = logits_and_gradients(model.double())
        plain = logits_and_gradients(model.float(), torch.bfloat16)
    found = logits_and_gradients(model, torch.bfloat16)
    for part in (0, 1):
        assert joined_error(found[part], expected[part]) < 1.2 * joined_error(plain[part], expected[part])


def joined_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Over all tensors as one."""
    difference = torch.cat([(found[name].double() - value).flatten() for name, value in expected.items()])
    return float(difference.norm() / torch.cat([value.flatten() for value in expected.values()]).norm())


@pytest.mark.needs_cuda
def test_tokens_in_two_halves_lose_next_to_nothing() -> None:
    assert split_error("cuda") < 2**-15


@pytest.mark.needs_cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_kernels_in_half_precision_err_as_plain_operations_do(case: str, dtype: torch.dtype) -> None:
    ours, plain = half_errors(case, "cuda", dtype)
    assert ours < 1.5 * plain


@pytest.mark.needs_cuda
def test_a_step_gives_the_same_bits_twice() -> None:
    model = model_of("drop-path", "cuda")
    first, second = (logits_and_gradients(model, torch.bfloat16) for _ in range(2))
    for part in (0, 1):
        assert all(torch.equal(first[part][name], value) for name, value in second[part].items())
