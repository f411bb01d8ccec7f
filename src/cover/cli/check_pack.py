"""Commands that prepare datasets for training: check, pack."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import app, console
from cover.errors import CoverError

if TYPE_CHECKING:
    from cover.curation.dataset_pass import DatasetPass, Pool
    from cover.curation.resume_log import Shard
    from cover.datasets.manifest import Manifest

Manifests = Annotated[
    list[Path], typer.Argument(metavar="MANIFEST...", help="Manifests, as `cover index` writes them.")
]
Processes = Annotated[int | None, typer.Option(min=1, help="Default: one for each CPU.")]
TimeoutSeconds = Annotated[float, typer.Option(min=0.1, help="Time for one file; after that it counts as unreadable.")]
Again = Annotated[bool, typer.Option("--again", help="Try files again that were unreadable before.")]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do only part I of N, counted from 1; merge the parts afterwards."),
]
Merge = Annotated[bool, typer.Option("--merge", help="Decode nothing; merge the results of all shards.")]
Leaks = Annotated[bool, typer.Option("--leaks", help="Find training samples that occur in a val or test split.")]
Frames = Annotated[bool, typer.Option(help="Also compare how frames look, which decodes some frames of every sample.")]
LeaksOut = Annotated[
    Path | None, typer.Option(help="Where to write a list of the leaks, for `exclude` in a recipe's [data].")
]


@app.command("check")
def check_command(
    manifests: Manifests,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of a video to decode, spread as in training.")] = 16,
    processes: Processes = None,
    timeout_seconds: TimeoutSeconds = 60.0,
    again: Again = False,
    shard: ShardOption = None,
    merge: Merge = False,
    leaks: Leaks = False,
    frames: Frames = True,
    out: LeaksOut = None,
) -> None:
    """Decode every sample and mark the unreadable ones.

    The manifest records which samples are unreadable and why. The command continues where it was interrupted and skips
    what it has checked before. Exit code 0: all samples are readable, the shard is done, or nothing leaks; 1: some are
    unreadable or leak; 2: the call is wrong.

    With --leaks, it finds training samples that occur in a val or test split of any of the datasets: by source and time
    (YouTube ids), and by how frames look.
    """
    from cover.curation.check import check, unreadable_rows
    from cover.curation.dataset_pass import Pool
    from cover.datasets.manifest import Manifest

    pool, opened = Pool(processes, timeout_seconds), [Manifest.open(path) for path in manifests]
    if leaks:
        raise typer.Exit(print_leaks(opened, pool if frames else None, out))
    if out or not frames:
        raise CoverError("--out and --no-frames need --leaks; add it")
    passes = [check(manifest, num_frames=num_frames) for manifest in opened]
    checked = list(_run_passes(passes, pool, again, shard, merge))
    raise typer.Exit(any(unreadable_rows(manifest) for _, manifest in checked))


@app.command("pack")
def pack_command(
    manifests: Manifests,
    out: Annotated[Path, typer.Option(help="Folder for the copies and their manifests.")],
    short_side: Annotated[
        int, typer.Option(min=2, help="Shrink the shorter side to this, in pixels, if it is longer.")
    ] = 320,
    frames: Annotated[int, typer.Option(min=1, help="Frames that a video keeps at most.")] = 64,
    processes: Processes = None,
    timeout_seconds: TimeoutSeconds = 60.0,
    again: Again = False,
    shard: ShardOption = None,
    merge: Merge = False,
) -> None:
    """Copy datasets into small files that decode fast.

    Videos become MP4 files of keyframes only, images become JPEG files. OUT gets a manifest of the same samples, which
    you name in the recipe. The command continues where it was interrupted.
    """
    from rich.filesize import decimal

    from cover.curation.dataset_pass import Pool
    from cover.curation.pack import PackFormat, num_bytes, pack
    from cover.datasets.manifest import Manifest

    format = PackFormat(short_side, frames)
    passes = [pack(Manifest.open(path), out, format) for path in manifests]
    for each, packed in _run_passes(passes, Pool(processes, timeout_seconds), again, shard, merge):
        before, after = num_bytes(each.manifest, each.logs.results())
        print(f"{packed.path}: {decimal(after)}, before {decimal(before)}")


def _run_passes(
    passes: Sequence[DatasetPass], pool: Pool, again: bool, shard: str | None, merge: bool
) -> Iterator[tuple[DatasetPass, Manifest]]:
    """Run passes and print their summaries. Yields each pass with its new manifest, except for shards."""
    from cover.curation.check import unreadable_among, unreadable_rows

    part = _part(shard, merge)
    for each in passes:
        with _resumable():
            if part:
                found = each.run_shard(part, pool, again=again)
                print_summary(each.manifest, unreadable_among(found), len(found))
            else:
                manifest = each.merge() if merge else each.run(pool, again=again)
                print_summary(each.manifest, unreadable_rows(manifest), len(manifest))
                yield each, manifest


def _part(shard: str | None, merge: bool) -> Shard | None:
    from cover.curation.resume_log import Shard

    if shard and merge:
        raise CoverError("--shard does one part and --merge joins all parts afterwards; give one of the two")
    return Shard.parse(shard) if shard else None


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command continues from here", file=sys.stderr)
        raise


def print_summary(manifest: Manifest, unreadable: Mapping[int, str], num_samples: int) -> None:
    """Print how many of `num_samples` are readable, and a table of the reasons why the others are not."""
    from rich.table import Column, Table

    from cover.media.failures import count_reasons

    terminal = console()
    num_readable = num_samples - len(unreadable)
    title = f"{manifest.name} {manifest.split}: {num_readable:,} of {num_samples:,} {manifest.kind}s are readable"
    terminal.print(title, soft_wrap=True)
    if not unreadable:
        return
    table = Table("reason", Column(f"{manifest.kind}s", justify="right"), Column("share", justify="right"), "example")
    for count in count_reasons(unreadable):
        example = manifest[count.example].path
        table.add_row(count.reason, f"{count.count:,}", f"{count.count / num_samples:.2%}", example)
    terminal.print(table)


def print_leaks(manifests: list[Manifest], pool: Pool | None, out: Path | None) -> bool:
    """Print which training samples leak, and write them to `out`. Returns whether there are any."""
    from cover.curation.leaks import find_leaks, leaks_table, num_leaking, write_leaks

    with _resumable():
        leaks = find_leaks(manifests, pool)
    terminal = console()
    if leaks:
        terminal.print(leaks_table(leaks))
    for name, count in num_leaking(leaks).items():
        terminal.print(f"{name}: {count:,} training samples occur in evaluation splits", soft_wrap=True)
    if not leaks:
        terminal.print("no training sample occurs in an evaluation split")
    if out:
        write_leaks(out, leaks)
        hint = f"; leave them out with: --set 'data.exclude=[\"{out}\"]'" if leaks else ", which lists none"
        terminal.print(f"written to {out}{hint}", soft_wrap=True)
    return bool(leaks)
