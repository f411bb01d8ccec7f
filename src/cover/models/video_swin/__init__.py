"""Video Swin (Liu et al., 2022): attention within shifted windows of space and time, in stages of falling resolution.

model.py, block.py     the layers
windows.py             how tokens are cut into windows
config.py              recipe keys, named sizes, config.json
formats.py             weights of other code bases
torchvision.py         export for torchvision
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cover.config.families import ModelSection
from cover.models.config import Heads, ModelConfig, class_names
from cover.models.family import BackboneFamily, settings_of
from cover.models.video_swin.config import FAMILY_NAME, VARIANTS, VideoSwinConfig, VideoSwinSection, variant_values

if TYPE_CHECKING:
    from cover.models.checkpoints.tensor_view import WeightFormat
    from cover.models.family import Exporter
    from cover.models.video_swin.model import VideoSwin


class VideoSwinFamily(BackboneFamily):
    """Video Swin for the rest of the library."""

    name = FAMILY_NAME
    section = VideoSwinSection
    config = VideoSwinConfig
    variants = VARIANTS

    def configure(self, section: ModelSection, heads: Heads, *, images_only: bool = False) -> VideoSwinConfig:
        """See BackboneFamily. With `images_only`, windows have one slot of time, as in an image Swin."""
        assert isinstance(section, VideoSwinSection)
        slots, rows, columns = section.window
        settings = settings_of(section) | variant_values(section)
        settings["window"] = (1 if images_only else slots, rows, columns)
        return VideoSwinConfig(heads={name: class_names(classes) for name, classes in heads.items()}, **settings)

    def backbone(self, config: ModelConfig) -> VideoSwin:
        """See BackboneFamily."""
        from cover.models.video_swin.model import VideoSwin

        assert isinstance(config, VideoSwinConfig)
        return VideoSwin(config)

    @property
    def formats(self) -> tuple[WeightFormat, ...]:
        """The published Video Swin, that of torchvision, and image Swins."""
        from cover.models.video_swin.formats import FORMATS

        return FORMATS

    @property
    def exporters(self) -> Mapping[str, Exporter]:
        """The torchvision library, which has a Video Swin."""
        from cover.models.video_swin.torchvision import export_torchvision

        return {"torchvision": export_torchvision}


FAMILY = VideoSwinFamily()
