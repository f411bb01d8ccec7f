"""Frame orders in which a clip can be shown to a trained model.

The paper's Table 2 reverses the frames. The other two are controls: `shuffled` keeps the frames and destroys their
order, `single` keeps one frame and destroys all motion. For example, with T = 4:

    normal    0 1 2 3        shuffled  2 0 3 1
    reversed  3 2 1 0        single    1 1 1 1
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from torch import Tensor

FrameOrder = Literal["normal", "reversed", "shuffled", "single"]
FRAME_ORDERS: tuple[FrameOrder, ...] = get_args(FrameOrder)


def frame_indices(num_frames: int, order: FrameOrder, seed: int) -> list[int]:
    """Which frame of the clip stands at each of its T places; `seed` decides for `shuffled` and `single`."""
    rng = np.random.default_rng(seed)
    match order:
        case "normal":
            return list(range(num_frames))
        case "reversed":
            return list(reversed(range(num_frames)))
        case "shuffled":
            return [int(index) for index in rng.permutation(num_frames)]
        case "single":
            return [int(rng.integers(num_frames))] * num_frames


def reorder(frames: Tensor, order: FrameOrder, seed: int) -> Tensor:
    """The clip `frames` [T, ...] in another frame order, same shape."""
    return frames[frame_indices(len(frames), order, seed)]
