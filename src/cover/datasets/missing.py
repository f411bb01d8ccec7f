"""Samples that an annotation lists and that are not on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from cover.core.atomic_files import write_whole
from cover.datasets.notices import shown
from cover.errors import CoverError

logger = logging.getLogger(__name__)


def list_missing(
    missing: Sequence[tuple[str, str]], num_listed: int, *, out: str | Path, name: str, split: str
) -> None:
    """Write OUT/NAME-SPLIT.missing.txt, a line for each of `missing`: sample id, tab, class name; and count them in
    the log. Where nothing is missing, an older file goes. Raises CoverError where no file can be written.

    num_listed: how many samples the annotation lists.
    """
    file = Path(out) / f"{name}-{split}.missing.txt"
    if not missing:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise CoverError(f"{file} cannot be removed ({error.strerror}); remove what is there") from error
        return
    write_whole(file, "".join(f"{sample_id}\t{class_name}\n" for sample_id, class_name in missing))
    share = 100 * len(missing) / num_listed
    message = "%s %s: %s of %s listed samples are missing (%.1f %%), such as %s; they are listed in %s"
    logger.warning(message, name, split, f"{len(missing):,}", f"{num_listed:,}", share, shown(missing[0][0]), file)
