"""Files that are sent to do harm: each is refused or answered, and nothing of it stays."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

WriteMedia = Callable[..., Path]


def png_of(width_px: int, height_px: int) -> bytes:
    """A header of that size, and a little of its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000_000)))


def gif_of(width_px: int, height_px: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width_px, height_px, 0, 0, 0) + b"\x2c" + bytes(9) + b"\x02\x00;"


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.mp4", bytes(50_000_000))
    return file.getvalue()


HOSTILE: dict[str, tuple[bytes, set[int]]] = {
    "nothing": (b"", {400}),
    "text": (b"an essay\n" * 1000, {415}),
    "zip bomb": (zip_bomb(), {415}),
    "PNG of 10 gigapixels": (png_of(100_000, 100_000), {415, 422}),
    "PNG of 30,000 × 2,000": (png_of(30_000, 2_000), {413}),
    "GIF of 4 gigapixels": (gif_of(65_535, 65_535), {415, 422}),
    "GIF of 60 megapixels": (gif_of(10_000, 6_000), {413, 415, 422}),
    "playlist of another file": (b"ffconcat version 1.0\nfile 'FILE'\n", {415}),
    "playlist of itself": (b"ffconcat version 1.0\nfile upload\n", {415}),
    "playlist of HLS": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nFILE\n#EXT-X-ENDLIST\n", {415}),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file://FILE'/></svg>", {415}),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n", {415, 422}),
    "ELF": (b"\x7fELF\x02\x01\x01" + bytes(500), {415, 422}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(
    client: TestClient, temporary_folder: Path, tmp_path: Path, write_video: WriteMedia, kind: str
) -> None:
    content, statuses = HOSTILE[kind]
    content = content.replace(b"FILE", str(write_video(tmp_path / "private.mp4")).encode())
    answer = client.post("/predict", files={"file": ("../../clip.mp4", content, "video/mp4")})
    assert answer.status_code in statuses, answer.text
    assert list(answer.json()) == ["error"] and str(temporary_folder) not in answer.text
    assert [path for folder in temporary_folder.glob("cover-serve-*") for path in folder.iterdir()] == []


def test_cut_and_joined_files_do_no_harm(
    client: TestClient, tmp_path: Path, write_video: WriteMedia, write_image: WriteMedia
) -> None:
    video, image = write_video(tmp_path / "a.mp4").read_bytes(), write_image(tmp_path / "a.jpg", 3).read_bytes()
    for size in (1, 12, 200, len(video) // 2, len(video) - 1):
        assert client.post("/predict", files={"file": video[:size]}).status_code in (200, 415, 422)
    for polyglot in (image + zip_bomb(), video + image, image + video, zip_bomb() + image):
        assert client.post("/predict", files={"file": polyglot}).status_code in (200, 415, 422)
    assert client.post("/predict", files={"file": video}).status_code == 200  # the server goes on
