"""One video or image, all heads: what is it called in each label space the model was trained on?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from cover.catalog.manifest import ManifestRow
from cover.catalog.suffixes import MEDIA_SUFFIXES, Kind
from cover.evaluation.ranking import RankedClasses, top_classes
from cover.media.augment import crop, evaluation_boxes
from cover.media.decode import decode_clip

PredictHeads = Callable[[Tensor], dict[str, Tensor]]
"""uint8 frames [T,B,C,Y,X] -> {dataset: float logits [B,classes]} of every head, both on the CPU."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one file, per head."""

    file: Path
    kind: Kind
    heads: dict[str, RankedClasses]


def predict_file(
    predict_heads: PredictHeads,
    path: str | Path,
    *,
    class_names: Mapping[str, Sequence[str]],
    num_frames: int,
    crop_px: int,
    num_clips: int = 1,
    num_crops: int = 3,
    num_classes_shown: int = 5,
) -> Prediction:
    """Classify a file with every head, averaging logits over num_clips x num_crops views (an image has one clip).

    class_names: of every head, in label order. Raises DecodeError, naming the file, when it gives no frames.
    """
    path = Path(path)
    kind = media_kind(path)
    row = ManifestRow(sample_id=path.name, path=str(path), label=0)
    views_tcyx: list[Tensor] = []
    for clip in range(num_clips if kind == "video" else 1):
        frames = decode_clip(row, kind, num_frames, clip=clip, num_clips=num_clips, short_side_px=crop_px)
        boxes = evaluation_boxes(frames.shape[2], frames.shape[1], num_crops=num_crops)
        views_tcyx += [crop(frames, box, crop_px) for box in boxes]
    logits = predict_heads(torch.stack(views_tcyx, dim=1))
    heads = {name: top_classes(logits[name].mean(0), names, num_classes_shown) for name, names in class_names.items()}
    return Prediction(path, kind, heads)


def media_kind(path: Path) -> Kind:
    """By suffix; a file whose suffix may mean both, or neither, is an image if Pillow finds one picture in it."""
    may_be_video, may_be_image = (path.suffix.lower() in MEDIA_SUFFIXES[kind] for kind in ("video", "image"))
    if may_be_video != may_be_image:
        return "video" if may_be_video else "image"
    try:
        with Image.open(path) as image:
            return "video" if getattr(image, "is_animated", False) else "image"
    except OSError:
        return "video"  # whose decoder says what is wrong with it, if anything


def prediction_table(prediction: Prediction) -> Table:
    """One row a head: its classes with their probabilities in percent."""
    table = Table(title=escape(f"{prediction.file} ({prediction.kind})"), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("head")
    table.add_column("classes, most probable first (%)")
    for name, ranked in prediction.heads.items():
        classes = ", ".join(f"{class_name} {100 * probability:.1f}" for class_name, probability in ranked)
        table.add_row(escape(name), escape(classes))
    return table


def predictions_json(predictions: Sequence[Prediction]) -> str:
    """A JSON list: {"file", "kind", "heads": {head: [{"class", "probability"}, …]}} a file."""
    return json.dumps(
        [
            {
                "file": str(prediction.file),
                "kind": prediction.kind,
                "heads": {
                    name: [{"class": class_name, "probability": probability} for class_name, probability in ranked]
                    for name, ranked in prediction.heads.items()
                },
            }
            for prediction in predictions
        ],
        indent=2,
    )
