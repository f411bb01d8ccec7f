from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cover.errors import DecodeError
from cover.inference.prediction import Prediction, predict_files
from cover.inference.views import Views

WriteMedia = Callable[..., Path]
CLASS_NAMES = {"letters": ["a", "b", "c"], "signs": ["[x]", "y"]}


class Heads:
    """Two heads; `letters` says how bright a view is. Keeps the shapes it was asked with."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, frames_tbcyx: Tensor) -> dict[str, Tensor]:
        self.shapes.append(tuple(frames_tbcyx.shape))
        brightness = frames_tbcyx.float().mean((0, 2, 3, 4)) / 255
        letters = torch.stack([brightness, torch.full_like(brightness, 3), 1 - brightness], dim=1)
        return {"letters": letters, "signs": torch.tensor([[5.0, 0]] * len(brightness))}


def predict(heads: Heads, files: Sequence[Path], **options: object) -> list[Prediction]:
    views = dict.fromkeys(CLASS_NAMES, Views(num_frames=4, crop_px=32, num_clips=2))
    return list(predict_files(heads, files, class_names=CLASS_NAMES, views=views, **options))  # type: ignore[arg-type]


def test_every_head_names_its_most_probable_classes(write_video: WriteMedia, tmp_path: Path) -> None:
    heads = Heads()
    (prediction,) = predict(heads, [write_video(tmp_path / "clip.mp4", width_px=96)])
    assert heads.shapes == [(4, 6, 3, 32, 32)]
    assert prediction.kind == "video"
    assert {name for name, _ in prediction.heads["letters"]} == {"a", "b", "c"}
    assert prediction.heads["letters"][0][0] == "b"
    assert sum(probability for _, probability in prediction.heads["letters"]) == pytest.approx(1)
    assert prediction.heads["signs"][0] == ("[x]", pytest.approx(0.9933, abs=1e-4))


def test_crops_that_are_the_same_are_computed_once(write_video: WriteMedia, tmp_path: Path) -> None:
    heads = Heads()
    predict(heads, [write_video(tmp_path / "square.mp4"), write_video(tmp_path / "wide.mp4", width_px=96)])
    assert heads.shapes == [(4, 2, 3, 32, 32), (4, 6, 3, 32, 32)]  # two clips each


def test_files_of_one_length_share_a_batch_and_keep_their_order(
    write_video: WriteMedia, write_image: WriteMedia, tmp_path: Path
) -> None:
    files = [
        write_image(tmp_path / "0.png", 2**15 - 1),
        write_video(tmp_path / "1.mp4"),
        write_image(tmp_path / "2.png"),
    ]
    files += [write_video(tmp_path / "3.mp4", first_number=15 << 10), write_image(tmp_path / "4.png", 7)]
    heads = Heads()
    together = predict(heads, files, batch_size=4)
    assert sorted(heads.shapes) == [(1, 1, 3, 32, 32), (1, 2, 3, 32, 32), (4, 4, 3, 32, 32)]
    assert [prediction.file for prediction in together] == files
    assert [prediction.kind for prediction in together] == ["image", "video", "image", "video", "image"]
    assert together == predict(Heads(), files, batch_size=1)
    assert len({dict(prediction.heads["letters"])["a"] for prediction in together}) == 5


def test_what_cannot_be_read_is_passed_over_or_raised(write_image: WriteMedia, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    photo = write_image(tmp_path / "photo.jpg")
    errors: list[DecodeError] = []
    files = [broken, photo, tmp_path / "absent.png", tmp_path / "absent.mp4"]
    (prediction,) = predict(Heads(), files, on_unreadable=errors.append)
    assert prediction.file == photo
    assert [Path(str(error).split()[0]).name for error in errors] == ["broken.mp4", "absent.png", "absent.mp4"]
    assert predict(Heads(), [broken], on_unreadable=errors.append) == []
    with pytest.raises(DecodeError, match=r"broken\.mp4"):
        predict(Heads(), files)


def test_only_the_heads_and_classes_that_are_wanted(write_image: WriteMedia, tmp_path: Path) -> None:
    views = {"letters": Views(num_frames=4, crop_px=32, num_crops=1)}
    (prediction,) = predict_files(
        Heads(),
        [write_image(tmp_path / "photo.jpg")],
        class_names={"letters": CLASS_NAMES["letters"]},
        views=views,
        num_classes_shown=2,
    )
    assert list(prediction.heads) == ["letters"] and len(prediction.heads["letters"]) == 2


def test_a_folder_of_frames_and_an_animated_webp_are_videos(write_image: WriteMedia, tmp_path: Path) -> None:
    heads = Heads()
    frames = [write_image(tmp_path / "frames" / f"img_{number:05}.jpg", number) for number in range(1, 9)]
    first, *others = (Image.open(frame) for frame in frames)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others)
    predictions = predict(heads, [tmp_path / "frames", tmp_path / "moving.webp"])
    assert [prediction.kind for prediction in predictions] == ["video", "video"]
    assert heads.shapes == [(4, 4, 3, 32, 32)]


def test_reading_images_in_threads_leaves_the_filters_of_warnings_alone(
    write_image: WriteMedia, tmp_path: Path
) -> None:
    files = [write_image(tmp_path / f"{number}.jpg", number) for number in range(64)]
    before = list(warnings.filters)
    assert len(predict(Heads(), files)) == 64
    assert warnings.filters == before
