"""The process of a command: its streams, its signals, and how it ends: in one line if the user can fix it."""

from __future__ import annotations

import locale
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from cover.core.verbosity import Verbosity, set_verbosity, verbosity
from cover.errors import CoverError, escaped, system_reason

GROUPS = {
    "Data": ("index", "check", "pack", "world"),
    "Train": ("init", "train", "evaluate", "compare", "study"),
    "Use": ("predict", "timeline", "watch", "explain", "embed", "search", "serve", "export"),
    "Project": ("demo", "info", "doctor"),
}
"""The commands as `cover --help` lists them, in the order of use."""
_CLOSED_PIPE = 128 + signal.SIGPIPE
"""Exit code if the reader of the output has closed it, as `head` does."""


class Commands(TyperGroup):
    """The commands of `cover`.

    They are listed in GROUPS, and all take -v and -q. After a signal or a closed pipe they end with Unix's exit codes;
    Typer's own codes differ.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for command in _leaves(self):
            command.params += _verbosity_options()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands in the order of use."""
        return [name for names in GROUPS.values() for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])

    def invoke(self, ctx: Any) -> Any:
        # A shell ignores SIGINT in jobs that a script starts in the background; this restores it. SIGTERM stays as it
        # is: it ends a process at once, even inside a library. Commands that save on SIGTERM handle it themselves.
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        set_verbosity(Verbosity.NORMAL)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
        except BrokenPipeError:
            sys.exit(_CLOSED_PIPE)
        finally:
            signal.signal(signal.SIGINT, previous)


def _leaves(group: TyperGroup) -> Iterator[TyperCommand]:
    """Yield all commands below a group that are no groups themselves."""
    for command in group.commands.values():
        if isinstance(command, TyperGroup):
            yield from _leaves(command)
        elif isinstance(command, TyperCommand):
            yield command


def _choose(level: Verbosity) -> Callable[[bool], None]:
    return lambda is_given: set_verbosity(level) if is_given else None


def _with_verbosity(
    verbose: Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", callback=_choose(Verbosity.VERBOSE), help="Say more, and show where an error comes from."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", callback=_choose(Verbosity.QUIET), help="Show only results and errors.")
    ] = False,
) -> None:
    """Declare the options that all commands take. Their callbacks do the work."""


def _verbosity_options() -> list[Any]:
    declared = typer.Typer(add_completion=False)
    declared.command()(_with_verbosity)
    options = [option for option in typer.main.get_command(declared).params if option.name in ("verbose", "quiet")]
    for option in options:
        option.expose_value = False  # the commands have no such parameters
    return options


def run(command: Callable[[], Any]) -> None:
    """Call a command. An error that the user can fix becomes one line and exit code 2; a bug keeps its traceback."""
    _use_utf8()
    _open_standard_streams()
    threading.excepthook = _show_thread_error
    try:
        try:
            command()
        finally:
            _flush()
    except CoverError as error:
        if verbosity() is Verbosity.VERBOSE:
            traceback.print_exc()
        _fail(str(error), *getattr(error, "__notes__", ()))
    except MemoryError:
        _fail("there is not enough memory; give the process more, or lower batch_size or num_workers")
    except BrokenPipeError:
        sys.exit(_CLOSED_PIPE)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{system_reason(error)}")


def _use_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding, which would apply to files and their names.

    The terminal keeps its own encoding.
    """
    if sys.flags.utf8_mode or locale.getpreferredencoding(False).upper() in ("UTF-8", "UTF8"):
        return
    if os.environ.get("PYTHONUTF8") == "1":  # Python was started with -E, -I or -X utf8=0 and would ignore this
        return
    streams = str(os.environ.get("PYTHONIOENCODING") or getattr(sys.stdout, "encoding", "utf-8"))
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": streams}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _open_standard_streams() -> None:
    """Make all three streams usable: a closed one leads to /dev/null, and no character fails to encode.

    A closed stream must not stay closed: the next file to open would take its number and get what libraries print.
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
    """Write out everything that was printed. If that fails, drop it, so that Python does not try again, and raise."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise


def _show_thread_error(failed: threading.ExceptHookArgs) -> None:
    """Show bugs in threads. The main thread also gets their OSErrors and prints those in one line."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)


def _fail(message: str, *notes: str) -> NoReturn:
    """Print a message, and below it lines to copy."""
    with suppress(OSError):
        print("error:", escaped(message), file=sys.stderr)
        for note in notes:
            print("", *map(escaped, note.splitlines()), sep="\n", file=sys.stderr)
    sys.exit(2)
