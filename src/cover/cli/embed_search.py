"""Commands for features of clips: embed, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Device, Force, Model, app, console, keep_existing
from cover.errors import CoverError, printable


@app.command()
def embed(
    model: Model,
    out: Annotated[Path, typer.Option(help="The .parquet or .npy file to write.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Videos, images, folders, patterns, @LIST, or -, as for predict.")
    ] = None,
    manifest: Annotated[list[Path] | None, typer.Option(help="All samples of a manifest; may be repeated.")] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="Sample clips as this head's training did. Default: as all did, or whole videos if they differ."
        ),
    ] = None,
    force: Force = False,
    device: Device = None,
) -> None:
    """Write a feature of each clip, for search and clustering.

    The feature is the class token after the final norm. Clips that cannot be read are named and left out. Exit code 0:
    all clips were read; 1: some were not; 2: the call is wrong.
    """
    from cover.datasets.manifest import Manifest
    from cover.inference.feature_table import FeatureTable, check_suffix
    from cover.inference.inputs import Inputs
    from cover.runs.embed import embed as embed_clips
    from cover.runs.trained import open_model

    check_suffix(out)
    keep_existing(out, force=force)
    manifests = [Manifest.open(path) for path in manifest or ()]
    paths = list(Inputs(files or ()))
    table = embed_clips(open_model(model), paths, manifests, head=head)
    if not isinstance(table, FeatureTable):
        console().print("interrupted and saved; the same command continues from here")
        raise typer.Exit(128 + table)
    table.save(out)
    num_unreadable = len(paths) + sum(map(len, manifests)) - len(table.ids)
    left_out = f", {num_unreadable:,} unreadable left out" if num_unreadable else ""
    clips, width = table.features.shape
    number = f"{clips:,} clip{'s' * (clips != 1)}"
    console().print(f"{out}: {number}, {width} features each{left_out}; {table.views}", soft_wrap=True)
    raise typer.Exit(num_unreadable > 0)


@app.command()
def search(
    features: Annotated[Path, typer.Argument(help="A file that `cover embed` has written.")],
    queries: Annotated[list[str], typer.Argument(help="Ids of clips in it; with --run, also other videos and images.")],
    top: Annotated[int, typer.Option(min=1, help="Clips to find for each query.")] = 5,
    run: Annotated[
        str | None, typer.Option(help="The run or model that computed the features, for queries that are other files.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: Device = None,
) -> None:
    """Find the nearest clips by the cosine similarity of features."""
    from cover.inference.feature_table import FeatureTable
    from cover.inference.search import check_faiss, nearest, neighbours_json, neighbours_table

    check_faiss()
    table = FeatureTable.open(features)
    rows = {name: row for row, name in enumerate(table.ids)}
    names = {query: printable(query) for query in queries}
    known = {name: table.features[rows[name]] for name in names.values() if name in rows}
    others = [Path(query) for query, name in names.items() if name not in rows]
    if others and run is None:
        raise CoverError(f"{others[0]} is not an id in {features}; name the run that computed it with --run")
    if others and run:
        from cover.runs.embed import embed_queries
        from cover.runs.trained import open_model

        known |= embed_queries(open_model(run), table, others)
    found = nearest(table, {name: known[name] for name in names.values()}, top)
    if json:
        print(neighbours_json(found))
    for query, neighbours in [] if json else found.items():
        console().print(neighbours_table(query, neighbours))
