"""The command line: one function a command. Everything heavy is imported inside, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cover.errors import CoverError

if TYPE_CHECKING:
    from rich.console import Console

    from cover.catalog.manifest import Manifest
    from cover.evaluation.orders import FrameOrder

app = typer.Typer(
    name="cover",
    help="Co-train one video transformer on many video and image datasets (CoVeR).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
index = typer.Typer(help="Turn datasets on disk into manifests.", no_args_is_help=True)
app.add_typer(index, name="index")


class Kind(StrEnum):
    """What a dataset's files are."""

    video = "video"
    image = "image"


class Preset(StrEnum):
    """How much of the built-in world."""

    smoke = "smoke"
    quick = "quick"
    full = "full"


class ExportFormat(StrEnum):
    """Who is to read an export."""

    transformers = "transformers"
    safetensors = "safetensors"


class Split(StrEnum):
    """A part of a dataset."""

    train = "train"
    val = "val"
    test = "test"


Out = Annotated[Path, typer.Option(help="Folder to write to.")]


@app.command()
def demo(
    preset: Annotated[Preset, typer.Option(help="smoke: a check, quick: for 2 cores, full: for a GPU.")] = Preset.quick,
    out: Out = Path("demo"),
) -> None:
    """Render datasets, pre-train, train standard and co-training policies, evaluate and compare."""
    from cover.demo import run_demo

    if not run_demo(preset.value, out, _console()):
        _console().print("interrupted and saved; the same command goes on from here")
        raise typer.Exit(130)


@app.command()
def world(
    preset: Annotated[Preset, typer.Option(help="How much to render.")] = Preset.quick,
    out: Out = Path("world"),
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed renders other clips.")] = 0,
    processes: Annotated[int | None, typer.Option(help="Default: all cores.")] = None,
) -> None:
    """Render the built-in datasets from the Freedoom game world and index them."""
    from cover.demo import make_world

    for manifest in make_world(preset.value, out, datasets=dataset, seed=seed, num_processes=processes):
        _print_manifest(manifest)


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
        _print_manifest(manifest)


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

    _print_manifest(
        index_annotations(
            file, kind=kind.value, root=root or file.parent, out=out, name=name or file.stem, split=split.value
        )
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see recipes/ for examples.")],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/RECIPE-NAME.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. training.epochs=5.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's latest checkpoint.")] = False,
    allow_changed_data: Annotated[
        bool, typer.Option("--allow-changed-data", help="Resume although a training manifest changed.")
    ] = False,
) -> None:
    """Train a recipe into a run folder."""
    from cover.recipe import read_recipe

    settings = read_recipe(recipe, set_ or ())
    from cover.run import train as train_run

    run = out or Path("runs") / recipe.stem
    if not train_run(settings, run, _console(), resume=resume, allow_changed_data=allow_changed_data):
        settings_again = "".join(f" --set {shlex.quote(override)}" for override in set_ or ())
        command = f"cover train {recipe} --out {run}{settings_again} --resume"
        _console().print(f"interrupted and saved; continue with: {command}", soft_wrap=True)
        raise typer.Exit(130)
    _console().print(f"trained; the run is {run}", soft_wrap=True)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run, or one of its checkpoints.")],
    split: Annotated[Split, typer.Option(help="Which manifests of the recipe.")] = Split.test,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Frames in reversed order.")] = False,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Control: frames in random order.")] = False,
    single_frame: Annotated[bool, typer.Option("--single-frame", help="Control: one frame, repeated.")] = False,
    num_clips: Annotated[int | None, typer.Option(min=1, help="Views in time. Default: the recipe's.")] = None,
    num_crops: Annotated[int | None, typer.Option(min=1, help="Views in space. Default: the recipe's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Evaluate every head on its dataset; results are kept in RUN/evaluation."""
    from cover.evaluation.terminal import results_table
    from cover.trained import TrainedRun

    if reverse + shuffle + single_frame > 1:
        raise CoverError("--reverse, --shuffle and --single-frame exclude each other; give one")
    order: FrameOrder = "reversed" if reverse else "shuffled" if shuffle else "single" if single_frame else "normal"
    trained = TrainedRun.open(run)
    manifests = {name: trained.manifest(name, split.value) for name in dataset or trained.recipe.datasets}
    results = [
        trained.evaluate(name, manifest, order, num_clips=num_clips, num_crops=num_crops)
        for name, manifest in manifests.items()
    ]
    if json:
        print("[" + ",\n".join(result.to_json() for result in results) + "]")
    else:
        _console().print(results_table(results))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run, or one of its checkpoints.")],
    files: Annotated[list[Path], typer.Argument(help="Videos and images.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print the top classes of every head for videos and images."""
    from cover.inference.predict import prediction_table, predictions_json
    from cover.trained import TrainedRun

    trained = TrainedRun.open(run)
    predictions = [trained.predict(file) for file in files]
    if json:
        print(predictions_json(predictions))
    for prediction in [] if json else predictions:
        _console().print(prediction_table(prediction))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Evaluated runs.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> None:
    """Compare runs: one HTML page and a table, standard against co-training, normal against reversed order."""
    from cover.trained import compare_runs

    compare_runs(runs, out, _console())
    _console().print(f"report: {out}", soft_wrap=True)


@app.command()
def info(
    file: Annotated[str, typer.Argument(help="A run, checkpoint, or file or folder of foreign weights.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a file of weights holds: architecture, size, cost, heads, input, origin."""
    from cover.models.info import describe, info_table

    described = describe(file)
    if json:
        print(described.to_json())
    else:
        _console().print(info_table(described))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run, or one of its checkpoints.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; a new one.")],
    to: Annotated[ExportFormat, typer.Option(help="Who is to read it; safetensors is cover's own format.")],
    head: Annotated[str | None, typer.Option(help="For transformers: the dataset to answer for.")] = None,
) -> None:
    """Write a model for other tools: weights, config, labels and, for transformers, the preprocessor."""
    from cover.models.export import export_safetensors, export_transformers
    from cover.models.weights import find_checkpoint, load_model

    if to is ExportFormat.safetensors and head:
        raise CoverError(f"--head {head} goes with --to transformers; --to safetensors writes every head")
    model = load_model(find_checkpoint(run))
    if to is ExportFormat.transformers:
        export_transformers(model, out, head)
    else:
        export_safetensors(model, out)
    _console().print(f"exported: {out}", soft_wrap=True)


def _print_manifest(manifest: Manifest) -> None:
    _console().print(
        f"{manifest.path}: {len(manifest):,} {manifest.kind}s of {len(manifest.class_names)} classes", soft_wrap=True
    )


def _console() -> Console:
    """The terminal as wide as it is; 100 columns in a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100)


def main() -> None:
    """Run the command line; a CoverError is one line and exit code 2."""
    try:
        app()
    except CoverError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
