from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from cover.datasets.class_list import classes_of, listed_classes, mirror_pairs, read_class_list
from cover.errors import CoverError, ManifestError


def read(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "names.txt").write_bytes(text.encode())
    return read_class_list(tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("run\njump\n", ["run", "jump"]),
        ("\ufeffrun\r\njump\r\n\r\n", ["run", "jump"]),
        ("0 run\n1 jump\n", ["run", "jump"]),
        ("2,fly\n0,run\n1,jump\n", ["run", "jump", "fly"]),
        ("run 0\njump 1\n", ["run", "jump"]),
        ("id;name\n0;run\n1;jump\n", ["run", "jump"]),
        ('0,"walking, dog"\n1,run\n', ["walking, dog", "run"]),
        ("cafe\u0301\n", ["caf\u00e9"]),
        ("100 metres\n200 metres\n", ["100 metres", "200 metres"]),
        ("1 km\n2 km\n", ["1 km", "2 km"]),
        ("7up\n911\ncola\n", ["7up", "911", "cola"]),
        ("run\n1 jump\n", ["run", "1 jump"]),
        ("MP3\nformula 1\n", ["MP3", "formula 1"]),
        ("0 run\n", ["0 run"]),
        ("20240115\n20240116\n", ["20240115", "20240116"]),
        ('"0","run"\n"1","jump"\n', ["run", "jump"]),
        ('"run";0\n"walking; ""so""fast";1\n', ["run", 'walking; "so"fast']),
        ('"0" "run"\n"1" "jump"\n', ["run", "jump"]),
        ('"0","run"\n1,jump\n', ["run", "jump"]),
        ('"walking, dog"\nthe "big" one\n', ["walking, dog", 'the "big" one']),
        ("#run\n#jump\n", ["#run", "#jump"]),
        ("level 1\nlevel 2\nstage 1\n", ["level 1", "level 2", "stage 1"]),
    ],
)
def test_lists_of_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, names: list[str]) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, text) == names
    header = text.startswith("id;")
    assert caplog.messages == [f"{tmp_path / 'names.txt'}: the first line, id;name, counts as a header"] * header


def test_comments_and_headers_of_csv_files_shift_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, "# classes\nrun\njump\n#end\n") == ["run", "jump"]
        assert read(tmp_path, '"","name"\n"1","run"\n"2","jump"\n') == ["0", "run", "jump"]
    assert [message.partition("names.txt")[2] for message in caplog.messages] == [
        ": 2 lines begin with # and are skipped, such as # classes, #end",
        ": the first line, name, counts as a header",
        " names 2 classes up to number 2; the others, such as 0, are named by their numbers",
    ]


@pytest.mark.parametrize(
    ("names", "labels", "label_of", "message"),
    [
        (["name", "run", "jump"], ["0", "1"], {"0": 0, "1": 1, "run": 0, "jump": 1}, "list, name, counts as a head"),
        (["Class Name", "run", "jump"], ["0", "jump"], {"0": 0, "run": 0, "jump": 1}, "Class Name, counts as a he"),
        (
            ["class", "run"],
            ["1", "0"],
            {"0": 0, "1": 1, "class": 0, "run": 1},
            "class 0 is called class, like a header",
        ),
        (["name", "run"], ["name", "0"], {"0": 0, "name": 0, "run": 1}, ""),
    ],
)
def test_a_header_is_no_class_unless_the_labels_need_it(
    names: list[str], labels: list[str], label_of: dict[str, int], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert listed_classes(names, labels, "list.txt").label_of == label_of
    assert message in caplog.text and len(caplog.messages) == bool(message)


@pytest.mark.parametrize("text", ["run\n\nswim\nfly\n", "0 run\n2 swim\n3 fly\n"])
def test_line_n_names_class_n(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, text) == ["run", "1", "swim", "fly"]
    assert "names.txt names 3 classes up to number 3; the others, such as 1, are named by their numbers" in caplog.text


def test_classes_numbered_from_1_stay_so(tmp_path: Path) -> None:
    assert read(tmp_path, "1 run\n2 jump\n") == ["0", "run", "jump"]


def test_unreadable_class_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"names.txt: every second line is blank; line n names class n"):
        read(tmp_path, "run\n\njump\n\nswim\n")
    with pytest.raises(ManifestError, match=r"names.txt is empty"):
        read(tmp_path, "\n \n")
    with pytest.raises(ManifestError, match=r"names.txt: number 1 occurs twice \(1 jump, 1 swim\); give each class"):
        read(tmp_path, "0 run\n1 jump\n1 swim\n")
    with pytest.raises(ManifestError, match=r"names.txt: '0\\trun' has several columns; a line is a name with at most"):
        read(tmp_path, '"","id","name"\n"1",0,"run"\n"2",1,"jump"\n')
    with pytest.raises(ManifestError, match=r"names.json is JSON; write a text file with a class name"):
        read_class_list(tmp_path / "names.json")
    with pytest.raises(ManifestError, match=r"pipe cannot be read: it is a pipe, not a file"):
        os.mkfifo(tmp_path / "pipe")
        read_class_list(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["run", "jump", "run"], ["jump", "run"], [1, 0, 1]),
        (["3", "1"], ["0", "1", "2", "3"], [3, 1]),
        (["3.0", "1.0", "1"], ["0", "1", "2", "3"], [3, 1, 1]),
        (["00", "01"], ["0", "1"], [0, 1]),
        (["0.5", "run"], ["0.5", "run"], [0, 1]),
        (["02084071", "01440764", "20"], ["20", "01440764", "02084071"], [2, 1, 0]),
        (["1000000000", "0"], ["0", "1000000000"], [1, 0]),
    ],
)
def test_labels_without_a_class_list_are_names_or_numbers_or_ids(
    labels: list[str], names: list[str], numbers: list[int]
) -> None:
    classes = classes_of(labels, "list.txt")
    assert classes.names == names and [classes.label_of[label] for label in labels] == numbers


def test_ids_and_mixed_labels_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert classes_of(["2084071", "1440764"], "list.txt").names == ["1440764", "2084071"]
        assert classes_of(["3", "jump"], "list.txt").names == ["3", "jump"]
    assert caplog.messages == [
        "list.txt: labels are 2 numbers up to 2084071, so they count as names of 2 classes, not as label numbers",
        "list.txt: 1 labels are numbers and 1 are names, such as 3 and jump; all count as names",
    ]
    assert len(classes_of(map(str, range(0, 20_000, 5)), "list.txt").names) == 19_996


def test_numbers_that_cannot_be_labels_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"list.txt: labels 007 and 7 are the same number; write each class in one"):
        classes_of(["007", "010", "7"], "list.txt")
    with pytest.raises(ManifestError, match=r"list.txt: label -1 is negative; labels start at 0"):
        classes_of(["-1", "0"], "list.txt")


def test_classes_that_a_mirror_swaps_are_paired() -> None:
    """The six classes of Something-Something v2 that name a side, among others."""
    names = [
        "Turning the camera right while filming something",
        "Pushing something from left to right",
        "Pulling something from right to left",
        "Turning the camera upwards while filming something",
        "Pulling something from left to right",
        "Pushing something from right to left",
        "Turning the camera left while filming something",
    ]
    assert mirror_pairs(names) == ((names[0], names[6]), (names[1], names[5]), (names[2], names[4]))
    assert mirror_pairs(["turn_Left", "cleft", "turn_Right"]) == (("turn_Left", "turn_Right"),)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["turn left", "turn right", "left"], "\"auto\" finds no class 'right' for the mirror image of 'left'; write"),
        (["run", "rightly"], '"auto" finds no class with left or right in its name; leave it out'),
    ],
)
def test_classes_without_a_mirror_image_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(CoverError, match=message):
        mirror_pairs(names)
