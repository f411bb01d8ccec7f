"""Commands that make datasets ready for training: check, pack."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import app, console
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.catalog.manifest import Manifest
    from cover.preparation.journal import Shard

Manifests = Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests, as `cover index` writes.")]
Processes = Annotated[int | None, typer.Option(min=1, help="Default: one for each CPU.")]
TimeoutSeconds = Annotated[float, typer.Option(min=0.1, help="For one file, after which it counts as unreadable.")]
Again = Annotated[bool, typer.Option("--again", help="Also try again what was unreadable before.")]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Do part I of N only, numbered from 1; merge them after.")
]
Merge = Annotated[bool, typer.Option("--merge", help="Decode nothing: put together what all shards have found.")]


@app.command("check")
def check_command(
    manifests: Manifests,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of a video, spread as training does.")] = 16,
    processes: Processes = None,
    timeout_seconds: TimeoutSeconds = 60.0,
    again: Again = False,
    shard: ShardOption = None,
    merge: Merge = False,
) -> None:
    """Decode every sample, and note in the manifest which are unreadable and why.

    Goes on where it was interrupted, and leaves out what was checked before. Exit code 0: all samples are readable (or
    the shard is done); 1: some are not; 2: a mistake in the call.
    """
    from cover.catalog.manifest import Manifest
    from cover.preparation.check import check, check_shard, merge_check
    from cover.preparation.reasons import unreadable_among, unreadable_rows
    from cover.preparation.survey import Survey

    part = _part(shard, merge)
    survey = Survey(processes, timeout_seconds)
    all_readable = True
    for manifest in [Manifest.open(path) for path in manifests]:
        with _resumable():
            if part:
                found = check_shard(manifest, part, survey, num_frames=num_frames, again=again)
                print_summary(manifest, unreadable_among(found), len(found))
                continue
            checked = merge_check(manifest) if merge else check(manifest, survey, num_frames=num_frames, again=again)
        unreadable = unreadable_rows(checked)
        print_summary(checked, unreadable, len(checked))
        all_readable = all_readable and not unreadable
    raise typer.Exit(not all_readable)


def _part(shard: str | None, merge: bool) -> Shard | None:
    from cover.preparation.journal import Shard

    if shard and merge:
        raise CoverError("--shard does a part, and --merge puts all parts together afterwards; give one of the two")
    return Shard.parse(shard) if shard else None


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise


def print_summary(manifest: Manifest, unreadable: Mapping[int, str], num_samples: int) -> None:
    """How many of `num_samples` are readable, and a table of the reasons why others are not."""
    from rich.markup import escape
    from rich.table import Column, Table

    from cover.preparation.reasons import count_reasons

    terminal = console()
    num_readable = num_samples - len(unreadable)
    title = f"{manifest.name} {manifest.split}: {num_readable:,} of {num_samples:,} {manifest.kind}s are readable"
    terminal.print(title, soft_wrap=True, highlight=False, markup=False)
    if not unreadable:
        return
    table = Table("reason", Column(f"{manifest.kind}s", justify="right"), Column("share", justify="right"), "such as")
    for count in count_reasons(unreadable):
        example = manifest[count.example].path
        table.add_row(escape(count.reason), f"{count.count:,}", f"{count.count / num_samples:.2%}", escape(example))
    terminal.print(table)
