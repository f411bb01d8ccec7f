"""The application that the commands join, what they share, and how it ends when something goes wrong."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cover.errors import CoverError, system_reason

if TYPE_CHECKING:
    from cover.progress import Terminal


_NOBODY_READS = 128 + signal.SIGPIPE
"""Exit code where whatever reads the output has seen enough, as `head` has."""


class _Commands(TyperGroup):
    """Typer ends with a code of its own where a signal or a closed pipe stops a command; here, both have Unix's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            sys.exit(_NOBODY_READS)


app = typer.Typer(
    name="cover",
    cls=_Commands,
    help="Co-train one video transformer on many video and image datasets (CoVeR).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a "[data]" in a help text is no markup
)


class Split(StrEnum):
    """A part of a dataset."""

    train = "train"
    val = "val"
    test = "test"


Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Run = Annotated[Path, typer.Argument(help="A run, or one of its checkpoints.")]


def console() -> Terminal:
    """The terminal; 100 columns in a file or a pipe."""
    from cover.progress import Terminal

    return Terminal()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGINT end the block, also where a shell ignores it, as for jobs that a script starts in the background.

    SIGTERM stays as it is: it ends a process at once, also inside a library. Commands that save on it say so.
    """
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def main() -> None:
    """Do what the command line says. What a user can fix ends in one line and exit code 2, a bug in a traceback."""
    _open_standard_streams()
    threading.excepthook = _tell_of_thread
    try:
        try:
            app()
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
        print("error:", message.replace("\n", "\\n"), file=sys.stderr)
    sys.exit(2)
