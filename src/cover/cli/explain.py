"""Commands that look into a prediction: explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Out, Run, app, console


@app.command()
def explain(
    run: Run,
    file: Annotated[Path, typer.Argument(help="A video or an image.")],
    out: Out,
    head: Annotated[
        str | None, typer.Option(help="The dataset in whose classes it is named; may be left out if there is but one.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Default: the most probable class.")] = None,
) -> None:
    """Show which patches of which frames spoke for a class, where the model looked, and whether time mattered.

    OUT gets strip.png, overlay.mp4 (of videos) and explanation.json.
    """
    from cover.inference.explanation_files import headline, write_explanation
    from cover.runs.trained import TrainedRun

    explanation = TrainedRun.open(run).explain(file, head, class_name)
    files = write_explanation(explanation, out)
    console().print(*headline(explanation), sep="\n", soft_wrap=True)
    console().print(f"written: {', '.join(map(str, files))}", soft_wrap=True)
