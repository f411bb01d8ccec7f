"""The application that commands register with, and what they share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover import __version__
from cover.cli.process import Commands
from cover.core.verbosity import Verbosity, verbosity
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.core.progress import Terminal

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

app = typer.Typer(
    name="cover",
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # "[data]" in a help text is not markup
)


def show_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        print(f"cover {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Co-train one video transformer on many video and image datasets (CoVeR)."""


class Split(StrEnum):
    """A part of a dataset."""

    train = "train"
    val = "val"
    test = "test"


def use_device(device: str | None) -> str | None:
    """Let torch see only the device that the user names. Commands load torch later, and it looks for GPUs then.

    Args:
        device: "cpu", "cuda" or "cuda:N", the N-th GPU that the process sees; None changes nothing.

    Raises:
        CoverError: There is no such device.
    """
    if device is None:
        return None
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
        raise CoverError(f"--device {device!r} is none of cpu, cuda and cuda:N; write cuda:1 for the second GPU")
    if kind == "cpu":
        os.environ[VISIBLE_GPUS] = ""
        return device
    if number:
        seen = os.environ.get(VISIBLE_GPUS)
        os.environ[VISIBLE_GPUS] = number if seen is None else "".join(seen.split(",")[int(number) :][:1])
    import torch

    if not torch.cuda.device_count():
        raise CoverError(f"--device {device}: torch sees no such GPU; name another one, or cpu")
    return device


Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run, one of its checkpoints, a folder or file with any other model, or a name in the hub's cache.",
    ),
]
Views = Annotated[
    str | None,
    typer.Option(
        metavar="CLIPSxCROPS", help="Views to average, such as 4x3: in time × in space. Default: the recipe's."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Heads = Annotated[list[str] | None, typer.Option("--head", help="Only this head; may be repeated.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="OLD=NEW", help="Data that used to be in OLD are in NEW now; may be repeated."),
]
AllowChangedData = Annotated[
    bool, typer.Option("--allow-changed-data", help="Accept manifests whose samples have changed since training.")
]

Device = Annotated[
    str | None,
    typer.Option(
        callback=use_device, metavar="DEVICE", help="cpu, cuda, or cuda:N for one GPU. Default: a GPU if there is one."
    ),
]
"""Commands need not read it: its callback does the work."""


def parse_views(text: str | None) -> tuple[int | None, int | None]:
    """Parse "4x3" into (num_clips, num_crops). Raises CoverError if it has another form."""
    if text is None:
        return None, None
    num_clips, _, num_crops = text.partition("x")
    if not num_clips.isdecimal() or not num_crops.isdecimal() or not int(num_clips) or not int(num_crops):
        raise CoverError(
            f"--views '{text}' is not of the form CLIPSxCROPS; 4x3 takes 4 clips of a video and 3 crops of each"
        )
    return int(num_clips), int(num_crops)


def keep_existing(*files: Path | None, force: bool) -> None:
    """Refuse to replace files, unless the user says so. Raises CoverError that names the first one that exists."""
    existing = [file for file in files if file is not None and file.exists()]
    if existing and not force:
        raise CoverError(f"{existing[0]} exists already; choose another name, or replace it with --force")


def console() -> Terminal:
    """The terminal, in its own width; a file or a pipe has 100 columns."""
    from cover.core.progress import Terminal

    return Terminal()


def progress_console() -> Terminal:
    """The terminal for what a long job says about its progress, which `--quiet` leaves out."""
    terminal = console()
    terminal.quiet = verbosity() is Verbosity.QUIET
    return terminal
