"""Still images → one frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cover.media.faults import check_frame_size, decoding


def decode_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """uint8 [1,Y,X,3], RGB, turned upright by its EXIF orientation; of an animation the first frame.

    Transparent parts lie on white, as a page shows them; 16-bit grey keeps its upper 8 bits.

    Raises DecodeError, naming the file, for everything that gives no image.
    """
    path = Path(path)
    with decoding(path), Image.open(path) as image:
        check_frame_size(*image.size)
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))[None]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips to 255, which turns 16-bit images white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
