"""How the process of a command prints and ends, whatever it is started with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

IMPORTS = "import os, signal, sys, threading; from cover.cli.process import Commands, run; "


def start(program: str, shell: str = 'exec "$@"', **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `program` as a command; the shell may redirect it."""
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", IMPORTS + program]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("OSError(28, 'x')", "No space left on device; make room on that disk"),
        ("OSError(24, 'x', 'a.mp4')", "a.mp4: Too many open files; raise the limit of open files, for example with"),
        ("OSError('no number')", "no number"),
        ("MemoryError()", "there is not enough memory; give the process more, or lower batch_size or num_workers"),
        ("__import__('cover.errors').errors.CoverError('a\\nb')", "a\\nb"),
    ],
)
def test_what_a_user_can_fix_is_one_line_and_code_2(error: str, said: str) -> None:
    done = start(f"run(lambda: (_ for _ in ()).throw({error}))")
    assert done.returncode == 2 and done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {said}")


def test_a_bug_keeps_its_traceback() -> None:
    done = start("run(lambda: 1 / 0)")
    assert done.returncode == 1 and b"Traceback" in done.stderr and b"ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({"PYTHONIOENCODING": "utf-8"}, "café Δ \\udce9".encode()),
        ({"PYTHONIOENCODING": "latin-1"}, b"caf\xe9 \\u0394 \\udce9"),
        ({"PYTHONIOENCODING": "cp1252"}, b"caf\xe9 \\u0394 \\udce9"),
        ({"PYTHONIOENCODING": "ascii"}, b"caf\\xe9 \\u0394 \\udce9"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"caf\\xe9 \\u0394 \\udce9"),
    ],
)
def test_signs_that_the_terminal_lacks_are_written_plainly(environment: dict[str, str], printed: bytes) -> None:
    program = r"run(lambda: print('caf\xe9 \u0394 \udce9', sys.getfilesystemencoding(), open(os.devnull).encoding))"
    done = start(program, env={**os.environ, **environment})
    assert done.stdout == printed + b" utf-8 UTF-8\n" or done.stdout == printed + b" utf-8 utf-8\n"
    assert (done.returncode, done.stderr) == (0, b"")


def test_lists_on_standard_input_name_files_in_any_encoding() -> None:
    done = start("run(lambda: print(ascii(sys.stdin.read())))", input=b"\xef\xbb\xbfcaf\xe9\ncaf\xc3\xa9\n")
    assert done.stdout == rb"'caf\udce9\ncaf\xe9\n'" + b"\n"


def test_closed_streams_are_no_place_for_files(tmp_path: Path) -> None:
    program = (
        "run(lambda: (open('file', 'w').write(str(sys.stdin.read())), print('x'), os.write(1, b'from a library')))"
    )
    done = start(program, 'exec "$@" <&- >&- 2>&-', cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "file").read_text() == ""


def test_output_that_nobody_reads_ends_the_process_as_unix_tools_do() -> None:
    lines = "run(lambda: [print('x' * 1000) for _ in range(1000)])"
    assert start(lines, '"$@" | head -n 1; exit ${PIPESTATUS[0]}').returncode == 128 + signal.SIGPIPE
    once = start("run(lambda: print('x'))", '"$@" | true; exit ${PIPESTATUS[0]}')
    assert once.returncode in (0, 128 + signal.SIGPIPE)  # whichever ends first
    assert once.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("size", [1, 100_000])
def test_output_that_a_full_disk_takes_is_missed(size: int) -> None:
    done = start(f"run(lambda: print('x' * {size}))", '"$@" > /dev/full')
    assert (done.returncode, done.stderr) == (2, b"error: No space left on device; make room on that disk\n")


@pytest.mark.parametrize("ignored", [False, True], ids=["foreground", "background"])
def test_sigint_ends_a_command_also_in_the_background(ignored: bool) -> None:
    """A script starts a job with `&` so that SIGINT is ignored."""
    program = (
        "import typer; app = typer.Typer(cls=Commands)\n"
        "@app.command()\n"
        "def nothing(): pass\n"
        "@app.command()\n"
        "def stop(): os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(60)\n"
        "run(lambda: app(['stop']))"
    )
    done = start(program, ('trap "" INT; ' if ignored else "") + 'exec "$@"')
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_what_the_system_refuses_a_thread_is_no_traceback_and_a_bug_is() -> None:
    for error, traceback in (("OSError(28, 'x')", False), ("KeyError('x')", True)):
        thread = f"threading.Thread(target=lambda: (_ for _ in ()).throw({error})).start()"
        assert (b"Traceback" in start(f"run(lambda: {thread})").stderr) == traceback


def test_python_that_refuses_utf_8_is_not_started_again_and_again() -> None:
    program = IMPORTS + "run(lambda: print('done'))"
    command = [sys.executable, "-X", "utf8=0", "-c", program]
    environment = os.environ | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, b"done\n")
