"""One way for every decoder to fail, a one-line DecodeError that names the file; limits; and counts of reasons."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cover.errors import CoverError, DecodeError, system_reason
from cover.media.source import AnySource, MediaSource, OpenMedia

MAX_FRAME_PX = 2**26
"""The most pixels of a frame, twice those of 8K video. More counts as a decompression bomb."""

MAX_WORK_PX = 2**31
"""The most pixels that are decoded for one file, over all frames of an animation or all scans of a progressive JPEG.

They take some seconds. A file of a megabyte can ask for a thousand times as many, and a decoder cannot be interrupted.
"""

Sample = TypeVar("Sample", int, str)


class UnknownFormat(DecodeError):
    """A file that opens neither as a video nor as an image."""


@contextmanager
def opened(source: AnySource) -> Iterator[OpenMedia]:
    """Open a sample, and turn any error in the block into a DecodeError that names it, as `decoding` does.

    Open media stay open, and their errors are left to the block that opened them.

    Args:
        source: A file, a member of a shard, or open media.

    Raises:
        DecodeError: The file is missing, or decoding fails.
        CoverError: This process has too many files open, which is not the file's fault.
    """
    if isinstance(source, OpenMedia):
        yield source
        return
    source = MediaSource.of(source)
    with decoding(source), source.open() as media:
        yield media


@contextmanager
def decoding(source: MediaSource | Path) -> Iterator[None]:
    """Turn any error in the block into a DecodeError that names `source`.

    Args:
        source: The file, for messages.

    Raises:
        DecodeError: The file is missing, or decoding fails.
        CoverError: This process has too many files open, which is not the file's fault.
    """
    path = source if isinstance(source, Path) else source.path
    try:
        yield
    except FileNotFoundError as error:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise DecodeError(f"{path} {what}; fix the path, or restore the file", "no such file") from error
    # Parsers of damaged media raise nearly anything: struct.error, SyntaxError, KeyError, FFmpeg's own.
    except Exception as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise CoverError(f"{source} cannot be opened ({system_reason(error)})") from error
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = " ".join(text.split()).partition(" <")[0]  # Pillow shows its file object
        kind = type(error) if isinstance(error, DecodeError) else DecodeError
        raise kind(f"{source} cannot be decoded ({reason}); replace the file", reason) from error


def check_frame_size(width_px: int, height_px: int) -> None:
    """Check the size of a frame.

    Raises:
        DecodeError: The frame has no pixels, or more than MAX_FRAME_PX.
    """
    if not 0 < width_px * height_px <= MAX_FRAME_PX:
        raise DecodeError(f"its frames have {width_px}×{height_px} pixels; 1 to {MAX_FRAME_PX:,} are decoded")


def check_work(what: str, number: int, width_px: int, height_px: int) -> None:
    """Check how many pixels have to be decoded.

    Args:
        what: What is counted, "frames" or "scans", for the message.
        number: How many there are.
        width_px: The width of each.
        height_px: The height of each.

    Raises:
        DecodeError: They have more than MAX_WORK_PX pixels together.
    """
    if number * width_px * height_px > MAX_WORK_PX:
        raise DecodeError(
            f"its {number:,} {what} of {width_px}×{height_px} pixels take too long; "
            f"at most {MAX_WORK_PX:,} pixels are decoded"
        )


@dataclass(frozen=True)
class ReasonCount(Generic[Sample]):
    """A reason, the number of samples with it, and one of them."""

    reason: str
    count: int
    example: Sample


def reason_kind(reason: str) -> str:
    """Return the reason with … for its numbers. Reasons that differ only in numbers are of one kind."""
    return re.sub(r"\d+(\.\d+)?", "…", reason)


def count_reasons(unreadable: Mapping[Sample, str]) -> list[ReasonCount[Sample]]:
    """Count reasons by kind, the most frequent first. Numbers are shown if they are the same for all samples of a kind.

    Args:
        unreadable: Sample → reason.
    """
    kinds: dict[str, dict[Sample, str]] = {}
    for sample, reason in unreadable.items():
        kinds.setdefault(reason_kind(reason), {})[sample] = reason
    counts = []
    for kind, samples in kinds.items():
        same = len(set(samples.values())) == 1
        example = min(samples)
        counts.append(ReasonCount(samples[example] if same else kind, len(samples), example))
    return sorted(counts, key=lambda count: (-count.count, count.example))
