"""Read text and JSON: anything but a regular text file of limited size is an error and never blocks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cover.core.text_files import read_json, read_text


def test_text_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffcafé\r\n".encode())
    assert read_text(tmp_path / "a.txt") == "café\r\n"


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, "it is a pipe, not a file"),
        (make_socket, "it is a socket, not a file"),
        (link_to_device, "it is a device, not a file"),
        (Path.mkdir, "it is a folder, not a file"),
        (lambda path: path.write_bytes(b"0123456789"), "it is larger than 8 bytes"),
        (lambda path: path.write_bytes(b"caf\xe9"), "it is not UTF-8 text; save it as UTF-8"),
        (lambda path: path.write_bytes("a".encode("utf-16")), "it is UTF-16 text; save it as UTF-8"),
    ],
    ids=["pipe", "socket", "device", "folder", "large", "latin-1", "utf-16"],
)
def test_what_is_no_text_file_is_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "a.txt")  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / "a.txt", max_bytes=8)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, ""], ids=["cut", "nested", "empty"])
def test_json_that_cannot_be_parsed_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "a.json")
