from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from torch import Tensor

from cover.errors import CoverError
from cover.inference.explain import Explanation, explain_clip, label_of, read_file_clip
from cover.inference.explanation_files import headline, write_explanation
from cover.inference.views import Views
from cover.models.backbone import Attribution

CLASSES = ["open door", "close door", "$wave$"]


def predict(frames_TBCYX: Tensor) -> Tensor:
    """Sure of class 0 where the first frame is darker than the last, of class 1 otherwise."""
    brightness_TB = frames_TBCYX.float().mean((2, 3, 4))
    darker_B = brightness_TB[0] < brightness_TB[-1]
    return torch.where(darker_B[:, None], torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]]))


def attribute(frames_TCYX: Tensor, label: int) -> Attribution:
    """All relevance lies in the patch of the label's number in the second frame, if there is one."""
    relevance, rollout = torch.zeros(2, len(frames_TCYX), 2, 2)
    relevance.view(len(frames_TCYX), 4)[min(1, len(frames_TCYX) - 1), label] = 1
    return Attribution(relevance, rollout + 1 / rollout.numel())


def explain(path: Path, class_name: str | None = None) -> Explanation:
    label = None if class_name is None else label_of(class_name, CLASSES, "doors")
    clip = read_file_clip(path, Views(4, 32, num_crops=1))
    return explain_clip(predict, attribute, clip, head="doors", class_names=CLASSES, label=label)


@pytest.fixture
def video(tmp_path: Path, write_video: Callable[..., Path]) -> Path:
    """Two seconds, of which the last frame is the brightest."""
    return write_video(tmp_path / "door.mp4", num_frames=8, fps=4)


def test_a_video_says_where_when_and_whether_time_mattered(video: Path) -> None:
    explanation = explain(video)
    p, q = torch.tensor([[2.0, 0, 0], [0, 2, 0]]).softmax(1)
    assert (explanation.predicted, explanation.class_name) == ("open door", "open door")
    assert explanation.probability == pytest.approx(float(p[0]))
    assert explanation.times_seconds == pytest.approx((0.25, 0.75, 1.25, 1.75))
    assert explanation.relevance_of_frames.tolist() == [0, 1, 0, 0]
    assert explanation.rollout_of_frames.tolist() == [0.25] * 4
    for change in (explanation.backwards, explanation.frozen):  # both end no brighter than they begin
        assert change is not None
        assert change.total_variation == pytest.approx(float((p - q).abs().sum() / 2))
        assert change.probability == pytest.approx(float(q[0]))
    decoded = json.loads(explanation.to_json())
    assert decoded["frozen"]["frame"] == 1
    assert decoded["frames"][1] == {"seconds": 0.75, "relevance": 1, "rollout": 0.25}
    assert decoded["relevance"][1] == [[1, 0], [0, 0]]


def test_any_class_can_be_asked_for(video: Path) -> None:
    explanation = explain(video, "close door")
    assert (explanation.predicted, explanation.class_name) == ("open door", "close door")
    assert explanation.relevance[1].tolist() == [[0, 1], [0, 0]]
    assert "most probable: open door" in "\n".join(headline(explanation))
    with pytest.raises(
        CoverError, match="head doors has no class 'closing door'; the most similar of its 3 classes are close door"
    ):
        explain(video, "closing door")


def test_pictures_are_written_whole(video: Path, tmp_path: Path) -> None:
    files = write_explanation(explain(video, "$wave$"), tmp_path / "out")
    assert [file.name for file in files] == ["strip.png", "overlay.mp4", "explanation.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(file.name for file in files)
    with Image.open(files[0]) as strip:
        assert strip.width > strip.height
    with av.open(str(files[1])) as overlay:
        times = [frame.time for frame in overlay.decode(video=0)]
    assert times == pytest.approx([0, 0.5, 1, 1.5])  # as far apart as the frames that the model saw


def test_an_image_has_no_time(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    explanation = explain(write_image(tmp_path / "photo.png"))
    assert (explanation.times_seconds, explanation.backwards, explanation.frozen) == (None, None, None)
    files = write_explanation(explanation, tmp_path / "out")
    assert [file.name for file in files] == ["strip.png", "explanation.json"]
    assert json.loads(files[1].read_text())["frames"] == [{"seconds": None, "relevance": 1, "rollout": 1}]


def test_frames_of_a_folder_without_a_frame_rate_are_numbered(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for number in range(1, 9):
        write_image(tmp_path / "frames" / f"img_{number:05}.jpg", number)
    explanation = explain(tmp_path / "frames")
    assert explanation.times_seconds is None
    assert "frozen at frame 2" in "\n".join(headline(explanation))
