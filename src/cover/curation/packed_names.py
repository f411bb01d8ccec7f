"""What packed copies are called: each is a file of its own below one folder, the same whenever a manifest is packed.

run/a.webm                 run/a.webm.mp4
/data/../run/b.mp4         data/%2E%2E/run/b.mp4
run/b.mp4, run/B.mp4       b~0c7f….mp4, B~93e1….mp4     one file where case does not count
run/c.mp4, run/c.mp4/d     run/c.mp4, d~5a20….mp4       nothing can lie below a file
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from cover.datasets.class_names import composed
from cover.datasets.suffixes import Kind

_SUFFIXES = {"video": (".mp4",), "image": (".jpg", ".jpeg")}
_MAX_PART_BYTES = 255  # of the name of a file or folder, in nearly all file systems
_MAX_BYTES = 1024  # of a whole name; with the folders above, systems allow 4096
_BY_DIGEST = re.compile(r"[^/]*~[0-9a-f]{32}\.\w+", re.IGNORECASE)
_READABLE = 40  # characters of the id in a name by digest


class PackedNames:
    """The names of the copies of some samples. Ids tell them; where two ids would share one, digests of the ids do."""

    def __init__(self, sample_ids: Iterable[str], kind: Kind) -> None:
        self._suffixes = _SUFFIXES[kind]
        names = {sample_id: self._plain(sample_id) for sample_id in sample_ids}
        taken: dict[str, int] = {}
        for name in names.values():
            key = _key(name)
            taken[key] = taken.get(key, 0) + 1
        self._by_digest = frozenset(
            sample_id
            for sample_id, name in names.items()
            if not _is_possible(name) or taken[_key(name)] > 1 or any(above in taken for above in _above(_key(name)))
        )

    def name_of(self, sample_id: str) -> str:
        """Path of a sample's copy relative to the folder of the copies."""
        if sample_id not in self._by_digest:
            return self._plain(sample_id)
        readable = sample_id.rstrip("/").rpartition("/")[2].removesuffix(self._suffixes[0])[:_READABLE]
        return f"{readable}~{hashlib.sha256(sample_id.encode()).hexdigest()[:32]}{self._suffixes[0]}"

    def _plain(self, sample_id: str) -> str:
        parts = sample_id.replace("..", "%2E%2E").split("/")
        name = "/".join(part for part in parts if part not in {"", "."})
        return name if name.lower().endswith(self._suffixes) else name + self._suffixes[0]


def _is_possible(name: str) -> bool:
    """Whether file systems allow a name, and no other id can have it as its name by digest."""
    encoded = name.encode()
    parts = encoded.split(b"/")
    is_short = len(encoded) <= _MAX_BYTES and max(map(len, parts)) <= _MAX_PART_BYTES
    return is_short and parts != [b".mp4"] and _BY_DIGEST.fullmatch(name) is None


def _key(name: str) -> str:
    """Equal for names that are one file on some systems, where neither case nor Unicode's form counts."""
    return composed(name.casefold())


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name
