"""Sample clips on the page: a strip of frames, and what runs say about it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from cover.evaluation.classes import Answer, Disagreement, RunPair
from cover.evaluation.ranking import RankedClasses
from cover.reports.strips import Strip

MAX_FRAMES_SHOWN = 8
MAX_FRAME_PX = 128
GAP_PX = 2

Frames = npt.NDArray[np.uint8]
"""uint8 [T,Y,X,3]."""


@dataclass(frozen=True)
class CardAnswer:
    """What a run says."""

    run: str
    correct: bool
    predictions: RankedClasses


@dataclass
class SampleCard:
    """One clip and what every run says about it."""

    image: str
    num_frames: int
    num_frames_shown: int
    true_class: str
    answers: list[CardAnswer] = field(default_factory=list)


def sample_cards(strips: Mapping[str, Sequence[Strip]]) -> dict[str, list[SampleCard]]:
    """Run -> strips in, dataset -> cards out; runs that were asked about the same sample share its card."""
    cards: dict[str, dict[str, SampleCard]] = {}
    for run, run_strips in strips.items():
        for strip in run_strips:
            of_dataset = cards.setdefault(strip.dataset, {})
            if strip.sample_id not in of_dataset:
                of_dataset[strip.sample_id] = _new_card(strip.frames, strip.true_class)
            of_dataset[strip.sample_id].answers.append(CardAnswer(run, strip.correct, strip.predictions))
    return {dataset: list(of_dataset.values()) for dataset, of_dataset in cards.items()}


def disagreement_cards(
    pair: RunPair, samples: Sequence[Disagreement], frames: Mapping[str, Frames]
) -> list[SampleCard]:
    """Cards of those samples of which there are frames, by sample id."""
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
