"""Commands for datasets on disk: index."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.cli.app import Out, Split, app, console

if TYPE_CHECKING:
    from cover.catalog.manifest import Manifest

index = typer.Typer(help="Turn datasets on disk into manifests.", no_args_is_help=True)
app.add_typer(index, name="index")


class Kind(StrEnum):
    """What a dataset's files are."""

    video = "video"
    image = "image"


@index.command("folder")
def index_folder_command(
    root: Annotated[Path, typer.Argument(help="ROOT/class/file or ROOT/split/class/file.")],
    kind: Annotated[Kind, typer.Option(help="What the files are.")],
    out: Out = Path("manifests"),
    name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
) -> None:
    """Index media files in class folders.

    ROOT/class/file, or ROOT/split/class/file with splits train, val (or validation) and test.
    Writes OUT/NAME-SPLIT.arrow.
    """
    from cover.catalog.folder import index_folder

    for manifest in index_folder(root, kind=kind.value, out=out, name=name):
        print_manifest(manifest)


@index.command("csv")
def index_csv_command(
    file: Annotated[Path, typer.Argument(help="Annotations: 'path label', 'path num_frames label', or named columns.")],
    kind: Annotated[Kind, typer.Option(help="What the listed files are.")],
    root: Annotated[Path | None, typer.Option(help="Folder the paths are relative to. Default: FILE's.")] = None,
    out: Out = Path("manifests"),
    name: Annotated[str | None, typer.Option(help="Default: FILE's name.")] = None,
    split: Annotated[Split, typer.Option(help="The split that FILE lists.")] = Split.train,
) -> None:
    """Index an annotation list, with or without a header, separated by spaces, commas or tabs."""
    from cover.catalog.annotations import index_annotations

    print_manifest(
        index_annotations(
            file, kind=kind.value, root=root or file.parent, out=out, name=name or file.stem, split=split.value
        )
    )


def print_manifest(manifest: Manifest) -> None:
    """One line: the file and what it holds."""
    console().print(
        f"{manifest.path}: {len(manifest):,} {manifest.kind}s of {len(manifest.class_names)} classes", soft_wrap=True
    )
