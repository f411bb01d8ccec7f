"""Commands about weights: info, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Model, app, console
from cover.errors import CoverError
from cover.models.export import LIBRARIES, ExportFormat


@app.command()
def info(
    file: Annotated[str, typer.Argument(help="A run, a checkpoint, or a file or folder of other weights.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what weights hold.

    Shows architecture, size, cost, heads, input and origin.
    """
    from cover.models.info import info_table
    from cover.runs.folder import describe

    described = describe(file)
    if json:
        print(described.to_json())
    else:
        console().print(info_table(described))


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder to write to.")],
    to: Annotated[ExportFormat, typer.Option(help="Who reads it; safetensors is cover's own format.")],
    head: Annotated[
        str | None, typer.Option(help="The head to export; transformers and torchvision take only one.")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="For onnx and torch-export: frames of a clip. Default: the model's.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="For onnx and torch-export: side of a frame in pixels. Default: the model's."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A class name a line, in label order, for weights that state none.")
    ] = None,
) -> None:
    """Write a model for other tools.

    transformers, torchvision and safetensors get weights, labels and input format; onnx and torch-export one file that
    runs without cover.
    """
    from cover.models.export.formats import export_for, export_safetensors
    from cover.models.export.graph import fit
    from cover.models.export.onnx_torch import export_onnx, export_torch
    from cover.models.opening import load_model, name_classes

    is_graph = to in (ExportFormat.onnx, ExportFormat.torch_export)
    if to is ExportFormat.safetensors and head:
        raise CoverError(f"--head {head} does not go with --to safetensors, which writes every head; leave it out")
    if (num_frames or image_size) and not is_graph:
        raise CoverError(
            f"--num-frames and --image-size do not go with --to {to}, which keeps the model's own; leave them out"
        )
    loaded = load_model(model)
    if classes:
        from cover.datasets.class_list import read_class_list

        name_classes(loaded, read_class_list(classes), str(classes))
    if is_graph:
        fitted = fit(loaded, head=head, num_frames=num_frames, image_size_px=image_size)
        (export_onnx if to is ExportFormat.onnx else export_torch)(fitted, out)
    elif to in LIBRARIES:
        export_for(to, loaded, out, head)
    else:
        export_safetensors(loaded, out)
    console().print(f"exported: {out}", soft_wrap=True)
