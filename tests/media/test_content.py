"""The bytes of a file decide what it is, not its name: predict, check and training agree."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.inference.views import Views, media_kind
from cover.media.content import Content, content_of
from cover.media.decode import decode_clip, probe_row

NAMES = ("a", "a.mp4", "a.webp", "a.jpg", "a.MOV")


def saved(format: str, num_frames: int = 1, **options: Any) -> bytes:
    """A picture, or an animation of several, each frame for 100 ms."""
    buffer = io.BytesIO()
    images = [Image.new("RGB", (32, 24), (40 * number, 99, 0)) for number in range(num_frames)]
    if num_frames > 1:
        options |= {"save_all": True, "append_images": images[1:], "duration": 100}
    images[0].save(buffer, format, **options)
    return buffer.getvalue()


STILLS = {
    "JPEG": saved("JPEG"),
    "PNG": saved("PNG"),
    "TIFF": saved("TIFF"),
    "BMP": saved("BMP"),
    "JPEG 2000": saved("JPEG2000"),
    "PPM": saved("PPM"),
    "AVIF": saved("AVIF"),
}
ONE_FRAME = {"GIF": saved("GIF"), "WebP": saved("WEBP")}
ANIMATIONS = {
    "GIF": saved("GIF", 3),
    "WebP": saved("WEBP", 3),
    "PNG": saved("PNG", 3),
    "AVIF": saved("AVIF", 3),
}
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
NOT_READ = {
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "ICO": saved("ICO"),
    "ICNS": b"icns" + bytes(40),
    "Photoshop": b"8BPS\0\1" + bytes(40),
    "Canon raw": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40),
}


def rows(tmp_path: Path, content: bytes) -> list[ManifestRow]:
    """The same bytes under all names."""
    for name in NAMES:
        (tmp_path / name).write_bytes(content)
    return [ManifestRow("a", str(tmp_path / name), 0) for name in NAMES]


def refusals(row: ManifestRow, kind: Kind) -> set[str]:
    """Why the file is refused in a dataset of this kind, by training and by a check."""
    reasons = set()
    for read in (lambda: decode_clip(row, kind, 4), lambda: probe_row(row, kind)):
        with pytest.raises(DecodeError) as caught:
            read()
        assert str(caught.value).startswith(f"{row.path} cannot be decoded (") and "\n" not in str(caught.value)
        reasons.add(caught.value.reason)
    return reasons


@pytest.mark.parametrize("name", STILLS)
def test_a_picture_is_an_image_and_no_video_of_one_frame(tmp_path: Path, name: str) -> None:
    for row in rows(tmp_path, STILLS[name]):
        assert (content_of(row.file).type, content_of(row.file).name, media_kind(row.file)) == ("image", name, "image")
        assert Views(4, 16).read(row.file).frames.shape[0] == 1
        assert decode_clip(row, "image", 4).shape == (1, 24, 32, 3)
        assert refusals(row, "video") == {f"its content is a still picture: {name}"}


@pytest.mark.parametrize("name", ONE_FRAME)
def test_a_still_gif_or_webp_is_an_image_unless_a_dataset_calls_it_a_video(tmp_path: Path, name: str) -> None:
    for row in rows(tmp_path, ONE_FRAME[name]):
        assert media_kind(row.file) == "image" and decode_clip(row, "image", 4).shape == (1, 24, 32, 3)
        assert decode_clip(row, "video", 4).shape == (4, 24, 32, 3) and probe_row(row, "video").num_frames == 1


@pytest.mark.parametrize("name", ANIMATIONS)
def test_an_animation_is_a_video_and_in_a_dataset_of_images_its_first_frame(tmp_path: Path, name: str) -> None:
    for row in rows(tmp_path, ANIMATIONS[name]):
        assert content_of(row.file).type == "animation" and content_of(row.file).ends_ms == (100, 200, 300)
        assert Views(4, 16).read(row.file).kind == "video"
        assert probe_row(row, "video").num_frames == 3 and probe_row(row, "image").num_frames == 1
        assert [int(frame[0, 0, 0]) // 30 for frame in decode_clip(row, "video", 3)] == [0, 1, 2]
        assert decode_clip(row, "image", 3).shape == (1, 24, 32, 3)


@pytest.mark.parametrize(
    ("suffix", "made_with", "container"),
    [
        ("mp4", {}, "MP4 or QuickTime"),
        ("mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}, "MP4 or QuickTime"),
        ("webm", {"codec": "libvpx"}, "Matroska or WebM"),
        ("avi", {"codec": "mpeg4"}, "AVI"),
        ("flv", {}, "FLV"),
        ("ts", {}, "MPEG"),
        ("wmv", {"codec": "wmv2"}, "Windows Media"),
    ],
)
def test_a_video_is_no_image(
    tmp_path: Path, write_video: Callable[..., Path], suffix: str, made_with: dict[str, Any], container: str
) -> None:
    video = write_video(tmp_path / f"made.{suffix}", num_frames=6, **made_with)
    for row in rows(tmp_path, video.read_bytes()):
        assert content_of(row.file) == Content("video", container) and media_kind(row.file) == "video"
        assert decode_clip(row, "video", 4).shape == (4, 64, 64, 3)
        assert refusals(row, "image") == {f"its content is a video: {container}"}


@pytest.mark.parametrize("name", NOT_READ)
def test_pictures_that_nothing_reads_are_named_and_never_shown_in_part(tmp_path: Path, name: str) -> None:
    for row in rows(tmp_path, NOT_READ[name]):
        assert media_kind(row.file) == "image"
        assert refusals(row, "image") == {f"its content is {name}, which is not supported; save it as PNG or JPEG"}
        assert refusals(row, "video") == {f"its content is a still picture: {name}"}


def test_pages_of_a_tiff_and_the_second_eye_of_a_stereo_photo_are_no_animation(tmp_path: Path) -> None:
    images = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    for name in ("a.tif", "a.mpo"):
        images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
        assert media_kind(tmp_path / name) == "image"
        assert decode_clip(ManifestRow("a", str(tmp_path / name), 0), "image", 1).shape == (1, 24, 32, 3)


def test_a_preview_in_a_raw_file_of_a_camera_is_not_taken_for_the_photo(tmp_path: Path) -> None:
    Image.new("L", (32, 24)).save(tmp_path / "a.dng", "TIFF", tiffinfo={254: 1})
    row = ManifestRow("a", str(tmp_path / "a.dng"), 0)
    assert refusals(row, "image") == {
        "its first picture is a small preview, as in raw camera files; save it as PNG or JPEG"
    }


@pytest.mark.parametrize(
    ("major", "compatible", "has_tracks", "expected"),
    [
        (b"heic", b"mif1heic", True, Content("image", "HEIF")),
        (b"mif1", b"heic", False, Content("image", "HEIF")),
        (b"mif1", b"avifmif1", False, Content("image", "AVIF")),
        (b"avif", b"avifmif1", True, Content("image", "AVIF")),
        (b"avis", b"avifavis", False, Content("image", "AVIF")),
        (b"hevc", b"msf1hevc", True, Content("video", "MP4 or QuickTime")),
        (b"msf1", b"msf1hevc", False, Content("image", "HEIF")),
        (b"isom", b"heicmif1", False, Content("image", "HEIF")),
        (b"isom", b"mif1mp41", True, Content("video", "MP4 or QuickTime")),
        (b"isom", b"isommp41", True, Content("video", "MP4 or QuickTime")),
    ],
)
def test_brands_and_tracks_tell_photos_from_videos(
    tmp_path: Path, major: bytes, compatible: bytes, has_tracks: bool, expected: Content
) -> None:
    head = struct.pack(">I", 16 + len(compatible)) + b"ftyp" + major + bytes(4) + compatible
    tail = b"\0\0\0\x08free" + (b"\0\0\0\x08moov" if has_tracks else b"\0\0\0\x08meta")
    (tmp_path / "a").write_bytes(head + tail)
    assert content_of(tmp_path / "a") == expected


def test_text_is_no_image_and_an_empty_file_is_called_so(tmp_path: Path) -> None:
    for row in rows(tmp_path, b"BM is where a bitmap begins, P6 a pixmap"):
        assert media_kind(row.file) == "video"  # the video decoder says what is wrong with it
        assert refusals(row, "image") == {"it is not an image"}
        refusals(row, "video")
    for row in rows(tmp_path, b""):
        assert refusals(row, "image") == refusals(row, "video") == {"it is empty"}


def test_a_file_is_judged_anew_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(ONE_FRAME["GIF"])
    assert media_kind(path) == "image"
    path.write_bytes(ANIMATIONS["GIF"])
    assert media_kind(path) == "video"


def jpeg(grey: int, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_pictures_of_one_size_one_behind_the_other_are_raw_motion_jpeg(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mjpeg", "a.jpg"):
        (tmp_path / name).write_bytes(jpeg(10) + jpeg(200) + jpeg(90))
        with pytest.raises(DecodeError, match="it is raw Motion JPEG, pictures without times; convert it"):
            content_of(tmp_path / name)


def test_photos_with_something_behind_them_are_images(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    motion = write_video(tmp_path / "a.mp4", num_frames=3).read_bytes()
    eyes = io.BytesIO()
    left, right = (Image.new("RGB", (64, 48), (grey, grey, grey)) for grey in (10, 200))
    left.save(eyes, "MPO", save_all=True, append_images=[right])
    for index, content in enumerate((jpeg(10), jpeg(10) + jpeg(10, (32, 24)), jpeg(10) + motion, eyes.getvalue())):
        photo = tmp_path / f"{index}.jpg"
        photo.write_bytes(content)
        assert content_of(photo).type == "image"
    (tmp_path / "cut.jpg").write_bytes(jpeg(10)[:-40])
    assert content_of(tmp_path / "cut.jpg").type == "image"
