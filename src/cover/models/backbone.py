"""What a backbone is: packed clips in, one feature a clip out. Each family has its own, in a folder of its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.config import ModelConfig
from cover.models.packing import PackedClips

Resize = Literal["smooth", "published"]
"""smooth: bicubic in 2-D, linear in time. published: nearest along one dimension, in space too, as the published code
does; needed only to check published numbers."""


class Attribution(NamedTuple):
    """What a class was recognised by: the share of each patch, summing to one.

    Attributes:
        relevance: float32 [T, rows, columns] on the CPU, for the class.
        rollout: The same, for no class in particular: where attention went.
    """

    relevance: Tensor
    rollout: Tensor


class Backbone(nn.Module, ABC):
    """A clip encoder.

    It accepts clips of any length that its family allows, of one resolution a batch; an image is a clip of one frame.
    Drop path is drawn from the seeds of the clips alone, so that a clip's feature does not depend on its company.

    Attributes:
        config: What it was built from.
    """

    config: ModelConfig

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the size of a feature."""

    @abstractmethod
    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips. Returns features [B, D] in packed order."""

    @abstractmethod
    def units(self) -> Sequence[nn.Module]:
        """The repeated parts, from the input to the output: what is recomputed, compiled and sharded one at a time."""

    @abstractmethod
    def layer_of(self, parameter: str) -> int:
        """The layer of a parameter, for layer-wise learning rates: 0 for what embeds the input, then 1, 2, …"""

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """The number of the last layer, which is also that of the heads."""

    @abstractmethod
    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """Multiply-adds of one clip, forward, each layer counted as its publication does."""

    @abstractmethod
    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """What the backward pass keeps of one clip, roughly, without recomputation. half: in 16-bit precision."""

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Set the parameters that are no weights of linear layers, which have been drawn already."""

    def start_from(self, name: str, available: Collection[str], temporal_init: TemporalInit) -> str | None:
        """The tensor of a source that the tensor `name` starts from, None where it has to start by itself.

        Args:
            name: Ours.
            available: What the source has, by our names.
            temporal_init: How layers that mix frames start where the source has none.
        """
        return name if name in available else None

    def starts_at_zero(self, name: str, temporal_init: TemporalInit) -> bool:
        """Whether a tensor that the source lacks is set to zero when weights are loaded."""
        return False

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize) -> Tensor:
        """The tensor of a source in the shape of ours, such as an embedding for another grid or clip length."""
        return tensor
