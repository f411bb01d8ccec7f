"""The style of figures, and fonts for text in any script."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager

from cover.errors import escaped

logger = logging.getLogger(__name__)

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3af",
    "axes.labelcolor": "#4b5563",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "grid.color": "#e5e7eb",
    "axes.grid": True,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a class name may contain a dollar sign
    "svg.hashsalt": "cover",  # the same runs give the same page, byte for byte
}
COLORS = ("#2563eb", "#d97706", "#0f766e", "#9333ea", "#be185d", "#4d7c0f", "#0891b2", "#7c2d12")
CHANCE_COLOR = "#6b7280"
MAX_NAME_LENGTH = 36

_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Emoji",
    "Symbola",
)
"""Fonts for characters that matplotlib's own font lacks, such as Chinese. Those that are installed are used."""

_MISSING = re.compile(r"Glyph (\d+) ")


@contextmanager
def drawing(style: Mapping[Any, Any]) -> Iterator[None]:
    """Draw and save figures in this style. One warning names the characters that no font has; the figure shows boxes.

    Args:
        style: Settings of matplotlib (rcParams).
    """
    with mpl.rc_context({**style, "font.family": _fonts()}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    missing: dict[str, None] = {}
    for warning in caught:
        if found := _MISSING.match(str(warning.message)):
            missing[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        characters = escaped("".join(missing))
        logger.warning("no font for %s, so the figure shows boxes; install Noto Sans CJK, for example", characters)


def shortened(name: str) -> str:
    """Cut a name that is too long for a figure."""
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


@cache
def _fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [*mpl.rcParamsDefault["font.sans-serif"][:1], *(name for name in _FALLBACKS if name in installed)]
