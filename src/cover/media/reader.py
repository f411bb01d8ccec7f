"""Read the clip that a model sees for a row of a manifest: decode, then scale and crop."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cover.config.clips import ScaleJitter
from cover.datasets.manifest import Manifest
from cover.errors import DecodeError, RecipeError
from cover.media.augment import crop, erase, evaluation_boxes, jitter_colors, random_box, random_resized_box
from cover.media.cache import FrameCache
from cover.media.decode import decode_clip, decode_clips
from cover.media.randaugment import RandAugment
from cover.media.sampling import Window


@dataclass(frozen=True)
class ClipReader:
    """Reads the clips of a manifest at one length and resolution. Images are clips of one frame.

    Attributes:
        manifest: The samples.
        num_frames: T of a video clip.
        crop_px: The side of the square that the model sees.
        short_side_px: (min, max) that the short side is scaled to before a training crop.
        scale_jitter: How that size is drawn, see `random_box`.
        horizontal_flip: Whether training clips may be mirrored.
        temporal_jitter: Training frames at random times within T equal parts, instead of in their middle.
        window: The part of a video that a clip shows, at a random time in training; None is all of it.
        cache: Frames that were decoded before, for training: one or more for each of the T parts.
        view_cache: The same for evaluation: whole frames with a short side of at most `crop_px`, of one clip a video.
        mirror_pairs: Pairs of classes that become each other when a training clip is mirrored.
        random_resized_crop: (min, max) share of the area of a training crop, instead of `short_side_px`.
        color_jitter: As in `jitter_colors`, for training crops.
        random_erasing: How often a box of a training crop is erased.
        randaugment: Operations on the pixels of a training crop.

    Raises:
        RecipeError: The arguments contradict each other.
    """

    manifest: Manifest
    num_frames: int
    crop_px: int
    short_side_px: tuple[int, int]
    horizontal_flip: bool
    scale_jitter: ScaleJitter = "uniform"
    temporal_jitter: bool = False
    window: Window | None = None
    cache: FrameCache | None = None
    view_cache: FrameCache | None = None
    mirror_pairs: tuple[tuple[str, str], ...] = ()
    random_resized_crop: tuple[float, float] | None = None
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    randaugment: RandAugment = field(default_factory=RandAugment)

    def __post_init__(self) -> None:
        if not self.crop_px <= self.short_side_px[0] <= self.short_side_px[1]:
            raise RecipeError(
                f"short_side_px = {list(self.short_side_px)} with crops of {self.crop_px} px; "
                "it is [min, max]: raise min to at least the crop"
            )

    def train_clip(self, index: int, seed: int) -> Tensor:
        """Read a training clip.

        Args:
            index: The row of the manifest.
            seed: Determines times, crop, mirroring and augmentation.

        Returns:
            uint8 [T,3,crop,crop].

        Raises:
            DecodeError: The sample cannot be decoded; the message names the file.
        """
        return self.train_sample(index, seed)[0]

    @cached_property
    def mirrored_labels(self) -> list[int]:
        """The label of a mirrored clip, by the clip's own label (`mirror_pairs`)."""
        names = list(self.manifest.class_names)
        mirrored = list(range(len(names)))
        for left, right in self.mirror_pairs:
            one, other = names.index(left), names.index(right)
            mirrored[one], mirrored[other] = other, one
        return mirrored

    def train_sample(self, index: int, seed: int) -> tuple[Tensor, bool]:
        """Read a training clip as `train_clip` does, and say whether it is mirrored."""
        rng = np.random.default_rng(seed)
        if self.cache is not None:
            frames = self._one_of_each_part(self.cache[index], rng)
        else:
            frames = decode_clip(
                self.manifest[index],
                self.manifest.kind,
                self.num_frames,
                rng=rng if self.temporal_jitter else None,
                window=self.window,
                position=rng.random() if self.window is not None else 0.5,
                short_side_px=self.short_side_px[1],
            )
        height_px, width_px = frames.shape[1:3]
        flip_probability = 0.5 if self.horizontal_flip else 0.0
        if self.random_resized_crop is not None:
            box = random_resized_box(
                width_px, height_px, area=self.random_resized_crop, flip_probability=flip_probability, rng=rng
            )
        else:
            box = random_box(
                width_px,
                height_px,
                crop_px=self.crop_px,
                short_side_px=self.short_side_px,
                scale_jitter=self.scale_jitter,
                flip_probability=flip_probability,
                rng=rng,
            )
        clip = jitter_colors(crop(frames, box, self.crop_px), self.color_jitter, rng)
        return erase(self.randaugment(clip, rng), self.random_erasing, rng), box.flip

    def _one_of_each_part(self, frames: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        """Choose T frames of those that are cached for T equal parts: at random with temporal jitter."""
        per_part = len(frames) // self.num_frames
        if per_part <= 1:  # 0 for an image, which is one frame
            return frames
        chosen = rng.integers(per_part, size=self.num_frames) if self.temporal_jitter else per_part // 2
        kept: npt.NDArray[np.uint8] = frames[np.arange(self.num_frames) * per_part + chosen]
        return kept

    def views(self, index: int, *, num_clips: int = 1, num_crops: int = 3) -> Tensor:
        """Read all views of a sample for evaluation.

        Args:
            index: The row of the manifest.
            num_clips: Clips in time.
            num_crops: Crops of each clip.

        Returns:
            uint8 [V,T,3,crop,crop] with V = num_clips · num_crops, clip by clip.

        Raises:
            DecodeError: The sample cannot be decoded; the message names the file.
        """
        views: list[Tensor] = []
        for frames in self._whole_frames(index, num_clips):
            boxes = evaluation_boxes(frames.shape[2], frames.shape[1], num_crops=num_crops)
            views += [crop(frames, box, self.crop_px) for box in boxes]
        return torch.stack(views).contiguous()

    def _whole_frames(self, index: int, num_clips: int) -> Iterable[npt.NDArray[np.uint8]]:
        """Return uint8 [T,Y,X,3] for each clip.

        A cached clip that could not be decoded is tried again, because its file may have been repaired.
        """
        if self.view_cache is not None and num_clips == 1:
            with suppress(DecodeError):
                return (self.view_cache[index],)
        row, kind, side = self.manifest[index], self.manifest.kind, self.crop_px
        return decode_clips(row, kind, self.num_frames, num_clips=num_clips, window=self.window, short_side_px=side)
