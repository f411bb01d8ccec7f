"""The interface of a backbone, which encodes clips: packed clips in, one feature per clip out.

Each family implements it in a folder of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from cover.config.families import TemporalInit
from cover.models.config import ModelConfig
from cover.models.packing import PackedClips

Resize = Literal["smooth", "published"]
"""How embeddings are resized to another grid or clip length.

smooth: bicubic in space, linear in time. published: nearest neighbour along one dimension, even in space, as in the
published code; use it only to check published numbers.
"""


class Attribution(NamedTuple):
    """How much each patch of a clip contributed. The shares of a clip sum to one.

    Attributes:
        relevance: Contribution to one class, float32 [T, rows, columns] on the CPU. All zero if no patch contributed.
        rollout: Attention to each patch, whatever the class. Same type and shape.
    """

    relevance: Tensor
    rollout: Tensor


class Backbone(nn.Module, ABC):
    """A clip encoder.

    All clips of a batch have one resolution. The family decides which resolutions and clip lengths it accepts; an image
    is a clip of one frame. Drop path depends only on the seed of each clip, so the feature of a clip does not depend on
    the rest of the batch.

    Attributes:
        config: The configuration of the model.
    """

    config: ModelConfig

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the size of a feature."""

    @abstractmethod
    def forward(self, clips: PackedClips) -> Tensor:
        """Encode clips.

        On a GPU, the kernels of one call are recorded as a CUDA graph and replayed for other clips. So decide only by
        `clips.groups` and shapes, never by values, and do not wait for the GPU. If a call does, there are no graphs.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            Features [B, D], in packed order.
        """

    @abstractmethod
    def units(self) -> Sequence[nn.Module]:
        """Return the repeated parts, from input to output. Each is recomputed, compiled and sharded by itself."""

    @abstractmethod
    def layer_of(self, parameter: str) -> int:
        """Return the layer of a parameter, for layer-wise learning rates.

        Args:
            parameter: Its name in `named_parameters()`.

        Returns:
            0 for parameters that embed the input, then 1, 2, … up to `num_layers`.
        """

    @property
    @abstractmethod
    def num_layers(self) -> int:
        """The number of the last layer. The heads have the same number."""

    @abstractmethod
    def multiply_adds(self, num_frames: int, height_px: int, width_px: int) -> int:
        """Return the multiply-adds of one clip's forward pass, counted as in the family's publication.

        Args:
            num_frames: Frames of the clip.
            height_px: Height of a frame.
            width_px: Width of a frame.
        """

    @abstractmethod
    def activation_bytes(self, num_frames: int, height_px: int, width_px: int, *, half: bool) -> float:
        """Estimate the bytes that the backward pass keeps for one clip, without recomputation.

        Args:
            num_frames: Frames of the clip.
            height_px: Height of a frame.
            width_px: Width of a frame.
            half: Whether the model computes in 16-bit precision.
        """

    def normalise_as(self, config: ModelConfig) -> None:
        """Adopt what belongs to a set of weights: normalisation of the input, epsilons, and what `adopted` names.

        Args:
            config: The configuration of the weights, of this family.
        """
        self.config = self.config.adopt(config)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = self.config.layer_norm_eps

    def init_weights(self, temporal_init: TemporalInit) -> None:
        """Initialise the parameters that do not belong to linear layers. Linear layers are initialised before.

        Args:
            temporal_init: How layers that mix frames start.
        """

    def start_from(self, name: str, available: Collection[str], temporal_init: TemporalInit) -> str | None:
        """Return the name of the source's tensor that the tensor `name` starts from.

        Args:
            name: A tensor of this model.
            available: The source's tensors, by our names.
            temporal_init: How layers that mix frames start if the source has none.

        Returns:
            One of `available`, or None if the source has nothing to start from.
        """
        return name if name in available else None

    def starts_at_zero(self, name: str, temporal_init: TemporalInit) -> bool:
        """Return whether the tensor `name` becomes zero when loaded weights lack it; otherwise it stays as it is."""
        return False

    def derive(self, lacking: Collection[str]) -> None:
        """Set tensors that loaded weights lack from the tensors that they have. By default, nothing.

        Args:
            lacking: The names of the tensors that the weights lack.
        """

    def resized(self, name: str, tensor: Tensor, target: Tensor, resize: Resize, source: ModelConfig) -> Tensor:
        """Return a source's tensor in the shape of ours. An embedding may be for another grid or clip length.

        Args:
            name: Our name of the tensor.
            tensor: The source's tensor, in float32 or float64.
            target: Our tensor.
            resize: How to resize it.
            source: The configuration of the source, as one of this family.
        """
        return tensor


class TokenBackbone(Backbone):
    """A clip encoder that also offers its tokens before they are pooled, which an attentive head needs."""

    @abstractmethod
    def tokens(self, clips: PackedClips) -> list[Tensor]:
        """Encode clips as in `forward`, and return all tokens after the last norm, without class tokens.

        The last norm and all blocks take part, so every parameter gets a gradient.

        Args:
            clips: Clips of any lengths, packed.

        Returns:
            The tokens [B, L, D] of clips of equal length, for each length, in packed order.
        """

    @abstractmethod
    def num_tokens(self, num_frames: int, height_px: int, width_px: int) -> int:
        """Return L, the tokens of one clip.

        Args:
            num_frames: Frames of the clip.
            height_px: Height of a frame.
            width_px: Width of a frame.
        """
