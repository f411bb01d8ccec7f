"""From a run to a listening server."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from cover.datasets.manifest import Moves
from cover.errors import CoverError
from cover.runs.trained import open_model
from cover.serving.admission import AdmissionPolicy, Metrics
from cover.serving.api import create_app
from cover.serving.limits import UploadLimits
from cover.serving.samples import samples_in, samples_of
from cover.serving.service import Service


@dataclass(frozen=True)
class ServerSettings:
    """How a server listens and works.

    Attributes:
        host: The address to listen at.
        port: 0 means any free one.
        policy: Who may send requests.
        limits: What one upload may take.
        num_processes: Processes that decode uploads.
        samples: The page shows samples of this folder instead of samples of the run's datasets.
    """

    host: str
    port: int
    policy: AdmissionPolicy
    limits: UploadLimits
    num_processes: int
    samples: Path | None = None


def serve(run: str | Path, settings: ServerSettings, report: Callable[[str], None], moves: Moves | None = None) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        run: A run, or any other model that `open_model` opens.
        settings: How the server listens and works.
        report: Called with the address, and with other lines worth printing.
        moves: Old folder → new folder, for data that have moved since training; the page shows samples of them.

    Raises:
        CheckpointError: There is no model.
        CoverError: The address is not available, or the folder of samples has none.
    """
    metrics = Metrics()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # bad forms are answered, not logged
    # When uvicorn is done, it raises the signal that ended it once more; everything else must be cleared away then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        listening(settings.host, settings.port) as listener,
        Service(
            open_model(run, moves=moves),
            settings.limits,
            num_processes=settings.num_processes,
            metrics=metrics,
        ) as service,
    ):
        samples = (
            samples_in(settings.samples, settings.limits) if settings.samples else samples_of(service.trained, report)
        )
        app = create_app(service, samples, metrics, settings.policy)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        for line in service.shown():
            report(line)
        report(f"serving {run} at http://{host}:{listener.getsockname()[1]}; Ctrl-C stops it")
        _run(app, listener)


def listening(host: str, port: int) -> socket.socket:
    """Open a socket that connections can queue at.

    Raises:
        CoverError: The address is not available.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise CoverError(
            f"{host}:{port} is not available ({error.strerror}); choose another --host or --port"
        ) from error


def _run(app: FastAPI, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http="h11",  # rejects headers that are too large, and two Host headers
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run([listener])
