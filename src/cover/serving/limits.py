"""What an upload may take, and how one that takes more is refused.

The command line reads the defaults from here, before the libraries of the server are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 2**20


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may take.

    Attributes:
        max_bytes: Size of the request's body.
        upload_seconds: Time for the body to arrive.
        max_seconds: Duration of a video.
        max_pixels: Pixels of one frame or image.
        decode_seconds: Time to decode it.
        decode_bytes: Memory to decode it, on top of what the process takes at first.
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
    """Carries a Refusal to the place that answers requests."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, reason)
