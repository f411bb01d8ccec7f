"""How often a sample is opened, how much of it is read, and when a length that a check has stored is used."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cover.datasets.manifest import ManifestRow
from cover.datasets.names import Kind
from cover.media.decode import decode_clip, decode_clips, probe_row
from cover.media.source import MediaSource

WriteVideo = Callable[..., Path]

IO = Path("/proc/self/io")
needs_linux = pytest.mark.skipif(not IO.exists(), reason="only Linux counts what a process reads")

_num_opens: dict[str, int] = {}
"""How often the files that a test watches have been opened. A hook cannot be removed, so it must stay cheap."""


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    # os.open has no mode; `open` may call it and is counted itself
    if event == "open" and arguments[1] is not None and (name := str(arguments[0])) in _num_opens:
        _num_opens[name] += 1


sys.addaudithook(_count)


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    yield
    _num_opens.clear()


def row_of(path: Path, **columns: Any) -> ManifestRow:
    return ManifestRow(sample_id="a", path=str(path), label=0, **columns)


def bytes_read() -> int:
    return int(IO.read_text().split()[1])


def reading(work: Callable[[], object], file: Path) -> tuple[int, int]:
    """How often `work` opens a file, and how many bytes it reads, FFmpeg's reading included."""
    work()  # what is imported or remembered
    _num_opens[str(file)] = 0
    idle = -bytes_read() + bytes_read()
    before = bytes_read()
    work()
    num_bytes = bytes_read() - before - idle
    return _num_opens[str(file)], num_bytes


def noise(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def write_noise(path: Path) -> Path:
    """A picture or 24 frames that hardly compress, so that a file is larger than the buffers of its readers."""
    pictures = [Image.fromarray(noise(number)) for number in range(24)]
    if path.suffix == ".png":
        Image.fromarray(noise(0).reshape(192, 64, 3)).resize((256, 192)).save(path, compress_level=0)
    elif path.suffix == ".webp":
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, quality=90)
    else:
        codec = {".webm": "libvpx", ".avi": "mpeg4"}.get(path.suffix, "libx264")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"b": "8000000"})
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.thread_count = 128, 96, 1
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))
    return path


def stored_in(form: str, file: Path) -> ManifestRow:
    """The file itself, or its copy between two others in a tar, or in a row of Parquet."""
    if form == "tar":
        with tarfile.open(file.with_suffix(".tar"), "w") as tar:
            for name in ("before", file.name, "after"):
                tar.add(file, name)
        with tarfile.open(file.with_suffix(".tar")) as tar:
            member = tar.getmember(file.name)
        return row_of(file.with_suffix(".tar"), offset=member.offset_data, length=member.size)
    if form == "parquet":
        table = pa.table({"image": [file.read_bytes()] * 3})
        pq.write_table(table, file.with_suffix(".parquet"), row_group_size=1, use_dictionary=False, compression="none")
        return row_of(file.with_suffix(".parquet"), offset=1)
    return row_of(file)


@needs_linux
@pytest.mark.parametrize("form", ["file", "tar", "parquet"])
@pytest.mark.parametrize(
    ("name", "kind", "times"),
    # FFmpeg reads 32 KiB at a time and repeats some of it where it seeks, as to the end of WebM. The headers of an
    # animation's frames are read 4 KiB at a time, and then all of it.
    [
        ("a.mp4", "video", 1.4),
        ("a.webm", "video", 1.8),
        ("a.avi", "video", 1.4),
        ("a.webp", "video", 1.6),
        ("a.png", "image", 1.1),
    ],
)
def test_a_sample_is_opened_once_and_nothing_beside_it_is_read(
    tmp_path: Path, form: str, name: str, kind: Kind, times: float
) -> None:
    file = write_noise(tmp_path / name)
    row, size = stored_in(form, file), file.stat().st_size
    assert size > 2**17
    rows = iter([row, row] if form != "parquet" else [row_of(row.file, offset=0), row])  # one cell is remembered
    opens, num_bytes = reading(lambda: decode_clip(next(rows), kind, 8), row.file)
    assert opens == 1
    assert 0.9 * size < num_bytes < times * size


def test_several_clips_of_a_sample_open_it_once(tmp_path: Path, write_video: WriteVideo) -> None:
    row = row_of(write_video(tmp_path / "a.mp4"))
    _num_opens[row.path] = 0
    clips = list(decode_clips(row, "video", 4, num_clips=3))
    assert _num_opens[row.path] == 1 and len(clips) == 3


def test_media_that_are_closed_do_not_read_the_file_that_is_opened_next(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"other")
    with MediaSource.of(tmp_path / "a").open() as media:
        assert media.read_at(1, 9) == b"irst"
    with (tmp_path / "b").open("rb"), pytest.raises(ValueError, match="closed file"):
        media.read_at(1, 9)


MEASURED: dict[str, dict[str, Any]] = {
    "mkv": {},
    "webm": {"codec": "libvpx"},
    "ts": {},
    "flv": {"codec": "flv1"},
    "mpg": {"codec": "mpeg2video"},
}
"""Containers whose headers do not list all frames, so that their length has to be measured."""


@pytest.mark.parametrize("suffix", MEASURED)
def test_a_stored_length_changes_no_frame(tmp_path: Path, write_video: WriteVideo, suffix: str) -> None:
    row = row_of(write_video(tmp_path / f"a.{suffix}", num_frames=50, **MEASURED[suffix]))
    frames, seconds = decode_clip(row, "video", 8), probe_row(row, "video").duration_seconds
    assert seconds == pytest.approx(2.0)
    replaced = (0.5, 1.9, 2.1, 40.0)  # lengths of files that stood here before
    for stored in (seconds, *replaced):
        assert np.array_equal(decode_clip(row_of(Path(row.path), duration_seconds=stored), "video", 8), frames)


@needs_linux
@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.ts"])
def test_a_stored_length_that_the_header_states_is_not_measured_again(tmp_path: Path, name: str) -> None:
    file = write_noise(tmp_path / name)
    checked = row_of(file, duration_seconds=probe_row(row_of(file), "video").duration_seconds)
    _, once = reading(lambda: decode_clip(checked, "video", 4), file)
    _, twice = reading(lambda: decode_clip(row_of(file), "video", 4), file)
    assert once < twice - 2**14


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_file_that_was_cut_off_after_its_check_is_measured(
    tmp_path: Path, write_video: WriteVideo, suffix: str
) -> None:
    file = write_video(tmp_path / f"a.{suffix}", num_frames=100, **MEASURED[suffix])
    checked = row_of(file, duration_seconds=probe_row(row_of(file), "video").duration_seconds)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert (probe_row(checked, "video").duration_seconds or 9.0) < 3.0
    assert np.array_equal(decode_clip(checked, "video", 8), decode_clip(row_of(file), "video", 8))


@pytest.mark.parametrize("suffix", ["mkv", "webm", "ts"])
def test_the_stored_length_of_joined_files_changes_no_frame(
    tmp_path: Path, write_video: WriteVideo, suffix: str
) -> None:
    part = write_video(tmp_path / f"part.{suffix}", num_frames=50, **MEASURED[suffix])
    joined = tmp_path / f"a.{suffix}"
    joined.write_bytes(2 * part.read_bytes())
    checked = row_of(joined, duration_seconds=probe_row(row_of(joined), "video").duration_seconds)
    assert checked.duration_seconds == pytest.approx(4.0)
    assert np.array_equal(decode_clip(checked, "video", 8), decode_clip(row_of(joined), "video", 8))
