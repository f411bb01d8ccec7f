"""The command serve, which puts a model behind a page and an HTTP API."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cover.cli.app import Data, Device, Model, app, console
from cover.errors import CoverError
from cover.serving.limits import MEBIBYTE, UploadLimits

_LIMITS = UploadLimits()


@app.command("serve")
def serve_command(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 means all of the machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 means any free one.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="COVER_TOKEN", help="Token that requests must bring.")] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Another name of the server, such as a proxy's; may be repeated.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Uploads in progress; more uploads wait for their turn.")] = 32,
    waiting: Annotated[
        int, typer.Option(min=0, help="Uploads that wait for their turn; more uploads get status 429.")
    ] = 128,
    processes: Annotated[int, typer.Option(min=1, help="Processes that decode uploads.")] = 2,
    max_mebibytes: Annotated[int, typer.Option(min=1, help="Size of an upload.")] = _LIMITS.max_bytes // MEBIBYTE,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Duration of a video.")] = _LIMITS.max_seconds,
    max_megapixels: Annotated[float, typer.Option(min=0.01, help="Size of a frame or image.")] = _LIMITS.max_pixels
    / 1e6,
    upload_seconds: Annotated[
        float, typer.Option(min=1, help="Time for an upload to arrive.")
    ] = _LIMITS.upload_seconds,
    decode_seconds: Annotated[float, typer.Option(min=0.1, help="Time to decode it.")] = _LIMITS.decode_seconds,
    decode_mebibytes: Annotated[int, typer.Option(min=64, help="Memory for decoding it.")] = _LIMITS.decode_bytes
    // MEBIBYTE,
    samples: Annotated[
        Path | None,
        typer.Option(help="Folder whose videos and images the page offers, instead of samples of the run's datasets."),
    ] = None,
    data: Data = None,
    device: Device = None,
) -> None:
    """Classify uploads on a page and over HTTP.

    The server runs until Ctrl-C.
    """
    # Threads that wait for each other must not spin, or a busy core slows each forward pass down several times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is loaded
    from cover.runs.folder import parse_moves

    try:
        from cover.serving.admission import AdmissionPolicy, AllowedHosts
        from cover.serving.server import ServerSettings, serve
    except ModuleNotFoundError as error:
        raise CoverError(f"{error.name} is not installed; pip install 'cover-video[serve]'") from error

    limits = UploadLimits(
        max_bytes=max_mebibytes * MEBIBYTE,
        upload_seconds=upload_seconds,
        max_seconds=max_seconds,
        max_pixels=round(max_megapixels * 1e6),
        decode_seconds=decode_seconds,
        decode_bytes=decode_mebibytes * MEBIBYTE,
    )
    policy = AdmissionPolicy(AllowedHosts(host, allowed_host or ()), token, queue, waiting)
    settings = ServerSettings(host, port, policy, limits, processes, samples)
    serve(model, settings, partial(console().print, soft_wrap=True), parse_moves(data or ()))
