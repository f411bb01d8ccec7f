from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from cover.errors import DecodeError
from cover.inference.predict import Prediction, media_kind, predict_file, prediction_table, predictions_json

CLASS_NAMES = {"letters": ["a", "b", "c"], "signs": ["[x]", "y"]}


class Heads:
    """Two heads that answer the same to every view; keeps the shape they were asked with."""

    shape: tuple[int, ...]

    def __call__(self, frames_tbcyx: Tensor) -> dict[str, Tensor]:
        self.shape = tuple(frames_tbcyx.shape)
        num_views = frames_tbcyx.shape[1]
        return {"letters": torch.tensor([[0.0, 3, 1]] * num_views), "signs": torch.tensor([[5.0, 0]] * num_views)}


def predict(heads: Heads, path: Path) -> Prediction:
    return predict_file(heads, path, class_names=CLASS_NAMES, num_frames=4, crop_px=32, num_clips=2)


def test_every_head_names_its_most_probable_classes(write_video: Callable[..., Path], tmp_path: Path) -> None:
    heads = Heads()
    prediction = predict(heads, write_video(tmp_path / "clip.mp4"))
    assert heads.shape == (4, 6, 3, 32, 32)
    assert prediction.kind == "video"
    assert [name for name, _ in prediction.heads["letters"]] == ["b", "c", "a"]
    assert sum(probability for _, probability in prediction.heads["letters"]) == pytest.approx(1)


def test_an_image_is_one_frame_and_one_clip(write_image: Callable[..., Path], tmp_path: Path) -> None:
    heads = Heads()
    assert predict(heads, write_image(tmp_path / "photo.jpg")).kind == "image"
    assert heads.shape == (1, 3, 3, 32, 32)


def test_a_folder_of_frames_and_an_animated_webp_are_videos(write_image: Callable[..., Path], tmp_path: Path) -> None:
    heads = Heads()
    frames = [write_image(tmp_path / "frames" / f"img_{number:05}.jpg", number) for number in range(1, 9)]
    first, *others = (Image.open(frame) for frame in frames)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others)
    for path in (tmp_path / "frames", tmp_path / "moving.webp"):
        assert predict(heads, path).kind == "video"
        assert heads.shape == (4, 6, 3, 32, 32)


def test_a_suffix_that_tells_nothing_leaves_it_to_the_content(write_image: Callable[..., Path], tmp_path: Path) -> None:
    still = write_image(tmp_path / "still.gif")
    moving = tmp_path / "moving.gif"
    frames = [Image.new("L", (32, 32), shade) for shade in (0, 128, 255)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    nameless = still.rename(tmp_path / "nameless")
    assert [media_kind(path) for path in (nameless, moving, tmp_path / "absent")] == ["image", "video", "video"]


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    for path in (broken, tmp_path / "absent.mp4", tmp_path / "absent.png"):
        with pytest.raises(DecodeError, match=path.name):
            predict(Heads(), path)


def test_table_and_json_say_the_same(write_image: Callable[..., Path], tmp_path: Path) -> None:
    prediction = predict(Heads(), write_image(tmp_path / "photo[1].png"))
    console = Console(width=200, record=True, file=StringIO())
    console.print(prediction_table(prediction))
    text = console.export_text()
    assert "photo[1].png" in text and "[x] 99.3, y 0.7" in text
    (decoded,) = json.loads(predictions_json([prediction]))
    assert decoded["heads"]["signs"][0] == {"class": "[x]", "probability": pytest.approx(0.9933, abs=1e-4)}
