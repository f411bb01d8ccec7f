from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.terminal import printed

from cover.errors import CoverError
from cover.evaluation.metrics import RankedClasses
from cover.inference.prediction import Prediction
from cover.inference.prediction_files import json_list, prediction_table, predictions_file
from cover.inference.views import Views
from cover.media.sampling import Window

PREDICTIONS = [
    Prediction(Path("photo[1].png"), "image", {"letters": (("b", 0.75), ("a", 0.25)), "signs": (("[x]", 0.993),)}),
    Prediction(Path("clip.mp4"), "video", {"letters": (("a", 0.5), ("b", 0.5)), "signs": (("y, z", 1.0),)}),
]


def written(path: Path) -> Path:
    with predictions_file(path) as write:
        for prediction in PREDICTIONS:
            write(prediction)
        assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_the_table_shows_names_as_they_are() -> None:
    text = printed(prediction_table(PREDICTIONS[0]))
    assert "photo[1].png (image)" in text and "[x] 99.3" in text and "b 75.0, a 25.0" in text


def test_json_and_json_lines_have_the_same_objects(tmp_path: Path) -> None:
    objects = json.loads(written(tmp_path / "1" / "out.json").read_text())
    lines = written(tmp_path / "2" / "out.jsonl").read_text().splitlines()
    assert objects == [json.loads(line) for line in lines]
    assert objects[0]["heads"]["letters"][0] == {"class": "b", "probability": 0.75}
    assert (objects[1]["file"], objects[1]["kind"]) == ("clip.mp4", "video")


def test_a_json_list_that_grows_is_as_json_writes_it() -> None:
    for predictions in (PREDICTIONS, []):
        file = io.StringIO()
        with json_list(file) as write:
            for prediction in predictions:
                write(prediction)
        assert file.getvalue() == json.dumps(json.loads(file.getvalue()), indent=2) + "\n"


def test_csv_and_parquet_have_a_row_a_class(tmp_path: Path) -> None:
    with written(tmp_path / "1" / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(written(tmp_path / "2" / "OUT.PARQUET"))
    assert len(rows) == table.num_rows == 6
    assert rows[5]["class"] == table["class"][5].as_py() == "y, z"
    assert [int(row["rank"]) for row in rows] == table["rank"].to_pylist() == [1, 2, 1, 1, 2, 1]
    assert rows[0] == {
        "file": "photo[1].png",
        "kind": "image",
        "head": "letters",
        "rank": "1",
        "class": "b",
        "probability": "0.75",
    }


def test_an_unknown_suffix_and_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, message in (
        ("out.xlsx", "none of the suffixes .csv, .json, .jsonl, .parquet"),
        ("file/out.csv", "written"),
    ):
        with pytest.raises(CoverError, match=message), predictions_file(tmp_path / name):
            pass


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl", "parquet"):
        with pytest.raises(KeyboardInterrupt), predictions_file(tmp_path / f"out.{suffix}") as write:
            write(PREDICTIONS[0])
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_names_stand_in_csv_as_they_are(tmp_path: Path) -> None:
    names = ["=1+1", "+x", "-x", "@x", 'a "b", c', "a\nb"]
    with predictions_file(tmp_path / "out.csv") as write:
        for name in names:
            write(Prediction(Path(name), "image", {name: ((name, 1.0),)}))
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["head"], row["class"]) for row in rows] == [(name, name, name) for name in names]


def test_a_table_says_what_heads_are_shown_if_it_is_not_the_whole_video() -> None:
    whole, part = Views(8, 224), Views(8, 224, window=Window(seconds=4))

    def caption(**views: Views) -> str | None:
        ranked: dict[str, RankedClasses] = {head: (("a", 1.0),) for head in views}
        caption = prediction_table(Prediction(Path("a.mp4"), "video", ranked, views=views)).caption
        return None if caption is None else str(caption)

    assert caption(one=whole, other=whole) is None
    assert caption(one=part, other=part) == "1x3 views of 8 frames, window_seconds = 4"
    assert caption(one=part, other=whole, last=part) == (
        "one, last: 1x3 views of 8 frames, window_seconds = 4; other: 1x3 views of 8 frames, whole video"
    )
