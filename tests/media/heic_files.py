"""HEIC photos as phones write them: a grid of tiles that the container turns and mirrors."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

TILE_PX = 64


def write_heic(
    path: Path,
    colours: Sequence[tuple[int, int, int]],
    num_columns: int,
    *,
    quarter_turns: int = 0,
    mirror: int | None = None,
    pixel_format: str = "yuv420p",
) -> Path:
    """Write a photo whose tiles have these colours, row by row.

    Args:
        path: Of the file; its name is free.
        colours: RGB of each tile.
        num_columns: Tiles in a row.
        quarter_turns: Counter-clockwise, by which the photo is shown (the property `irot`).
        mirror: Before the turns: 0 turns it upside down, 1 swaps left and right (`imir`); None leaves it.
        pixel_format: What is encoded, as FFmpeg calls it.
    """
    decoder_configuration, tiles = _encode(path.with_suffix(".tiles.mp4"), colours, pixel_format)
    num_tiles, photo = len(tiles), len(tiles) + 1
    size = struct.pack(">II", num_columns * TILE_PX, num_tiles // num_columns * TILE_PX)
    properties = [
        _box(b"hvcC", decoder_configuration),
        _full(b"ispe", struct.pack(">II", TILE_PX, TILE_PX)),
        _full(b"ispe", size),
    ]
    of_photo = [3]
    for name, value in ((b"imir", mirror), (b"irot", quarter_turns or None)):
        if value is not None:
            properties.append(_box(name, bytes([value])))
            of_photo.append(0x80 | len(properties))
    items = b"".join(_item(number, b"hvc1", flags=1) for number in range(1, photo)) + _item(photo, b"grid")
    associations = [struct.pack(">HBBB", number, 2, 0x81, 2) for number in range(1, photo)]
    associations.append(struct.pack(">HB", photo, len(of_photo)) + bytes(of_photo))
    grid = struct.pack(">BBBB", 0, 1, num_tiles // num_columns - 1, num_columns - 1) + size
    references = struct.pack(f">HH{num_tiles}H", photo, num_tiles, *range(1, photo))

    def meta(start: int) -> bytes:
        places = b""
        for number, tile in enumerate(tiles, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(tile))
            start += len(tile)
        places += struct.pack(">HHHHII", photo, 1, 0, 1, 0, len(grid))
        return _full(
            b"meta",
            _full(b"hdlr", struct.pack(">I4s13x", 0, b"pict"))
            + _full(b"pitm", struct.pack(">H", photo))
            + _full(b"iloc", struct.pack(">BBH", 0x44, 0, photo) + places, version=1)
            + _full(b"iinf", struct.pack(">H", photo) + items)
            + _full(b"iref", _box(b"dimg", references))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(properties)) + _full(b"ipma", struct.pack(">I", photo) + b"".join(associations)),
            )
            + _box(b"idat", grid),
        )

    head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    start = len(head) + len(meta(0)) + 8
    path.write_bytes(head + meta(start) + _box(b"mdat", b"".join(tiles)))
    return path


def _encode(path: Path, colours: Sequence[tuple[int, int, int]], pixel_format: str) -> tuple[bytes, list[bytes]]:
    """HEVC's configuration, and each tile as a keyframe."""
    with av.open(str(path), "w") as container:
        options = {"x265-params": "keyint=1:log-level=none:repeat-headers=0:pools=1", "tag": "hvc1"}
        stream = container.add_stream("libx265", rate=1, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = TILE_PX, TILE_PX, pixel_format
        for colour in colours:
            pixels = np.full((TILE_PX, TILE_PX, 3), colour, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        configuration = bytes(container.streams.video[0].codec_context.extradata or b"")
    path.unlink()
    return configuration, packets


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, name) + content


def _full(name: bytes, content: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags) + content)


def _item(number: int, kind: bytes, *, flags: int = 0) -> bytes:
    return _full(b"infe", struct.pack(">HH4sx", number, 0, kind), version=2, flags=flags)
