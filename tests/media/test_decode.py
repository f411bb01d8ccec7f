"""Every address that a manifest can contain: files, folders of frames, members of tars, rows of Parquet files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media.decode import decode_clip, decode_clips, probe_row
from cover.media.source import MediaInfo

WriteVideo = Callable[..., Path]
WriteImage = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]
KINDS: tuple[Kind, ...] = ("video", "image")


def row_of(path: Path, **columns: Any) -> ManifestRow:
    return ManifestRow(sample_id="a", path=str(path), label=0, **columns)


def pack_tar(shard: Path, files: list[Path]) -> list[ManifestRow]:
    with tarfile.open(shard, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    with tarfile.open(shard) as tar:
        return [row_of(shard, offset=member.offset_data, length=member.size) for member in tar]


def pack_parquet(shard: Path, columns: dict[str, Any]) -> list[ManifestRow]:
    table = pa.table({**columns, "label": range(len(next(iter(columns.values()))))})
    pq.write_table(table, shard, row_group_size=2)
    return [row_of(shard, offset=index) for index in range(len(table))]


@pytest.fixture
def videos(tmp_path: Path, write_video: WriteVideo) -> list[Path]:
    suffixes = ("mp4", "avi", "mp4", "mkv", "gif")
    made_with: list[dict[str, Any]] = [
        {},
        {"codec": "mpeg4"},
        {"container_options": {"movflags": "faststart"}},
        {},
        {"codec": "gif"},
    ]
    return [
        write_video(
            tmp_path / f"{index}.{suffix}",
            first_number=100 * index,
            pixel_format="rgb8" if suffix == "gif" else "yuv420p",
            **made_with[index],
        )
        for index, suffix in enumerate(suffixes)
    ]


@pytest.fixture
def images(tmp_path: Path, write_image: WriteImage) -> list[Path]:
    return [write_image(tmp_path / f"{index}.{suffix}", index) for index, suffix in enumerate(("jpg", "png", "webp"))]


def test_members_of_a_tar_are_read_like_files(
    tmp_path: Path, videos: list[Path], images: list[Path], numbers_of: NumbersOf
) -> None:
    kinds: dict[Kind, list[Path]] = {"video": videos, "image": images}
    for kind, files in kinds.items():
        rows = pack_tar(tmp_path / "shard, 1.tar", files)
        for file, row in zip(files, rows, strict=True):
            assert np.array_equal(decode_clip(row, kind, 4), decode_clip(row_of(file), kind, 4))
            assert probe_row(row, kind) == probe_row(row_of(file), kind)
        assert numbers_of(decode_clip(rows[1], kind, 1)) == [115 if kind == "video" else 1]


@pytest.mark.parametrize("struct", [True, False])
def test_rows_of_a_parquet_file_are_read_like_files(
    tmp_path: Path, videos: list[Path], images: list[Path], struct: bool
) -> None:
    kinds: dict[Kind, list[Path]] = {"video": videos, "image": images}
    for kind, files in kinds.items():
        contents = [file.read_bytes() for file in files]
        cells = [{"path": file.name, "bytes": file.read_bytes()} for file in files] if struct else contents
        rows = pack_parquet(tmp_path / f"{kind}.parquet", {kind if struct else "bytes": cells})
        for file, row in zip(files, rows, strict=True):
            assert np.array_equal(decode_clip(row, kind, 4), decode_clip(row_of(file), kind, 4))
            assert probe_row(row, kind) == probe_row(row_of(file), kind)


def test_what_is_wrong_with_a_shard_names_the_sample(tmp_path: Path, images: list[Path]) -> None:
    member = pack_tar(tmp_path / "a.tar", images)[1]
    cell = pack_parquet(tmp_path / "a.parquet", {"image": [images[0].read_bytes(), None]})[1]
    pack_parquet(tmp_path / "other.parquet", {"caption": ["x"]})
    (tmp_path / "text.parquet").write_text("hello")
    broken = {
        rf"a.tar at byte {member.offset} cannot be decoded": replace(member, length=3),
        r"a.tar at byte 999999 cannot be decoded": replace(member, offset=999999),
        r"a.parquet row 1 cannot be decoded \(the row is empty": cell,
        r"a.parquet row 7 cannot be decoded \(it has only 2 rows": replace(cell, offset=7),
        r"there is no column image, video or bytes \(it has caption, label\)": row_of(
            tmp_path / "other.parquet", offset=0
        ),
        r"text.parquet row 0 cannot be decoded": row_of(tmp_path / "text.parquet", offset=0),
        r"gone.tar does not exist": row_of(tmp_path / "gone.tar", offset=0, length=9),
    }
    for message, row in broken.items():
        for kind in ("image", "video"):
            for read in (lambda row, kind: decode_clip(row, kind, 4), probe_row):
                with pytest.raises(DecodeError, match=message) as caught:
                    read(row, kind)
                assert str(caught.value).startswith(str(row.file)) and "\n" not in str(caught.value)


@pytest.fixture
def frame_folder(tmp_path: Path, write_image: WriteImage) -> Path:
    """Twelve frames whose names sort wrongly as text, among files that are not frames."""
    for index in range(12):
        write_image(tmp_path / "frames" / f"img_{index + 1}.jpg", index, width_px=96, quality=95)
    for name in ("flow_x_1.jpg", "x_00001.jpg", ".img_3.jpg", "notes.txt"):
        (tmp_path / "frames" / name).write_text("no image")
    return tmp_path / "frames"


def test_a_folder_of_frames_is_a_video(frame_folder: Path, numbers_of: NumbersOf) -> None:
    row = row_of(frame_folder)
    assert probe_row(row, "video") == MediaInfo(12, None, None, 96, 64)
    assert probe_row(replace(row, fps=4.0), "video") == MediaInfo(12, 4.0, 3.0, 96, 64)
    for fps in (None, 25.0, 7.3):
        numbered = replace(row, fps=fps)
        frames = decode_clip(numbered, "video", 4)
        assert frames.shape == (4, 64, 96, 3) and numbers_of(frames) == [1, 4, 7, 10]
        assert numbers_of(decode_clip(numbered, "video", 12)) == list(range(12))
        assert numbers_of(decode_clip(numbered, "video", 24)) == [index // 2 for index in range(24)]
    _, second = decode_clips(row, "video", 4, num_clips=2)
    assert numbers_of(second) == [2, 5, 8, 11]


def test_frames_of_a_folder_are_found_by_time_where_their_rate_is_known(
    frame_folder: Path, numbers_of: NumbersOf
) -> None:
    row = row_of(frame_folder, fps=10.0, start_seconds=0.3, end_seconds=0.7)
    assert numbers_of(decode_clip(row, "video", 4)) == [3, 4, 5, 6]
    assert numbers_of(decode_clip(replace(row, end_seconds=9.0), "video", 2)) == [11, 11]
    with pytest.raises(DecodeError, match=r"frames cannot be decoded \(its segment begins at 1.2 s, after its end"):
        decode_clip(replace(row, start_seconds=1.2, end_seconds=2.0), "video", 4)
    with pytest.raises(DecodeError, match=r"its segment is in seconds, but the manifest does not state its frame rate"):
        decode_clip(replace(row, fps=None), "video", 4)


def test_only_the_chosen_frames_are_opened_and_take_the_size_of_the_first(
    frame_folder: Path, write_image: WriteImage, numbers_of: NumbersOf
) -> None:
    write_image(frame_folder / "img_5.jpg", 4, width_px=48, height_px=32)
    (frame_folder / "img_1.jpg").write_text("damaged")
    frames = decode_clip(row_of(frame_folder), "video", 4)
    assert frames.shape == (4, 64, 96, 3) and numbers_of(frames) == [1, 4, 7, 10]
    with pytest.raises(DecodeError, match=r"img_1.jpg cannot be decoded"):
        decode_clip(row_of(frame_folder), "video", 12)


def test_files_beside_the_frames_are_no_frames(frame_folder: Path, write_image: WriteImage) -> None:
    frames = decode_clip(row_of(frame_folder), "video", 12)
    write_image(frame_folder / "._img_1.jpg", 99)
    write_image(frame_folder / "@eaDir" / "img_1.jpg" / "SYNOPHOTO_THUMB_M.jpg", 99)
    write_image(frame_folder / "img_0.jpg" / "inside.jpg", 99)
    (frame_folder / "Thumbs.db").write_bytes(b"thumbs")
    assert np.array_equal(decode_clip(row_of(frame_folder), "video", 12), frames)
    assert probe_row(row_of(frame_folder), "video") == MediaInfo(12, None, None, 96, 64)


def test_a_frame_that_is_no_picture_is_named(frame_folder: Path, write_video: WriteVideo) -> None:
    write_video(frame_folder / "a.mp4").rename(frame_folder / "img_1.jpg")
    with pytest.raises(DecodeError, match=r"img_1.jpg cannot be decoded \(its content is a video: MP4 or QuickTime\)"):
        decode_clip(row_of(frame_folder), "video", 12)


def test_a_link_to_nothing_is_a_decode_error(tmp_path: Path) -> None:
    (tmp_path / "frames").symlink_to(tmp_path / "gone")
    for kind in KINDS:
        with pytest.raises(DecodeError, match="frames is ") as caught:
            probe_row(row_of(tmp_path / "frames"), kind)
        assert caught.value.reason == "no such file"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "reason"), [("x" * 300, "File name too long"), ("a.txt/b", "Not a directory")])
def test_a_path_that_cannot_be_reached_is_a_decode_error(tmp_path: Path, kind: Kind, name: str, reason: str) -> None:
    (tmp_path / "a.txt").write_text("a file")
    for read in (lambda row: decode_clip(row, kind, 4), lambda row: probe_row(row, kind)):
        with pytest.raises(DecodeError, match=rf"{name} cannot be decoded \({reason}\); replace the file"):
            read(row_of(tmp_path / name))


def test_a_folder_without_images_is_a_decode_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for read in (lambda row: decode_clip(row, "video", 4), lambda row: probe_row(row, "video")):
        with pytest.raises(DecodeError, match=r"empty cannot be decoded \(there are no images in this folder"):
            read(row_of(tmp_path / "empty"))


def test_images_are_probed_as_they_are_shown(tmp_path: Path, write_image: WriteImage) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = write_image(tmp_path / "turned.jpg", width_px=96, exif=exif)
    assert probe_row(row_of(turned), "image") == MediaInfo(1, None, None, 64, 96)
    assert decode_clip(row_of(turned), "image", 1).shape == (1, 96, 64, 3)
