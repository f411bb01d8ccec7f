"""Products in float8: rounding, transposition, and models that compute with them.

On CPUs the plain operations run, with torch's own product of float8. test_interpreted.py runs the kernels under
Triton's interpreter.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from cover.errors import RecipeError
from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.kernels import float8, mlp, products, residual
from cover.models.kernels.float8 import Float8
from cover.models.kernels.products import Weight
from cover.models.linear import Linear, freeze_weights, use_float8
from cover.training.parallel import recompute_blocks


def matrix_of(*shape: int, seed: int = 0) -> Tensor:
    """Rows of noise that differ in size by a factor of up to a thousand."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (3 * torch.rand(*shape[:-1], 1, generator=generator))
    return torch.randn(shape, generator=generator) * sizes


def exact(matrix: Float8) -> Tensor:
    return matrix.values.double() * matrix.scale[..., None]


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.double().norm())


def model_of(device: str = "cpu", **settings: Any) -> VideoClassifier:
    torch.manual_seed(0)
    small: dict[str, Any] = {"depth": 3, "width": 48, "num_heads": 3, "num_frames": 4, "image_size": 32}
    model = create_model("timesformer_tiny", heads={"videos": 5, "images": 4}, **small | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.to(device).train()


def logits_and_gradients(model: VideoClassifier, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """All logits and all gradients, each as one vector."""
    model.zero_grad()
    device = next(model.parameters()).device
    frames = torch.randint(256, (4, 3, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    clips = {"videos": frames.to(device), "images": frames[:1].to(device)}
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits = model(clips)
    torch.stack([values.float().square().mean() for values in logits.values()]).sum().backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat([values.detach().float().flatten() for values in logits.values()]), torch.cat(gradients)


def errors(device: str, **settings: Any) -> tuple[list[float], list[float]]:
    """Of logits and of gradients, against those in float32: in float8, and in bfloat16."""
    model = model_of(device, **settings)
    expected = logits_and_gradients(model, torch.float32)
    half = logits_and_gradients(model, torch.bfloat16)
    use_float8(model)
    found = logits_and_gradients(model, torch.bfloat16)
    in_float8, in_bfloat16 = ([error(*pair) for pair in zip(values, expected, strict=True)] for values in (found, half))
    return in_float8, in_bfloat16


def test_rounding_changes_numbers_by_a_sixteenth() -> None:
    matrix = matrix_of(5, 7, 48)
    matrix[2, 3] = 0
    rounded = float8.round_rows(matrix)
    assert torch.equal(rounded.scale.log2(), rounded.scale.log2().round())
    assert float(rounded.values.float().abs().amax()) > 224
    floor = 2**-14 * matrix.abs().amax(-1, keepdim=True)
    assert bool(((exact(rounded) - matrix).abs() <= (matrix.abs() / 16).maximum(floor / 16)).all())


@pytest.mark.parametrize("num_rows", [32, 37])
def test_transposing_rounds_nothing_again(num_rows: int) -> None:
    rounded = float8.round_rows(matrix_of(num_rows, 48).clamp(min=1))
    transposed = float8.transpose(rounded)
    assert transposed.values.shape == (48, 32 if num_rows == 32 else 48)
    assert torch.equal(exact(transposed)[:, :num_rows], exact(rounded).t())
    assert not exact(transposed)[:, num_rows:].any()


def test_products_err_as_two_rounded_operands_do() -> None:
    """A rounding error is uniform in ±1/32 of a power of two: 2.6 % of a number, and √2 times that of a product."""
    x, g, w, bias = matrix_of(2, 37, 48), matrix_of(74, 64, seed=1), matrix_of(64, 48, seed=2), matrix_of(64)
    weight = Weight.of(w.bfloat16(), float8=True)
    left, right = products.matched(x, weight.forward), products.matched(g, weight.backward)
    rows = x.flatten(0, 1).double()
    found_and_expected = {
        "product": (products.product(left, weight.forward, bias).flatten(0, 1), rows @ w.double().t() + bias),
        "data gradient": (products.data_gradient(right, weight.backward), g.double() @ w.double()),
        "weight gradient": (products.weight_gradient(right, left), g.double().t() @ rows),
    }
    for name, (found, expected) in found_and_expected.items():
        assert found.dtype == torch.bfloat16
        assert 0.02 < error(found, expected) < 0.05, name


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])
@pytest.mark.parametrize("settings", [{}, {"attention": "joint"}, {"attention": "space_only"}], ids=str)
def test_a_model_strays_as_its_numbers_do(device: str, settings: dict[str, Any]) -> None:
    """float8 has five bits less than bfloat16 and would err 32 times as much, if nothing else was rounded."""
    found, half = errors(device, **settings)
    for ours, bfloat16 in zip(found, half, strict=True):
        assert 4 * bfloat16 < ours < 16 * bfloat16


def test_without_autocast_a_model_computes_as_before() -> None:
    model = model_of()
    expected = logits_and_gradients(model, torch.float32)
    use_float8(model)
    assert all(torch.equal(*pair) for pair in zip(logits_and_gradients(model, torch.float32), expected, strict=True))


def test_recomputed_blocks_give_the_same_bits() -> None:
    model = model_of()
    use_float8(model)
    expected = logits_and_gradients(model, torch.bfloat16)
    recompute_blocks(model, 1)
    assert all(torch.equal(*pair) for pair in zip(logits_and_gradients(model, torch.bfloat16), expected, strict=True))


def test_frozen_weights_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of().eval()
    use_float8(model)
    frames = torch.randint(256, (4, 1, 3, 32, 32), dtype=torch.uint8)

    def logits() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return model.predict(frames)["videos"]

    expected = logits()
    freeze_weights(model)
    assert torch.equal(logits(), expected)
    monkeypatch.setattr(Weight, "of", None)
    assert torch.equal(logits(), expected)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (torch.nn.Linear(16, 16), r"this model has none; use \"bf16\""),
        (Linear(16, 36), r"has the width 36, and training.precision = 'fp8' takes multiples of 16; use \"bf16\""),
    ],
    ids=["no layer", "odd width"],
)
def test_models_that_cannot_multiply_in_float8_are_refused(model: torch.nn.Module, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        use_float8(model)


@pytest.mark.needs_cuda
def test_kernels_round_and_transpose_as_the_plain_operations() -> None:
    compare_kernels("cuda")


@pytest.mark.needs_cuda
def test_a_step_gives_the_same_bits_twice() -> None:
    model = model_of("cuda")
    use_float8(model)
    first, second = (logits_and_gradients(model, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def same(found: Float8, expected: Float8) -> bool:
    return torch.equal(found.scale, expected.scale) and torch.equal(exact(found), exact(expected))


def compare_kernels(device: str) -> None:
    """Round and transpose by kernels and by plain operations, and compute and round at once and one after the other."""
    for shape in ((3, 37, 48), (130, 304)):
        for dtype in (torch.float32, torch.bfloat16):
            matrix = matrix_of(*shape).to(device, dtype)
            found, expected = float8.round_rows(matrix), float8.plain_round_rows(matrix)
            assert same(found, expected)
        values, scale = found.values.flatten(0, -2), found.scale.flatten()
        transposed, expected = float8.transpose(found), float8.plain_transpose(values, scale, scale.amax())
        assert same(transposed, expected)
    hidden, gradient = (torch.randn(70, 192).to(device, torch.bfloat16) for _ in range(2))
    plain = mlp.gelu(hidden)
    assert isinstance(plain, Tensor)
    in_float8 = cast(Float8, mlp.gelu(hidden, float8=True))
    assert same(in_float8, float8.round_rows(plain))
    active, rounded, sums = mlp.gelu_backward(hidden, gradient.clone(), in_float8.scale)
    plain_active, plain_gradient, plain_sums = mlp.gelu_backward(hidden, gradient.clone())
    assert same(cast(Float8, active), float8.round_rows(cast(Tensor, plain_active)))
    assert same(cast(Float8, rounded), float8.round_rows(cast(Tensor, plain_gradient)))
    torch.testing.assert_close(sums, plain_sums, rtol=2**-6, atol=2**-6)
    tokens = residual.Tokens(torch.randn(6, 5, 48).to(device, torch.bfloat16))
    added = residual.Residual(tokens.values, torch.zeros(48, device=device), None, "all")
    with torch.autocast(device, torch.bfloat16):
        _, normed = residual.add_normalise(tokens, added, (), 1e-6, float8=True)
        with torch.no_grad():
            _, inferred = residual.add_normalise(tokens, added, (), 1e-6, float8=True)
    assert same(cast(Float8, normed.operand), float8.round_rows(normed.exact))
    assert same(cast(Float8, inferred.operand), cast(Float8, normed.operand))
