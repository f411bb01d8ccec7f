"""Why a video or an image got a class: which patches of which frames spoke for it, and whether time mattered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import CoverError, printable
from cover.evaluation.metrics import class_probabilities
from cover.inference.views import Views
from cover.media.decode import probe_row
from cover.models.backbone import Attribution

PredictHead = Callable[[Tensor], Tensor]
"""uint8 frames [T,B,C,Y,X] → float logits [B,classes] of one head, both on the CPU."""
AttributeClass = Callable[[Tensor, int], Attribution]
"""uint8 frames [T,C,Y,X] of a clip, and a label of the head → relevance and rollout [T,rows,columns], on the CPU."""


@dataclass(frozen=True)
class Sensitivity:
    """How another order of the frames changes the probabilities p of a head's classes to q.

    Attributes:
        total_variation: ½ Σ_c |p_c − q_c|, from 0 (equal) to 1 (nothing in common). If each class has a probability of
            its own, the total variation of the class that changes most: max_c |p_c − q_c|.
        probability: q of the explained class.
    """

    total_variation: float
    probability: float


@dataclass(frozen=True)
class Explanation:
    """What one view of a file, the centre crop of a single clip, says about a class of a head.

    Attributes:
        probability: The probability of the class.
        predicted: The most probable class.
        frames: The frames as the model saw them, uint8 [T,Y,X,3].
        times_seconds: Their times; None for an image, and if the file does not state its duration.
        relevance: How much each patch spoke for the class, as a share of all, float32 [T,rows,columns].
        rollout: How much the model looked at each patch, as a share of all, float32 [T,rows,columns].
        backwards: The effect of reversing the frames; None for an image.
        frozen: The effect of showing `frozen_frame` at all times; None for an image.
    """

    file: Path
    kind: Kind
    head: str
    class_name: str
    probability: float
    predicted: str
    frames: npt.NDArray[np.uint8]
    times_seconds: tuple[float, ...] | None
    relevance: npt.NDArray[np.float32]
    rollout: npt.NDArray[np.float32]
    backwards: Sensitivity | None
    frozen: Sensitivity | None

    @property
    def relevance_of_frames(self) -> npt.NDArray[np.float32]:
        """Each frame's share of the relevance, [T]."""
        return np.asarray(self.relevance.sum((1, 2)))

    @property
    def rollout_of_frames(self) -> npt.NDArray[np.float32]:
        """Each frame's share of the rollout, [T]."""
        return np.asarray(self.rollout.sum((1, 2)))

    @property
    def frozen_frame(self) -> int:
        """The frame with the highest relevance."""
        return int(self.relevance_of_frames.argmax())

    def to_json(self) -> str:
        """Everything except the frames."""
        values = {
            "file": printable(self.file),
            "kind": self.kind,
            "head": self.head,
            "class": self.class_name,
            "probability": self.probability,
            "predicted": self.predicted,
            "frames": [
                {
                    "seconds": self.times_seconds and self.times_seconds[index],
                    "relevance": float(self.relevance_of_frames[index]),
                    "rollout": float(self.rollout_of_frames[index]),
                }
                for index in range(len(self.frames))
            ],
            "backwards": self.backwards and asdict(self.backwards),
            "frozen": self.frozen and {"frame": self.frozen_frame} | asdict(self.frozen),
            "relevance": self.relevance.tolist(),
            "rollout": self.rollout.tolist(),
        }
        return json.dumps(values, indent=2) + "\n"


@dataclass(frozen=True)
class FileClip:
    """The part of a file that is explained: the centre crop of a single clip.

    Attributes:
        frames: uint8 [T,C,Y,X].
        times_seconds: The frames' times; None for an image, and if the file does not state its duration.
    """

    file: Path
    kind: Kind
    frames: Tensor
    times_seconds: tuple[float, ...] | None


def read_file_clip(path: Path, views: Views) -> FileClip:
    """Decode a video, an image, or a folder of frames.

    Args:
        path: The file or folder.
        views: A single one.

    Raises:
        DecodeError: It cannot be decoded; the message names it.
    """
    read, times_seconds = views.read(path), None
    if read.kind == "video":
        row = ManifestRow(sample_id=path.name, path=str(path), label=0)
        times_seconds = views.times_seconds(probe_row(row, "video"))
    return FileClip(path, read.kind, read.frames[:, 0], times_seconds)


def explain_clip(
    predict: PredictHead,
    attribute: AttributeClass,
    clip: FileClip,
    *,
    head: str,
    class_names: Sequence[str],
    label: int | None,
    is_sigmoid: bool = False,
) -> Explanation:
    """Explain a class of a head for a clip.

    Args:
        predict: Gives the head's logits.
        attribute: Attributes a class to patches.
        clip: The clip.
        head: The head's name.
        class_names: Its classes, in label order.
        label: The class; None means the most probable one.
        is_sigmoid: Whether the head's probabilities are sigmoids.
    """
    is_video, frames = clip.kind == "video", clip.frames
    probabilities = class_probabilities(predict(frames[:, None])[0], is_sigmoid)
    predicted = int(probabilities.argmax())
    label = predicted if label is None else label
    relevance, rollout = attribute(frames, label)

    def sensitivity(frames: Tensor) -> Sensitivity:
        changed = class_probabilities(predict(frames[:, None])[0], is_sigmoid)
        differences = (probabilities - changed).abs()
        return Sensitivity(float(differences.max() if is_sigmoid else differences.sum() / 2), float(changed[label]))

    strongest = int(relevance.numpy().sum((1, 2)).argmax())
    return Explanation(
        file=clip.file,
        kind=clip.kind,
        head=head,
        class_name=class_names[label],
        probability=float(probabilities[label]),
        predicted=class_names[predicted],
        frames=frames.permute(0, 2, 3, 1).numpy(),
        times_seconds=clip.times_seconds,
        relevance=relevance.numpy(),
        rollout=rollout.numpy(),
        backwards=sensitivity(frames.flip(0)) if is_video else None,
        frozen=sensitivity(frames[torch.full((len(frames),), strongest)]) if is_video else None,
    )


def label_of(class_name: str, class_names: Sequence[str], head: str) -> int:
    """Look up the label of a class.

    Raises:
        CoverError: The head has no such class; the message names the most similar ones.
    """
    if class_name in class_names:
        return class_names.index(class_name)
    nearest = ", ".join(get_close_matches(class_name, class_names, n=5, cutoff=0.0))
    raise CoverError(
        f"head {head} has no class {class_name!r}; the most similar of its {len(class_names)} classes are {nearest}"
    )
