"""The process of a command: its streams, its signals, and how it ends. One line for what a user can fix."""

from __future__ import annotations

import locale
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, NoReturn

from typer.core import TyperGroup

from cover.errors import CoverError, escaped, system_reason

_NOBODY_READS = 128 + signal.SIGPIPE
"""Exit code where whatever reads the output has seen enough, as `head` has."""


class Commands(TyperGroup):
    """Commands that a signal or a closed pipe ends with Unix's exit codes; Typer has codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        # Also where a shell has SIGINT ignored, as for jobs that a script starts in the background. SIGTERM stays as it
        # is: it ends a process at once, even inside a library. Commands that save on it handle it themselves.
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            sys.exit(_NOBODY_READS)
        finally:
            signal.signal(signal.SIGINT, previous)


def run(command: Callable[[], Any]) -> None:
    """Call `command`. What a user can fix ends in one line and exit code 2, a bug in a traceback."""
    _use_utf8()
    _open_standard_streams()
    threading.excepthook = _tell_of_thread
    try:
        try:
            command()
        finally:
            _flush()
    except CoverError as error:
        _fail(str(error))
    except MemoryError:
        _fail("there is not enough memory; give the process more, or lower batch_size or num_workers")
    except BrokenPipeError:
        sys.exit(_NOBODY_READS)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{system_reason(error)}")


def _use_utf8() -> None:
    """Start anew in Python's UTF-8 mode where the locale has another encoding, in which it would read files and their
    names; the terminal keeps its own."""
    if sys.flags.utf8_mode or locale.getpreferredencoding(False).upper() in ("UTF-8", "UTF8"):
        return
    if os.environ.get("PYTHONUTF8") == "1":  # Python was started with -E, -I or -X utf8=0, so it would ignore this
        return
    streams = str(os.environ.get("PYTHONIOENCODING") or getattr(sys.stdout, "encoding", "utf-8"))
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": streams}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _open_standard_streams() -> None:
    """Make all three usable: one that the caller has closed leads nowhere, and no sign is too much for its encoding.

    A closed one must not stay closed: the next file would take its number, and get what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif not isinstance(stream, TextIOWrapper):
            continue
        elif mode == "r":  # lists of files, whose names need not be UTF-8
            stream.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
        else:
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Have all that was printed written. Raises OSError where it cannot be, and drops it: Python would try it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise


def _tell_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Show bugs in threads. What the system refuses them, the main thread hears of and tells in one line."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)


def _fail(message: str) -> NoReturn:
    with suppress(OSError):
        print("error:", escaped(message), file=sys.stderr)
    sys.exit(2)
