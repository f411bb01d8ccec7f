"""The command index, with one subcommand for each layout of datasets on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from cover.cli.app import Out, Split, app, console
from cover.errors import CoverError, OtherClassesError

if TYPE_CHECKING:
    from cover.datasets.manifest import Manifest

logger = logging.getLogger(__name__)
index = typer.Typer(help="Turn datasets on disk into manifests.", no_args_is_help=True)
app.add_typer(index, name="index")


class Kind(StrEnum):
    """What a dataset's files are."""

    video = "video"
    image = "image"


Root = Annotated[Path, typer.Argument(help="The folder that holds the dataset's files.")]
Annotations = Annotated[
    Path | None, typer.Option(help="Folder of the annotation files, if not where the tree shows them.")
]
Name = Annotated[str, typer.Option(help="Name of the dataset; manifests are OUT/NAME-SPLIT.arrow.")]
SplitName = Annotated[str | None, typer.Option(help="Name of the dataset. Default: LAYOUT-splitNUMBER.")]
SplitNumber = Annotated[int, typer.Option(min=1, max=3, help="Which of the three published splits.")]
Val = Annotated[
    float | None,
    typer.Option(min=0.01, max=0.5, help="Share of each class for a val split, by recording where that is known."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace manifests that have other classes.")]
MANIFESTS = Path("manifests")


def _layout(layout: str, module: str) -> Callable[..., Any]:
    """Add a command `cover index LAYOUT`. Its help shows the docstring of cover.datasets.layouts.MODULE, a tree."""

    class Command(TyperCommand):
        def format_help(self, *arguments: Any) -> None:
            drawing = import_module(f"cover.datasets.layouts.{module}").__doc__ or ""
            paragraphs = drawing.split("\n\n")
            drawn = (f"\b\n{paragraph}" for paragraph in paragraphs[1:])  # \b keeps the line breaks
            self.help = "\n\n".join((paragraphs[0], *drawn))
            super().format_help(*arguments)

    return index.command(layout, cls=Command)


@_layout("folder", "class_folders")
def folder(
    root: Root,
    kind: Annotated[Kind, typer.Option(help="What the files are.")],
    out: Out = MANIFESTS,
    name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
    val: Val = None,
    force: Force = False,
) -> None:
    """Any dataset in class folders or WebDataset shards."""
    from cover.datasets.layouts.class_folders import index_folder

    _index(index_folder, root, kind=kind.value, out=out, name=name, val=val, force=force)


@_layout("csv", "annotations")
def csv(
    file: Annotated[Path, typer.Argument(help="The annotation list.")],
    kind: Annotated[Kind, typer.Option(help="What the listed files are.")],
    root: Annotated[Path | None, typer.Option(help="Folder that paths are relative to. Default: FILE's.")] = None,
    class_names: Annotated[
        Path | None, typer.Option(help="A file with a class name a line; line 1 is label 0.")
    ] = None,
    out: Out = MANIFESTS,
    name: Annotated[str | None, typer.Option(help="Default: FILE's name.")] = None,
    split: Annotated[Split, typer.Option(help="The split that FILE lists.")] = Split.train,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A sample has all classes of its lines; `label_weight`: how much.")
    ] = False,
    val: Val = None,
    force: Force = False,
) -> None:
    """Any annotation list: `path label`, or named columns."""
    from cover.datasets.class_list import read_class_list
    from cover.datasets.layouts.annotations import index_annotations

    if val and split is not Split.train:
        raise CoverError(f"--val divides a train split, and --split is {split}; leave one of them out")
    _index(
        lambda *arguments, **options: [index_annotations(*arguments, **options)],
        file,
        kind=kind.value,
        root=root or file.parent,
        out=out,
        name=name or file.stem,
        split=split.value,
        class_names=read_class_list(class_names) if class_names else None,
        multi_label=multi_label,
        val=val,
        force=force,
    )


@_layout("predictions", "predictions")
def predictions(
    file: Annotated[Path, typer.Argument(help="What `cover predict --out` has written.")],
    kind: Annotated[Kind, typer.Option(help="Which of its files.")],
    like: Annotated[Path, typer.Option(help="A manifest of the teacher's training set, for its classes.")],
    min_probability: Annotated[float, typer.Option(min=0, max=1, help="Of the most probable class.")] = 0.5,
    head: Annotated[str | None, typer.Option(help="Whose answers count, if there are several heads.")] = None,
    root: Annotated[Path, typer.Option(help="Folder that paths are relative to.")] = Path(),
    out: Out = MANIFESTS,
    name: Annotated[str | None, typer.Option(help="Default: FILE's name.")] = None,
    force: Force = False,
) -> None:
    """Web media that a model is sure about, with its answers."""
    from cover.datasets.layouts.predictions import index_predictions
    from cover.datasets.manifest import Manifest

    _index(
        lambda *arguments, **options: [index_predictions(*arguments, **options)],
        file,
        kind=kind.value,
        like=Manifest.open(like),
        out=out,
        name=name or file.stem,
        root=root,
        head=head,
        min_probability=min_probability,
        force=force,
    )


@_layout("kinetics400", "kinetics")
def kinetics400(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "k400", force: Force = False
) -> None:
    """Kinetics-400: CSV lists, clips named ID_000012_000022.mp4."""
    from cover.datasets.layouts.kinetics import index_kinetics

    _index(index_kinetics, root, annotations=annotations, out=out, name=name, force=force)


@_layout("kinetics600", "kinetics")
def kinetics600(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "k600", force: Force = False
) -> None:
    """Kinetics-600, likewise."""
    kinetics400(root, annotations, out, name, force)


@_layout("kinetics700", "kinetics")
def kinetics700(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "k700", force: Force = False
) -> None:
    """Kinetics-700 and Kinetics-700-2020, likewise."""
    kinetics400(root, annotations, out, name, force)


@_layout("kinetics710", "kinetics710")
def kinetics710(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests of all splits of all editions.")],
    out: Out = MANIFESTS,
    name: Name = "k710",
    force: Force = False,
) -> None:
    """Kinetics-710: several editions, merged without leaks."""
    from cover.datasets.layouts.kinetics710 import index_kinetics710

    _index(index_kinetics710, manifests, out=out, name=name, force=force)


@_layout("ssv2", "ssv2")
def ssv2(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "ssv2", force: Force = False
) -> None:
    """Something-Something v2: JSON lists, videos named ID.webm."""
    from cover.datasets.layouts.ssv2 import index_ssv2

    _index(index_ssv2, root, annotations=annotations, out=out, name=name, force=force)


@_layout("moments", "moments")
def moments(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "mit", force: Force = False
) -> None:
    """Moments in Time: two CSV lists, class folders."""
    from cover.datasets.layouts.moments import index_moments

    _index(index_moments, root, annotations=annotations, out=out, name=name, force=force)


@_layout("multi-moments", "moments")
def multi_moments(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "mmit", force: Force = False
) -> None:
    """Multi-Moments in Time: likewise, several classes a video."""
    from cover.datasets.layouts.moments import index_multi_moments

    _index(index_multi_moments, root, annotations=annotations, out=out, name=name, force=force)


@_layout("charades", "charades")
def charades(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "charades", force: Force = False
) -> None:
    """Charades: CSV lists, several classes a video."""
    from cover.datasets.layouts.charades import index_charades

    _index(index_charades, root, annotations=annotations, out=out, name=name, force=force)


@_layout("epic-kitchens", "epic_kitchens")
def epic_kitchens(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "epic", force: Force = False
) -> None:
    """EPIC-Kitchens-100: verbs and nouns as two datasets."""
    from cover.datasets.layouts.epic_kitchens import index_epic_kitchens

    _index(index_epic_kitchens, root, annotations=annotations, out=out, name=name, force=force)


@_layout("ucf101", "ucf101")
def ucf101(
    root: Root,
    split_number: SplitNumber = 1,
    annotations: Annotations = None,
    out: Out = MANIFESTS,
    name: SplitName = None,
    force: Force = False,
) -> None:
    """UCF101: ucfTrainTestlist, one of three splits."""
    from cover.datasets.layouts.ucf101 import index_ucf101

    _index(index_ucf101, root, split_number=split_number, annotations=annotations, out=out, name=name, force=force)


@_layout("hmdb51", "hmdb51")
def hmdb51(
    root: Root,
    split_number: SplitNumber = 1,
    annotations: Annotations = None,
    out: Out = MANIFESTS,
    name: SplitName = None,
    force: Force = False,
) -> None:
    """HMDB51: testTrainMulti_7030_splits, one of three splits."""
    from cover.datasets.layouts.hmdb51 import index_hmdb51

    _index(index_hmdb51, root, split_number=split_number, annotations=annotations, out=out, name=name, force=force)


@_layout("imagenet1k", "imagenet1k")
def imagenet1k(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "imagenet", force: Force = False
) -> None:
    """ImageNet-1k: folders, the original tars, or Parquet."""
    from cover.datasets.layouts.imagenet1k import index_imagenet1k

    _index(index_imagenet1k, root, annotations=annotations, out=out, name=name, force=force)


@_layout("imagenet21k", "imagenet21k")
def imagenet21k(
    root: Root, annotations: Annotations = None, out: Out = MANIFESTS, name: Name = "imagenet21k", force: Force = False
) -> None:
    """ImageNet-21k: class folders, or a tar a class."""
    from cover.datasets.layouts.imagenet21k import index_imagenet21k

    _index(index_imagenet21k, root, annotations=annotations, out=out, name=name, force=force)


def _index(
    index_layout: Callable[..., list[Manifest]],
    *arguments: object,
    force: bool,
    val: float | None = None,
    **options: object,
) -> None:
    """Index a dataset, and show what was found. With `force`, manifests of other classes are replaced."""
    try:
        manifests = index_layout(*arguments, **options)
    except OtherClassesError as error:
        if not force:
            raise
        for file in error.files:
            file.unlink()
        manifests = index_layout(*arguments, **options)
    datasets: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        datasets.setdefault(manifest.name, []).append(manifest)
    for splits in datasets.values():
        _show(splits, val)


def _show(manifests: list[Manifest], val: float | None) -> None:
    """Print the splits of a dataset, its classes and what is odd about them. `val` is held out first."""
    from cover.curation.overview import class_table, find_copies, lengths, warnings
    from cover.datasets.holdout import hold_out

    copies = find_copies(manifests)
    if val:
        manifests = hold_out(manifests, val, copies)
    for manifest in manifests:
        print_manifest(manifest)
    found = {manifest.split: lengths(manifest) for manifest in manifests}
    console().print(class_table(manifests, found))
    for warning in warnings(manifests, found, copies):
        logger.warning("%s: %s", manifests[0].name, warning)


def print_manifest(manifest: Manifest) -> None:
    """Print a line about a manifest: its file and what it holds."""
    console().print(
        f"{manifest.path}: {len(manifest):,} {manifest.kind}s of {len(manifest.class_names)} classes", soft_wrap=True
    )
