"""`cover index` as a user meets it: what it shows, divides, refuses and advises."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.terminal import Cover, terminal

from cover.datasets.manifest import Manifest

WriteMedia = Callable[..., Path]


@pytest.fixture
def cover(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cover:
    return terminal(capsys, monkeypatch)


@pytest.fixture
def clips(tmp_path: Path, write_video: WriteMedia, monkeypatch: pytest.MonkeyPatch) -> Path:
    """clips/CLASS/*.mp4: ten clips of one second in `run`, five in `swim`."""
    monkeypatch.chdir(tmp_path)
    write_video(Path("first.mp4"), num_frames=25)
    for name, count in (("run", 10), ("swim", 5)):
        Path("clips", name).mkdir(parents=True)
        for number in range(count):
            shutil.copy("first.mp4", f"clips/{name}/{number}.mp4")
            with Path(f"clips/{name}/{number}.mp4").open("ab") as file:  # bytes after the end: other content
                file.write(f"{name}{number}".encode().ljust(9 + 10 * number))
    return Path("clips")


def test_a_table_shows_each_class_and_warnings_what_is_odd(
    clips: Path, cover: Cover, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(clips / "run/0.mp4", clips / "swim/again.mp4")
    (clips / "run/broken.mp4").write_text("no video")
    shown = cover("index", "folder", clips, "--kind", "video")
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[1] == ["clips:", "videos", "of", "each", "class"] and ["class", "train", "seconds"] in rows
    assert ["run", "11", "10"] in rows and ["swim", "6", "6"] in rows and ["all", "17", "16"] in rows
    assert "clips: copies of other files: 1, such as swim/again.mp4 (train) = run/0.mp4 (train)" in caplog.text
    assert "clips: 1 of 2 classes have fewer than 10 training samples, such as swim (6)" in caplog.text
    assert "clips: unreadable videos: 1, such as run/broken.mp4" in caplog.text


def test_the_smallest_of_many_classes_come_first(cover: Cover, write_image: WriteMedia, tmp_path: Path) -> None:
    for label in range(30):
        write_image(tmp_path / "signs" / f"sign{label:02}" / "0.png")
        for number in range(29 - label):
            shutil.copy(
                tmp_path / "signs" / f"sign{label:02}" / "0.png", tmp_path / f"signs/sign{label:02}/{number + 1}.png"
            )
    shown = cover("index", "folder", tmp_path / "signs", "--kind", "image", "--out", tmp_path)
    lines = shown.out.splitlines()
    assert len(lines) <= 20 and [line.split()[0] for line in lines if "sign2" in line][:2] == ["sign29", "sign28"]
    assert any(line.split() == ["…", "20", "larger", "classes"] for line in lines)


def test_a_val_split_is_held_out(clips: Path, cover: Cover, caplog: pytest.LogCaptureFixture) -> None:
    command = ("index", "folder", clips, "--kind", "video")
    shown = cover(*command, "--val", "0.2")
    assert "clips-train.arrow: 12 videos of 2 classes" in shown.out
    assert "clips-val.arrow: 3 videos of 2 classes" in shown.out
    cover(*command)
    assert "clips: 3 samples are also in" in caplog.text  # train has them again, and val is still there
    Path("list.csv").write_text("path,label\nrun/0.mp4,run\n")
    refused = cover("index", "csv", "list.csv", "--root", clips, "--kind", "video", "--split", "test", "--val", "0.2")
    assert refused.code == 2 and "--val divides a train split, and --split is test" in refused.err


def test_manifests_of_other_classes_are_replaced_only_by_force(clips: Path, cover: Cover) -> None:
    command = ("index", "folder", clips, "--kind", "video")
    cover(*command)
    shutil.move(clips / "swim", clips / "dive")
    refused = cover(*command)
    assert refused.code == 2 and "clips-train.arrow has other classes, 2 instead of 2 (such as dive)" in refused.err
    assert Manifest.open("manifests/clips-train.arrow").class_names == ("run", "swim")
    assert cover(*command, "--force").code == 0
    assert Manifest.open("manifests/clips-train.arrow").class_names == ("dive", "run")


def test_folders_without_classes_get_advice(clips: Path, cover: Cover, caplog: pytest.LogCaptureFixture) -> None:
    flat = cover("index", "folder", clips / "run", "--kind", "video")
    assert flat.code == 2 and "move each file into a folder named after its class, or write a list" in flat.err
    assert f"if the folder is itself a class, index {clips.resolve()}\n" in flat.err
    assert "for the videos, pass --kind video" in cover("index", "folder", clips, "--kind", "image").err
    shutil.rmtree(clips / "swim")
    cover("index", "folder", clips, "--kind", "video", "--out", "one")
    assert "all samples have one class, run, and a head needs two to learn anything" in caplog.text
