"""What FFmpeg opens, and what it does not: pictures, playlists, other files, pipes, and excessive work."""

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.errors import DecodeError
from cover.media import demux
from cover.media.decode import decode_clip, probe_row
from cover.media.sampling import Sampling
from cover.media.sequential import FrameStream
from cover.media.video import decode_video, probe_video

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]

WAYS: dict[str, Callable[[Path], Any]] = {
    "decode": lambda path: decode_video(path, Sampling(4)),
    "probe": probe_video,
    "timeline": lambda path: list(FrameStream(path, step_seconds=0.1)),
}


def assert_refused(path: Path, reason: str) -> None:
    """All ways of reading fail, in one line that names the file."""
    for read in WAYS.values():
        with pytest.raises(DecodeError, match=reason) as caught:
            read(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def cover_art() -> av.Packet[Any]:
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 48), (255, 0, 255)).save(jpeg, "JPEG")
    packet: av.Packet[Any] = av.Packet(jpeg.getvalue())
    packet.pts = packet.dts = 0
    packet.time_base, packet.is_keyframe = Fraction(1), True
    return packet


def write_song(path: Path, audio_codec: str, sample_format: str, *, video: bool = False, cover: bool = True) -> Path:
    """Half a second of silence, a cover, and with `video` ten black frames after the cover."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream(audio_codec, rate=8000)
        art = container.add_stream("mjpeg", rate=1) if cover else None
        moving = container.add_stream("libx264", rate=10) if video else None
        assert isinstance(audio, av.AudioStream)
        for stream in (art, moving):
            if isinstance(stream, av.VideoStream):
                stream.width, stream.height = 64, 48
        if isinstance(art, av.VideoStream):
            art.pix_fmt, art.disposition = "yuvj420p", Disposition.attached_pic
            container.start_encoding()
            packet = cover_art()
            packet.stream = art
            container.mux(packet)
        for index in range(10 if isinstance(moving, av.VideoStream) else 0):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(moving.encode(picture))  # type: ignore[union-attr]
        if isinstance(moving, av.VideoStream):
            container.mux(moving.encode(None))
        dtype = np.float32 if sample_format == "fltp" else np.int16
        for index in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype), format=sample_format, layout="mono")
            frame.rate, frame.pts = 8000, 1024 * index
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"), [("a.mp4", "aac", "fltp"), ("a.m4a", "aac", "fltp"), ("a.flac", "flac", "s16")]
)
def test_songs_are_no_videos(tmp_path: Path, name: str, codec: str, sample_format: str) -> None:
    silent = write_song(tmp_path / name, codec, sample_format, cover=False)
    assert_refused(silent, "it has no video stream[)]")
    written = tmp_path / "with_cover.mp4" if name == "a.m4a" else tmp_path / f"with_cover_{name}"
    song = write_song(written, codec, sample_format).rename(tmp_path / f"song_{name}")
    assert_refused(song, "it has no video stream, only an attached picture")


def test_a_video_with_a_cover_is_a_video(tmp_path: Path) -> None:
    video = write_song(tmp_path / "a.mp4", "aac", "fltp", video=True)
    assert probe_video(video).num_frames == 10
    assert decode_video(video, Sampling(2)).max() < 10


def test_a_photograph_is_no_video_but_a_sequence_is(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(5)]
    pictures[0].save(tmp_path / "still.avif")
    assert_refused(tmp_path / "still.avif", "it has no video stream, only a still picture")
    pictures[0].save(tmp_path / "sequence.avif", save_all=True, append_images=pictures[1:], duration=100)
    frames = decode_video(tmp_path / "sequence.avif", Sampling(5))
    assert np.abs(frames[:, 20, 20, 0].astype(int) - [0, 40, 80, 120, 160]).max() < 8


def test_pictures_and_other_formats_are_no_videos(tmp_path: Path) -> None:
    for form in ("JPEG", "PNG", "BMP"):
        Image.new("RGB", (64, 48)).save(tmp_path / f"{form}.mp4", form)
        assert_refused(tmp_path / f"{form}.mp4", "its format is not supported")


PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nFILE\n#EXT-X-ENDLIST\n",
    "HLS with a mark": "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nFILE\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile 'FILE'\n",
    "DASH": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>FILE</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "VobSub": "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
    "timestamp: 00:00:00:000, filepos: 000000000\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
    "RealMedia": "rtsp://127.0.0.1/a.rm\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "ts", "idx"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_texts_that_name_another_file_are_refused(
    tmp_path: Path, write_video: WriteVideo, kind: str, suffix: str
) -> None:
    private = write_video(tmp_path / "private.ts", num_frames=10)
    (tmp_path / "a.sub").write_bytes(private.read_bytes())  # FFmpeg derives this name from that of a VobSub index
    for name in (str(private), f"file://{private}", private.name):
        playlist = tmp_path / f"a.{suffix}"
        playlist.write_text(PLAYLISTS[kind].replace("FILE", name))
        assert_refused(playlist, "it is a text, such as a playlist, and not a media file")


def test_a_name_is_no_pattern(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    write_video(tmp_path / "a1.mp4", num_frames=4, first_number=100)
    for name in ("a%d.mp4", "concat:a1.mp4|a1.mp4", "fd:", "-"):
        video = write_video(tmp_path / "b.mp4", num_frames=4).rename(tmp_path / name)
        assert numbers_of(decode_video(video, Sampling(4))) == [0, 1, 2, 3]


def with_reference(video: bytes, kind: bytes, content: bytes, flags: int) -> bytes:
    """An MP4 file whose track lies where an entry of `dref` says."""
    place = video.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", video, place)
    entry = struct.pack(">I4sI", 12 + len(content), kind, flags) + content
    changed = bytearray(video)
    changed[place : place + size] = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = changed.rindex(parent, 0, place) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", changed, at)[0] + 16 + len(entry) - size)
    return bytes(changed)


def alias(path: str) -> bytes:
    """A Macintosh alias record, as far as FFmpeg reads it."""
    record = bytes(4) + struct.pack(">HHH", 150 + 4 + len(path) + 4, 2, 0) + bytes(44) + bytes([5]) + b"a.mp4"
    record += bytes(58 + 16) + struct.pack(">hh", 1, 1) + bytes(16)
    return record + struct.pack(">hH", 2, len(path)) + path.encode() + struct.pack(">hH", -1, 0)


@pytest.mark.parametrize("flags", [0, 1])
def test_tracks_that_lie_in_another_file_are_refused(tmp_path: Path, write_video: WriteVideo, flags: int) -> None:
    private = write_video(tmp_path / "private.mp4", num_frames=10)
    references = [(b"alis", alias(str(private)))]
    if not flags:
        references.append((b"url ", f"file://{private}\0".encode()))
    for kind, content in references:
        video = tmp_path / "a.mp4"
        video.write_bytes(with_reference(private.read_bytes(), kind, content, flags))
        assert_refused(video, "one of its tracks lies in another file, which is not read")


def test_encrypted_tracks_are_refused(tmp_path: Path, write_video: WriteVideo) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=10)
    video.write_bytes(video.read_bytes().replace(b"avc1\0\0\0\0\0\0", b"encv\0\0\0\0\0\0"))
    assert_refused(video, "it is encrypted")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


NO_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pipe": (os.mkfifo, "it is a pipe, not a file"),
    "socket": (make_socket, "it is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "is a link to nothing; fix the path"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "nothing": (lambda path: None, "does not exist; fix the path, or restore the file"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_named_at_once(tmp_path: Path, name: str) -> None:
    make, reason = NO_FILES[name]
    path = tmp_path / "a.mp4"
    make(path)
    assert_refused(path, reason)
    kinds: tuple[Kind, ...] = ("video", "image")
    rows = (ManifestRow("a", str(path), 0, offset=offset, length=length) for offset, length in ((0, 9), (0, None)))
    for row in (ManifestRow("a", str(path), 0), *rows):
        for kind in kinds:
            for read in (lambda row, kind: decode_clip(row, kind, 4), probe_row):
                with pytest.raises(DecodeError, match=reason):
                    read(row, kind)


def test_a_folder_is_no_video_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    assert_refused(tmp_path / "a.mp4", "it is a folder, not a file")


def test_files_that_claim_more_frames_than_are_read(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demux, "MAX_FRAMES", 29)
    assert_refused(write_video(tmp_path / "a.mp4", num_frames=30), "it lists 30 frames; at most 29 are read")


def test_a_picture_that_stands_still_for_days_has_no_timeline(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf
) -> None:
    video = write_video(tmp_path / "a.mkv", num_frames=3, times_ms=[0, 100, 10**8])
    reason = r"its picture stands still from 0\.1 s to 100,000\.0 s; a frame may be shown for at most 3,600 s"
    with pytest.raises(DecodeError, match=reason):
        list(FrameStream(video, step_seconds=0.5))
    assert numbers_of(decode_video(video, Sampling(2, end_seconds=1.0))) == [1, 1]
