from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.timesformers import backbone_of, config_of

from cover.models.classifier import VideoClassifier
from cover.models.create import create_model
from cover.models.timesformer.plain_forward import plain_forward


def lively_model(**settings: Any) -> VideoClassifier:
    """A model in which every parameter matters."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "width": 48,
        "num_heads": 3,
        "depth": 3,
        "num_frames": 4,
        "image_size": 32,
        "heads": {"moves": 5},
    }
    norm_pre = settings.pop("norm_pre", False)
    model = create_model("timesformer_tiny", **sizes | settings)
    model.normalise_as(replace(config_of(model.config), norm_pre=norm_pre))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize(
    ("num_frames", "settings"),
    [
        (4, {}),
        (6, {}),
        (1, {}),
        (1, {"image_temporal": "skip"}),
        (1, {"image_temporal": "linear"}),
        (4, {"attention": "joint"}),
        (4, {"attention": "space_only"}),
        (4, {"activation": "gelu_tanh"}),
        (4, {"activation": "quick_gelu", "norm_pre": True}),
        (4, {"attention": "joint", "norm_pre": True}),
    ],
)
def test_it_computes_what_the_model_does(num_frames: int, settings: dict[str, object]) -> None:
    model = lively_model(**settings)
    for size in ((32, 48), (32, 32)):
        frames = torch.randn(num_frames, 3, *size)
        forward = plain_forward(backbone_of(model), frames)
        expected = model.features(frames[:, None])[0]
        torch.testing.assert_close(forward.feature, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            model.heads["moves"](forward.feature), model.predict(frames[:, None])["moves"][0], atol=1e-5, rtol=1e-5
        )


def test_attention_probabilities_of_every_query_sum_to_one() -> None:
    blocks = plain_forward(backbone_of(lively_model()), torch.randn(4, 3, 32, 32)).blocks
    assert len(blocks) == 3
    for block in blocks:
        assert block.temporal is not None
        assert (block.temporal.shape, block.spatial.shape) == ((4, 3, 4, 4), (4, 3, 5, 5))
        for probabilities in (block.temporal, block.spatial):
            torch.testing.assert_close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))
    images = plain_forward(backbone_of(lively_model(image_temporal="skip")), torch.randn(1, 3, 32, 32)).blocks
    assert all(block.temporal is None for block in images)
