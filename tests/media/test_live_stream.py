from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cover.errors import DecodeError
from cover.media.live_stream import LiveStream

WriteVideo = Callable[..., Path]
NumbersOf = Callable[[Any], list[int]]


def test_a_file_is_played_to_its_end(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=20)
    with LiveStream(str(video), num_frames=3, step_seconds=0.08, short_side_px=32) as stream:
        windows = list(stream.windows(stride=1))
    shown = [numbers_of(window.frames) for window in windows]
    assert all(first < second < third for first, second, third in shown)
    assert [numbers[-1] for numbers in shown] == sorted({numbers[-1] for numbers in shown})
    assert [window.is_first for window in windows] == [True] + [False] * (len(windows) - 1)


def test_a_slow_reader_gets_the_newest_frames(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    video = write_video(tmp_path / "a.mp4", num_frames=15)
    with LiveStream(str(video), num_frames=2, step_seconds=0.04) as stream:
        windows = stream.windows(stride=1)
        next(windows)
        (player,) = (thread for thread in threading.enumerate() if thread.name == str(video))
        player.join()
        (last,) = windows
    assert numbers_of(last.frames)[-1] == 14


@contextmanager
def served(*contents: bytes) -> Iterator[str]:
    """The address of a server that sends each of `contents` to one connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def serve() -> None:
            for content in contents:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://user:se@secret@127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_lost_connection_is_made_again(tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf) -> None:
    first, second = (
        write_video(tmp_path / f"{number}.ts", num_frames=10, first_number=number).read_bytes() for number in (100, 200)
    )
    reports: list[str] = []
    with (
        served(first, second) as address,
        LiveStream(address, num_frames=1, step_seconds=1e-6, report=reports.append, first_wait_seconds=0.01) as stream,
    ):
        windows = stream.windows(stride=1)
        second_window = next(window for window in windows if numbers_of(window.frames)[0] >= 200)
    assert second_window.is_first
    assert any("it has ended; connecting again in 0.01 s" in line for line in reports)
    assert any("64×64, h264" in line for line in reports) and "secret" not in "".join(reports)


def test_a_stream_that_was_never_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    with served() as address:
        pass
    for source, name in (
        (address, "tcp://127.0.0.1:"),
        (str(tmp_path / "absent.mp4"), "absent.mp4"),
        ("99", "camera 99"),
    ):
        with (
            LiveStream(source, num_frames=1, step_seconds=0.1) as stream,
            pytest.raises(DecodeError, match=f"{name}.* cannot be opened") as caught,
        ):
            next(stream.windows(stride=1))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http", "file"])
def test_a_playlist_opens_no_file_of_this_machine(
    tmp_path: Path, write_video: WriteVideo, numbers_of: NumbersOf, address: str
) -> None:
    video = write_video(tmp_path / "private.ts", num_frames=10)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{video}\n#EXT-X-ENDLIST\n".encode()
    (tmp_path / "a.m3u8").write_bytes(playlist)
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n" + playlist
    with served(*[answer] * (address == "http")) as server:
        source = str(tmp_path / "a.m3u8")
        if address == "http":
            source = f"http://{server.partition('@secret@')[2]}/a.m3u8"
        with (
            LiveStream(source, num_frames=1, step_seconds=0.1) as stream,
            pytest.raises(DecodeError, match=r"a\.m3u8 cannot be opened"),
        ):
            next(stream.windows(stride=1))
