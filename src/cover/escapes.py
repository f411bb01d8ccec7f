"""Text that is safe to show: a name from elsewhere moves no cursor, colours nothing and stays on its line."""

from __future__ import annotations


def escaped(text: str) -> str:
    """The text on one line: signs that do not print, and bytes that are not UTF-8, become \\n, \\x1b and the like."""
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
