"""What an upload may take, and how one that takes more is refused."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Of one upload.

    max_bytes, upload_seconds: of the request's body, and for it to arrive.
    max_seconds, max_pixels: of a video; of one frame or image.
    decode_seconds, decode_bytes: time, and memory beyond what its process has at first, that decoding may take.
    """

    max_bytes: int = 200 * MEBIBYTE
    upload_seconds: float = 60.0
    max_seconds: float = 120.0
    max_pixels: int = 50_000_000
    decode_seconds: float = 20.0
    decode_bytes: int = 2048 * MEBIBYTE


@dataclass(frozen=True)
class Refusal:
    """Why a request gets no answer: an HTTP status and one line."""

    status: int
    reason: str


class UploadRejected(Exception):
    """Carries a Refusal to where requests are answered."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, reason)
