"""One picture for each dataset that shows what it looks like: a row of samples for each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from PIL import Image, ImageDraw

from cover.datasets.names import Kind
from cover.world.presets import DATASETS
from cover.world.world_dataset import SUFFIXES

_CELL_PX = (128, 96)
_LABEL_WIDTH_PX = 170
_NUM_COLUMNS = 8
_CLIP_STRIDE = 13  # so that the rows show different maps
_TEXT_COLOR = (255, 255, 255)
_Item = TypeVar("_Item")


def write_contact_sheets(out: Path, split: str = "train") -> list[Path]:
    """Write OUT/<dataset>-<split>.png for every rendered dataset.

    A row shows images of a class, or frames of one of its clips.

    Returns:
        The pictures.
    """
    sheets = []
    for dataset in DATASETS.values():
        folders = sorted(folder for folder in (out / dataset.name / split).glob("*") if folder.is_dir())
        rows = [_row(folder.name, _samples(folder, dataset.kind, row)) for row, folder in enumerate(folders)]
        if rows:
            sheet = out / f"{dataset.name}-{split}.png"
            Image.fromarray(np.concatenate(rows)).save(sheet)
            sheets.append(sheet)
    return sheets


def _samples(folder: Path, kind: Kind, row: int) -> Iterator[Image.Image]:
    files = sorted(folder.glob(f"*{SUFFIXES[kind]}"))
    if kind == "image":
        for file in _spread(files):
            with Image.open(file) as image:
                yield image
    else:
        with av.open(str(files[row * _CLIP_STRIDE % len(files)])) as container:
            yield from (frame.to_image() for frame in _spread(list(container.decode(video=0))))


def _spread(items: Sequence[_Item]) -> list[_Item]:
    """Pick at most one item a column, spread from the first to the last."""
    return [items[round(index)] for index in np.linspace(0, len(items) - 1, min(_NUM_COLUMNS, len(items)))]


def _row(label: str, samples: Iterator[Image.Image]) -> np.ndarray:
    row = Image.new("RGB", (_LABEL_WIDTH_PX + _NUM_COLUMNS * _CELL_PX[0], _CELL_PX[1]))
    ImageDraw.Draw(row).text((8, _CELL_PX[1] // 2 - 6), label, fill=_TEXT_COLOR)
    for column, sample in enumerate(samples):
        row.paste(sample.resize(_CELL_PX, Image.Resampling.BICUBIC), (_LABEL_WIDTH_PX + column * _CELL_PX[0], 0))
    return np.asarray(row)
