"""Run a model that `cover export … --to onnx` wrote, with onnxruntime, PyAV and numpy alone.

    python onnx_predict.py exported/model.onnx clip.mp4

It takes the frames that `cover predict` takes, and the centre crop.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnxruntime


def read_clip(path: str, num_frames: int, size_px: int) -> npt.NDArray[np.uint8]:
    """uint8 [T, 3, Y, X]: the frames shown in the middles of T equal segments, scaled, and cropped in the centre."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base
        start = stream.start_time or 0
        duration = stream.duration or int((container.duration or 0) / av.time_base / stream.time_base)
        middles = [start + duration * (2 * segment + 1) // (2 * num_frames) for segment in range(num_frames)]
        chosen: list[av.VideoFrame] = []
        shown: Any = None
        for frame in container.decode(stream):
            while shown and len(chosen) < num_frames and (frame.pts or 0) > middles[len(chosen)]:
                chosen.append(shown)
            shown = frame
    chosen += [shown] * (num_frames - len(chosen))

    scale = size_px / min(shown.width, shown.height)
    width_px, height_px = round(shown.width * scale), round(shown.height * scale)
    scaled = [frame.reformat(width_px, height_px, "rgb24", interpolation="BILINEAR").to_ndarray() for frame in chosen]
    clip = np.rot90(np.stack(scaled), round(shown.rotation / 90), axes=(1, 2))  # as phones hold it
    top, left = ((side - size_px) // 2 for side in clip.shape[1:3])
    return clip[:, top : top + size_px, left : left + size_px].transpose(0, 3, 1, 2)


def main(model: str, video: str) -> None:
    """Print the five most probable classes of every head."""
    session = onnxruntime.InferenceSession(model)
    about = json.loads(session.get_modelmeta().custom_metadata_map["cover"])
    clip = read_clip(video, about["input"]["num_frames"], about["input"]["image_size_px"])
    answers = session.run(list(about["heads"]), {"frames": clip[None]})
    for (head, class_names), logits in zip(about["heads"].items(), answers, strict=True):
        if about["probabilities"][head] == "sigmoid":  # each class has a probability of its own
            probabilities = 1 / (1 + np.exp(-logits[0]))
        else:
            probabilities = np.exp(logits[0] - logits[0].max())
            probabilities /= probabilities.sum()
        for label in probabilities.argsort()[::-1][:5]:
            print(f"{head}: {class_names[label]} {100 * probabilities[label]:.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])
