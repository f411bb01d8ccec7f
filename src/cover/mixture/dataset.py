"""How one dataset takes part in a mixture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from cover.datasets.manifest import Manifest
from cover.errors import RecipeError
from cover.media.cache import FrameCache
from cover.media.mixing import Mixing
from cover.media.randaugment import RandAugment
from cover.media.reader import ClipReader


@dataclass(frozen=True)
class Dataset:
    """One dataset of a mixture.

    manifest: an open manifest, or the path of one.
    name: of the dataset and its head; None takes the manifest's.
    num_frames: T of a clip; an image is always one frame.
    loss_weight: w_i of the dataset's mean loss.
    horizontal_flip: whether half of the clips are mirrored; False where mirroring changes the label.
    rate: share of a batch relative to the rates of the other datasets; None everywhere samples in proportion to size.
    temporal_jitter: draw frames at random times within T equal parts of the clip, instead of in their middle.
    cache_frames: decode every sample once, before the first batch, and keep the frames in memory.
    cache_folder: where these frames are kept as files, which all processes that want the same ones map.
    randaugment: operations on the pixels of every clip; none by default.
    mixing: how clips are mixed with others of this dataset (mixup, CutMix); not at all by default.

    Raises RecipeError for values that cannot be.
    """

    manifest: Manifest | str | Path
    name: str | None = None
    num_frames: int = 8
    loss_weight: float = 1.0
    horizontal_flip: bool = True
    rate: float | None = None
    temporal_jitter: bool = False
    cache_frames: bool = False
    cache_folder: Path | None = None
    randaugment: RandAugment = field(default_factory=RandAugment)
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise RecipeError(f"num_frames is {self.num_frames}; a clip takes at least 1")
        if self.loss_weight < 0:
            raise RecipeError(f"loss_weight is {self.loss_weight}; a weight is 0 or more")
        if self.temporal_jitter and self.cache_frames:
            raise RecipeError(
                "temporal_jitter with cache_frames; a cache keeps one set of frames: switch one of them off"
            )
        if self.cache_folder and not self.cache_frames:
            raise RecipeError(
                f"cache_folder {self.cache_folder} without cache_frames, whose frames it keeps; switch cache_frames on"
            )

    def reader(self, *, crop_px: int, short_side_px: tuple[int, int]) -> ClipReader:
        """A reader of this dataset's clips, without its cache. Raises ManifestError, RecipeError."""
        manifest = self.manifest if isinstance(self.manifest, Manifest) else Manifest.open(self.manifest)
        num_frames = 1 if manifest.kind == "image" else self.num_frames
        return ClipReader(
            manifest,
            num_frames,
            crop_px,
            short_side_px,
            self.horizontal_flip,
            temporal_jitter=self.temporal_jitter,
            randaugment=self.randaugment,
        )

    def with_cache(self, reader: ClipReader, *, num_processes: int = 0) -> ClipReader:
        """The reader with every sample in memory, where the dataset asks for that; `num_processes` decode what is not.

        Raises CoverError as FrameCache.fill does.
        """
        if not self.cache_frames:
            return reader
        cache = FrameCache.fill(
            reader.manifest,
            num_frames=reader.num_frames,
            max_short_side_px=reader.short_side_px[1],
            num_processes=num_processes,
            folder=self.cache_folder,
        )
        return replace(reader, cache=cache)
