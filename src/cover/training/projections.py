"""The projection loss: every head must also help to tell the classes of the other datasets.

A linear map W_ji takes the logits z_j of head j to the classes of dataset i. A clip of dataset i with label y then adds

    loss_i(z_i, y) + projection_weight · mean over j ≠ i of loss_i(W_ji z_j, y)

to the loss of its dataset. So a map learns which classes of two datasets mean the same, and a clip trains the heads of
all datasets. The maps have no bias. They learn like heads, with gradients through both sides, and are thrown away after
training. (J. Liang et al., "Multi-dataset Training of Transformers for Robust Action Recognition" (MultiTrain), NeurIPS
2022; the mean over j and the missing bias are those of the published code.)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from cover.models.classifier import PROJECTIONS, Heads


class Projections(Heads):
    """A linear map from the logits of each head to the classes of each other dataset.

    Initial weights are those of torch's linear layers, uniform within 1 / √(classes of head j).

    Args:
        num_classes: {dataset: its classes}.
        seed: Of the initial weights.
    """

    def __init__(self, num_classes: Mapping[str, int], seed: int) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        generator = torch.Generator().manual_seed(seed)
        for source, target in permutations(num_classes, 2):
            size = num_classes[source]
            layer = nn.Linear(size, num_classes[target], bias=False)
            with torch.no_grad():
                layer.weight.uniform_(-(size**-0.5), size**-0.5, generator=generator)
            self[projected(source, target)] = layer
            self.sources[projected(source, target)] = source

    def forward(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map logits {dataset: [B, its classes]} to {projected(j, i): [B, classes of i]}."""
        return {name: self[name](logits[source]) for name, source in self.sources.items()}


def projected(source: str, target: str) -> str:
    """The name of the logits that head `source` gives for the classes of dataset `target`."""
    return f"{source}->{target}"


def num_weights(num_classes: Mapping[str, int]) -> int:
    """How many weights Projections have."""
    return sum(num_classes[source] * num_classes[target] for source, target in permutations(num_classes, 2))


def is_projection_of(parameter: str, dataset: str) -> bool:
    """Whether a parameter, named as in `named_parameters()`, maps to or from a dataset's classes."""
    pair = parameter.removeprefix(PROJECTIONS).removesuffix(".weight")
    return parameter.startswith(PROJECTIONS) and (pair.startswith(f"{dataset}->") or pair.endswith(f"->{dataset}"))
