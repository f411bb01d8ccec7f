"""How numbers are written on the page and in the terminal."""

from __future__ import annotations

from cover.evaluation.intervals import Estimate


def percent(fraction: float) -> str:
    """0.6243 -> "62.4"."""
    return f"{100 * fraction:.1f}"


def chance(fraction: float) -> str:
    """As `percent`; small ones to one figure, so that a chance is never 0: 1 / 21841 -> "0.005"."""
    return percent(fraction) if fraction >= 0.0005 else f"{100 * fraction:.1g}"


def percent_range(estimate: Estimate) -> str:
    """The 95 % interval: "59.3–65.4"."""
    return f"{percent(estimate.lower)}–{percent(estimate.upper)}"


def points(fraction: float) -> str:
    """A difference in percentage points, signed: 0.023 -> "+2.3", -0.362 -> "−36.2", 0 -> "0.0"."""
    text = f"{100 * fraction:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points_range(estimate: Estimate) -> str:
    """The 95 % interval of a difference: "−0.4 to +5.0"."""
    return f"{points(estimate.lower)} to {points(estimate.upper)}"


def count(number: float) -> str:
    """A whole number in full, 1281167 -> "1,281,167"; any other to three figures, 0.03125 -> "0.0312"."""
    return f"{number:,.0f}" if number == round(number) or abs(number) >= 1000 else f"{number:.3g}"


def duration(seconds: float) -> str:
    """7.25 -> "7.2 s", 190 -> "3 min 10 s", 7500 -> "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
