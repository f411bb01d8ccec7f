"""A head for a changed list of classes: each class keeps its row, found by name, whatever its place in the lists.

This works on any tensor with one row per class: a head's weight and bias, their averages, and their optimizer state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class HeadRows:
    """Where the rows of a new head come from.

    Attributes:
        origins: For each class of the new head its row in the old head, or None if the class is new.
        num_old: The number of rows of the old head.
    """

    origins: tuple[int | None, ...]
    num_old: int

    @property
    def kept(self) -> int:
        """The number of rows that keep their place."""
        return sum(origin == row for row, origin in enumerate(self.origins))

    @property
    def moved(self) -> int:
        """The number of rows that come from another place."""
        return self.num_copied - self.kept

    @property
    def num_copied(self) -> int:
        """The number of rows that come from the old head."""
        return len(self.origins) - self.fresh

    @property
    def fresh(self) -> int:
        """The number of rows of classes that the old head lacks."""
        return self.origins.count(None)

    @property
    def dropped(self) -> int:
        """The number of rows of the old head that the new head does not use."""
        return self.num_old - self.num_copied

    @property
    def unchanged(self) -> bool:
        """Whether both heads have the same classes in the same order."""
        return self.kept == self.num_old == len(self.origins)

    def __str__(self) -> str:
        counts = {name: getattr(self, name) for name in ("kept", "moved", "fresh", "dropped")}
        shown = [f"{count:,} {name}" for name, count in counts.items() if count] or ["0 kept"]
        return f"rows: {', '.join(shown)}"


def match_rows(old: Sequence[str], new: Sequence[str]) -> HeadRows:
    """Find the classes of a new head in an old one.

    A name that occurs twice in a list does not identify a row. It matches only if both lists have it in the same place.

    Args:
        old: Class names of the old head, in the order of its rows.
        new: Class names of the new head, in the order of its rows.
    """
    counts = Counter(old), Counter(new)
    row_of = {name: row for row, name in enumerate(old) if all(count[name] == 1 for count in counts)}
    stays = [row < len(old) and old[row] == name for row, name in enumerate(new)]
    origins = (row if stay else row_of.get(name) for row, (stay, name) in enumerate(zip(stays, new, strict=True)))
    return HeadRows(tuple(origins), len(old))


def take_rows(rows: HeadRows, old: Tensor, fresh: Tensor) -> Tensor:
    """Build a tensor of the new head from one of the old head.

    Args:
        rows: The result of `match_rows`.
        old: The tensor of the old head, [old classes, …].
        fresh: The values of new classes, [new classes, …]: initial weights, or zeros for optimizer state.

    Returns:
        A new tensor [new classes, …], with the type and device of `fresh`.
    """
    targets = [row for row, origin in enumerate(rows.origins) if origin is not None]
    origins = [origin for origin in rows.origins if origin is not None]
    new = fresh.detach().clone()
    new[targets] = old.detach()[origins].to(fresh)
    return new
