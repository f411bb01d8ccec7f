"""A head for other classes than before: each class takes its row along by name, wherever it stands in the lists.

Works on any tensor that has a row a class: a head's weight and bias, their averages, and the optimizer's state of them.
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
        origins: For each class of the new head its row in the old one, or None where the class is new.
        num_old: Rows of the old head.
    """

    origins: tuple[int | None, ...]
    num_old: int

    @property
    def kept(self) -> int:
        """Rows that stay in their place."""
        return sum(origin == row for row, origin in enumerate(self.origins))

    @property
    def moved(self) -> int:
        """Rows that come from another place."""
        return len(self.origins) - self.kept - self.fresh

    @property
    def fresh(self) -> int:
        """Rows of classes that the old head does not have."""
        return self.origins.count(None)

    @property
    def dropped(self) -> int:
        """Rows of the old head that the new one has no class for."""
        return self.num_old - self.kept - self.moved

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

    Args:
        old: Class names of the old head, in the order of its rows.
        new: Class names of the new head. A name that occurs twice in either list says nothing about which row is
            meant, so it is matched only where both lists have it in the same place.
    """
    counts = Counter(old), Counter(new)
    row_of = {name: row for row, name in enumerate(old) if all(count[name] == 1 for count in counts)}
    stays = [row < len(old) and old[row] == name for row, name in enumerate(new)]
    origins = (row if stay else row_of.get(name) for row, (stay, name) in enumerate(zip(stays, new, strict=True)))
    return HeadRows(tuple(origins), len(old))


def take_rows(rows: HeadRows, old: Tensor, fresh: Tensor) -> Tensor:
    """The tensor of the new head.

    Args:
        rows: From `match_rows`.
        old: [old classes, …], the tensor of the old head.
        fresh: [new classes, …], what new classes start with: initial weights, or zeros for an optimizer's state.

    Returns:
        [new classes, …], of the type and on the device of `fresh`, which is not changed.
    """
    targets = [row for row, origin in enumerate(rows.origins) if origin is not None]
    origins = [origin for origin in rows.origins if origin is not None]
    new = fresh.detach().clone()
    new[targets] = old.detach()[origins].to(fresh)
    return new
