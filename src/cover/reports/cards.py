"""Sample clips of a report: the frames that a model saw, and what each run predicts for them."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from cover.errors import DecodeError
from cover.evaluation.evaluate import Predict
from cover.evaluation.metrics import RankedClasses, class_probabilities, top_classes
from cover.evaluation.run_pair import Answer, Disagreement, RunPair
from cover.media.reader import ClipReader

NUM_CLASSES_SHOWN = 3
MAX_FRAMES_SHOWN = 8
MAX_FRAME_PX = 128
GAP_PX = 2

Frames = npt.NDArray[np.uint8]
"""Frames of one clip, uint8 [T,Y,X,3]."""


@dataclass(frozen=True)
class Strip:
    """One clip as a model saw it, and its most probable classes.

    Attributes:
        frames: The centre crop of a single clip.
        true_classes: The sample's class, or all of a multi-label sample.
        predictions: The `NUM_CLASSES_SHOWN` most probable classes.
    """

    dataset: str
    sample_id: str
    frames: Frames
    true_classes: tuple[str, ...]
    predictions: RankedClasses

    @property
    def correct(self) -> bool:
        """Whether the most probable class is one of the sample's."""
        return self.predictions[0][0] in self.true_classes


@dataclass(frozen=True)
class CardAnswer:
    """What one run predicts for a clip."""

    run: str
    correct: bool
    predictions: RankedClasses


@dataclass
class SampleCard:
    """One clip and what every run predicts for it.

    Attributes:
        image: The clip's frames side by side, as a data URI.
    """

    image: str
    num_frames: int
    num_frames_shown: int
    true_class: str
    answers: list[CardAnswer] = field(default_factory=list)


def sample_strips(
    predict: Predict, reader: ClipReader, name: str, num_samples: int, seed: int, *, is_sigmoid: bool = False
) -> list[Strip]:
    """Pick random clips of a dataset and predict their classes.

    Args:
        predict: The model.
        reader: The dataset's clips.
        name: The dataset's head.
        num_samples: How many clips to show; fewer if fewer can be decoded.
        seed: The same seed picks the same clips for every model.
        is_sigmoid: Whether the head's probabilities are sigmoids.
    """
    strips: list[Strip] = []
    for index in np.random.default_rng(seed).permutation(len(reader.manifest)).tolist():
        if len(strips) == num_samples:
            break
        try:
            strips.append(_strip(predict, reader, name, index, is_sigmoid))
        except DecodeError:
            continue  # the evaluation has already named and counted it
    return strips


def frames_of(reader: ClipReader, sample_ids: Collection[str]) -> dict[str, Frames]:
    """Decode the centre crops of chosen samples, by id; samples that are missing or unreadable are left out."""
    frames = {}
    for index, sample_id in enumerate(reader.manifest.table["sample_id"].to_pylist()):
        if sample_id in sample_ids:
            with suppress(DecodeError):
                frames[sample_id] = _pictures(reader.views(index, num_crops=1).transpose(0, 1))
    return frames


def sample_cards(strips: Mapping[str, Sequence[Strip]]) -> dict[str, list[SampleCard]]:
    """Group strips by run into cards by dataset; runs that saw the same sample share its card."""
    cards: dict[str, dict[str, SampleCard]] = {}
    for run, run_strips in strips.items():
        for strip in run_strips:
            of_dataset = cards.setdefault(strip.dataset, {})
            if strip.sample_id not in of_dataset:
                of_dataset[strip.sample_id] = _new_card(strip.frames, ", ".join(strip.true_classes))
            of_dataset[strip.sample_id].answers.append(CardAnswer(run, strip.correct, strip.predictions))
    return {dataset: list(of_dataset.values()) for dataset, of_dataset in cards.items()}


def disagreement_cards(
    pair: RunPair, samples: Sequence[Disagreement], frames: Mapping[str, Frames]
) -> list[SampleCard]:
    """Make a card of each sample whose frames are given; `frames` is by sample id."""
    cards = []
    for sample in samples:
        if sample.sample_id in frames:
            card = _new_card(frames[sample.sample_id], sample.true_class)
            card.answers = [
                _card_answer(run, answer, sample.true_class)
                for run, answer in ((pair.first_run, sample.first), (pair.second_run, sample.second))
            ]
            cards.append(card)
    return cards


def _strip(predict: Predict, reader: ClipReader, name: str, index: int, is_sigmoid: bool) -> Strip:
    class_names = reader.manifest.class_names
    row = reader.manifest[index]
    frames_tbcyx = reader.views(index, num_crops=1).transpose(0, 1)
    probabilities = class_probabilities(predict({name: frames_tbcyx})[name][0], is_sigmoid)
    return Strip(
        dataset=name,
        sample_id=row.sample_id,
        frames=_pictures(frames_tbcyx),
        true_classes=reader.manifest.classes_of(row),
        predictions=top_classes(probabilities, class_names, NUM_CLASSES_SHOWN),
    )


def _pictures(frames_tbcyx: Tensor) -> Frames:
    """The frames of the first clip."""
    return frames_tbcyx[:, 0].permute(0, 2, 3, 1).numpy()


def _card_answer(run: str, answer: Answer, true_class: str) -> CardAnswer:
    return CardAnswer(run, answer.class_name == true_class, ((answer.class_name, answer.probability),))


def _new_card(frames: Frames, true_class: str) -> SampleCard:
    num_frames = len(frames)
    num_shown = min(num_frames, MAX_FRAMES_SHOWN)
    shown = [Image.fromarray(frames[index]) for index in np.linspace(0, num_frames - 1, num_shown).round().astype(int)]
    for picture in shown:
        picture.thumbnail((MAX_FRAME_PX, MAX_FRAME_PX))
    pictures = np.stack([np.asarray(picture) for picture in shown])
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, GAP_PX), (0, 0)), constant_values=255)
    row = np.concatenate(list(padded), axis=1)[:, :-GAP_PX]
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, "JPEG", quality=85)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return SampleCard(uri, num_frames, num_shown, true_class)
