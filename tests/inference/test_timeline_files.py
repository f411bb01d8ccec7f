from __future__ import annotations

import csv
import json
from pathlib import Path

import av
import pytest
from PIL import Image
from tests.terminal import printed

from cover.errors import CoverError
from cover.inference.timeline import Timeline
from cover.inference.timeline_files import (
    MAX_CLASSES,
    clock,
    timeline_figure,
    timeline_json,
    timeline_plotter,
    timeline_table,
    timeline_writer,
)
from cover.inference.windows import Segment

SEGMENTS = (
    Segment("k400", 0.0, 7.25, "[riding] a <bike> & more", 0.876),
    Segment("k400", 7.25, 3725.5, "cooking", 0.4),
    Segment("ssv2", 1.0, 3.0, "pushing, then pulling", 1.0),
)
TIMELINE = Timeline(Path("film.mp4"), 3725.5, 4.0, 1.0, ("k400", "ssv2", "objects"), SEGMENTS)


def write(path: Path) -> Path:
    timeline_writer(path)(TIMELINE)
    return path


def cues(path: Path) -> list[tuple[float, float, str]]:
    """(start, end, text), as FFmpeg reads subtitles."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        return [
            (
                float((packet.pts or 0) * packet.time_base),
                float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base),
                bytes(packet).decode(),
            )
            for packet in packets
        ]


def test_subtitles_are_what_players_read(tmp_path: Path) -> None:
    srt = cues(write(tmp_path / "film.srt"))
    assert srt == [
        (0.0, 7.25, "k400: [riding] a <bike> & more 88 %"),
        (1.0, 3.0, "ssv2: pushing, then pulling 100 %"),
        (7.25, 3725.5, "k400: cooking 40 %"),
    ]
    vtt = cues(write(tmp_path / "film.vtt"))
    assert [cue[:2] for cue in vtt] == [cue[:2] for cue in srt]
    assert vtt[0][2] == "k400: [riding] a &lt;bike&gt; &amp; more 88 %"
    assert (tmp_path / "film.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:07.250\n")


def test_a_single_head_is_not_named_in_subtitles(tmp_path: Path) -> None:
    timeline_writer(tmp_path / "film.srt")(Timeline(Path("film.mp4"), 7.0, 4.0, 1.0, ("k400",), SEGMENTS[:1]))
    assert cues(tmp_path / "film.srt")[0][2] == "[riding] a <bike> & more 88 %"


def test_json_and_csv(tmp_path: Path) -> None:
    decoded = json.loads(write(tmp_path / "film.json").read_text())
    assert decoded == json.loads(timeline_json(TIMELINE))
    assert decoded["duration_seconds"] == 3725.5 and decoded["heads"]["objects"] == []
    assert decoded["heads"]["ssv2"] == [
        {"start_seconds": 1.0, "end_seconds": 3.0, "class": "pushing, then pulling", "probability": 1.0}
    ]
    with write(tmp_path / "film.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [segment.class_name for segment in SEGMENTS]
    assert rows[1] | {"class": ""} == {
        "head": "k400",
        "start_seconds": "7.25",
        "end_seconds": "3725.5",
        "class": "",
        "probability": "0.4",
    }


def test_the_table_shows_times_as_players_do() -> None:
    text = printed(timeline_table(TIMELINE))
    assert "film.mp4 (1:02:05.5)" in text and "[riding] a <bike> & more" in text and "87.6" in text
    assert [clock(seconds) for seconds in (0, 7.25, 59.96, 3600)] == ["0:00.0", "0:07.2", "1:00.0", "1:00:00.0"]


def test_the_plot_has_a_panel_a_head_and_a_row_a_class(tmp_path: Path) -> None:
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in timeline_figure(TIMELINE).axes]
    assert names == [["[riding] a <bike> & more", "cooking"], ["pushing, then pulling"], []]
    timeline_plotter(tmp_path / "film.png")(TIMELINE)
    with Image.open(tmp_path / "film.png") as image:
        assert image.width > 1000


def test_the_plot_shows_the_classes_with_the_most_time() -> None:
    segments = tuple(Segment("k400", 10.0 * i, 10.0 * i + (9 if i else 1), f"class {i}", 0.5) for i in range(20))
    (axes,) = timeline_figure(Timeline(Path("film.mp4"), 200.0, 4.0, 1.0, ("k400",), segments)).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == MAX_CLASSES and "class 0" not in labels


def test_formats_go_by_suffix(tmp_path: Path) -> None:
    with pytest.raises(CoverError, match=r"film.txt has none of the suffixes .csv, .json, .srt, .vtt"):
        timeline_writer(tmp_path / "film.txt")
    with pytest.raises(CoverError, match=r"film.bmp has none of the suffixes .pdf, .png, .svg"):
        timeline_plotter(tmp_path / "film.bmp")
