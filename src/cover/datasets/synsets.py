"""WordNet ids (wnids, as n01440764) as the labels of ImageNet's images."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from cover.datasets.annotation_files import as_published, read_lines
from cover.datasets.location import Location
from cover.datasets.naming import stem_of
from cover.errors import ManifestError

_WNID = re.compile(r"n\d{8}")


def wnid_of(place: Location) -> str | None:
    """From the name of the file (n01440764_10026.JPEG), else of the closest folder or tar; None if neither has one."""
    *folders, file = place.name.split("/")
    stem = stem_of(file).partition("_")[0]
    return next((part for part in (stem, *reversed(folders)) if _WNID.fullmatch(part)), None)


def read_words(file: Path) -> dict[str, str]:
    """wnid → its words, of lines such as `n01440764 tench, Tinca tinca`."""
    with as_published(file):
        pairs = (line.split(maxsplit=1) for line in read_lines(file))
        return {as_wnid(wnid): words.strip() for wnid, words in pairs}


def as_wnid(text: str) -> str:
    """`text` itself. Raises ValueError for what is no wnid."""
    if not _WNID.fullmatch(text):
        raise ValueError(f"'{text}' is no WordNet id")
    return text


def named_classes(wnids: Iterable[str], words: Mapping[str, str]) -> dict[str, str]:
    """wnid → class name, sorted by wnid, as the labels of ImageNet are numbered.

    Names are the words, with the wnid behind them where two synsets have the same ("crane"); the wnid without words.
    """
    ordered = sorted(set(wnids))
    counts = Counter(words.get(wnid, wnid) for wnid in ordered)
    names = ((wnid, words.get(wnid, wnid)) for wnid in ordered)
    return {wnid: name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in names}


def read_devkit_wnids(file: Path) -> list[str]:
    """The wnids in meta.mat of ILSVRC's development kit, in the order of ILSVRC2012_ID, which counts from 1.

    It is a MATLAB 5 file: an array of structs, compressed. Their only texts of this form are the WNID fields.
    Raises ManifestError where none are found.
    """
    content = file.read_bytes()[128:]  # behind the header
    texts = content
    while len(content) > 8:
        kind, size = (int.from_bytes(content[at : at + 4], "little") for at in (0, 4))
        if kind == 15:  # miCOMPRESSED
            texts += zlib.decompress(content[8 : 8 + size])
        content = content[8 + size :]
    wnids = [match.decode() for match in re.findall(rb"n\d{8}", texts.replace(b"\0", b""))]  # 8 or 16 bits a letter
    if not wnids:
        raise ManifestError(f"{file} holds no synsets; unpack it again from ILSVRC2012_devkit_t12.tar.gz")
    return wnids
