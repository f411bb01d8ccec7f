"""Open a model as it was saved, by this library or by another one, to use it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cover.errors import CheckpointError
from cover.models.architecture import complete_config
from cover.models.checkpoints.source import OWN_FORMAT, Source
from cover.models.classifier import VideoClassifier, empty_model, read_model
from cover.models.create import build
from cover.models.loading import load_weights, unstated
from cover.models.sources import open_source
from cover.models.weights import check_finite, load_exactly

logger = logging.getLogger(__name__)


def load_model(
    source: str | Path | Source, *, num_frames: int | None = None, image_size: int | None = None
) -> VideoClassifier:
    """Load a model for use, in evaluation mode. What its source does not state is assumed and named in the log.

    >>> model = load_model("runs/cotrain")  # doctest: +SKIP
    >>> logits = model.predict(frames)  # doctest: +SKIP

    Args:
        source: A run, which stands for its best checkpoint; a checkpoint; a folder that `save_pretrained` or
            `cover export` has written; a file or folder of another code base; "owner/name" from the local cache of the
            Hugging Face hub; or "hf://owner/name".
        num_frames: Frames of a clip, if other than in training. Embeddings are resized.
        image_size: Side of a frame in pixels, if other than in training.

    Raises:
        CheckpointError: The source is damaged or unknown, or does not state what a model needs.
        CoverError: The model takes no clips of that length or size.
    """
    opened = source if isinstance(source, Source) else open_source(source)
    model = read_model(opened.path) if opened.format == OWN_FORMAT else _foreign(opened)
    if not (num_frames or image_size):
        return model
    num_frames, image_size = num_frames or model.config.num_frames, image_size or model.config.image_size_px
    resized = build(replace(model.config, num_frames=num_frames, image_size_px=image_size))
    load_weights(resized, opened)
    return resized.eval()


def name_classes(model: VideoClassifier, names: Sequence[str], source: str) -> None:
    """Name the classes of a model whose file states no names.

    Args:
        model: Changed in place.
        names: The names in label order.
        source: Where they come from, for the message.

    Raises:
        CheckpointError: The model has several heads, or one of another number of classes.
    """
    sizes = [len(classes) for classes in model.config.heads.values()]
    if sizes != [len(names)]:
        found = f"heads of {', '.join(map(str, sizes))} classes" if sizes else "no head"
        raise CheckpointError(f"{source} names {len(names):,} classes, and the model has {found}; give its own list")
    model.backbone.config = replace(model.config, heads={head: tuple(names) for head in model.config.heads})


def _foreign(source: Source) -> VideoClassifier:
    config = complete_config(source)
    model = empty_model(config)
    tensors = {name: source.tensor(name).float() for name in source.shapes}
    for name, tensor in tensors.items():
        check_finite(source.path, name, tensor)
    load_exactly(model, tensors, source.path)
    model.normalise_as(config)
    for note in unstated(source, config):
        logger.warning("%s: %s", source.path, note)
    if "heads" in source.not_stated:
        logger.warning(
            "%s: class names: not stated by the file, so classes are numbers; name them once with: cover export %s "
            "DIR --to safetensors --classes NAMES.txt",
            source.path,
            source.path,
        )
    return model.eval()
