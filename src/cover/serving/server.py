"""From a run to a server that listens."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from cover.datasets.manifest import Moves
from cover.errors import CoverError
from cover.runs.trained import TrainedRun
from cover.serving.app import create_app
from cover.serving.hosts import AllowedHosts
from cover.serving.limits import Limits
from cover.serving.metrics import Metrics
from cover.serving.samples import samples_of
from cover.serving.service import Service


@dataclass(frozen=True)
class Settings:
    """Of a server. port: 0 is any that is free. hosts, token, max_…: as in Gate. num_processes: that decode."""

    host: str
    port: int
    hosts: AllowedHosts
    token: str | None
    max_uploads: int
    max_waiting: int
    num_processes: int
    limits: Limits


def serve(run: Path, settings: Settings, report: Callable[[str], None], moves: Moves | None = None) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        run: A run, or one of its checkpoints.
        settings: Of the server.
        report: Takes the address and whatever else is worth a line.
        moves: Old folder → new folder, for data that have moved since training: the page shows samples of them.

    Raises:
        CheckpointError: There is no run.
        CoverError: The address cannot be had.
    """
    metrics = Metrics()
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # bad forms are answered, not logged
    # uvicorn raises the signal that ended it once more, when it is done; then all else has to be cleared away, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        listening(settings.host, settings.port) as listener,
        Service(
            TrainedRun.open(run, moves=moves),
            settings.limits,
            num_processes=settings.num_processes,
            on_batch=metrics.batch_clips.observe,
        ) as service,
    ):
        samples = samples_of(service.trained, report)
        app = create_app(
            service,
            samples,
            metrics,
            hosts=settings.hosts,
            token=settings.token,
            max_uploads=settings.max_uploads,
            max_waiting=settings.max_waiting,
        )
        report(f"serving {run} at http://{_shown(settings.host)}:{listener.getsockname()[1]}; Ctrl-C ends it")
        config = uvicorn.Config(
            app,
            http="h11",  # which refuses heads that are too large or have two hosts
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=10,
        )
        uvicorn.Server(config).run([listener])


def listening(host: str, port: int) -> socket.socket:
    """A socket that connections can queue at. Raises CoverError for an address that cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise CoverError(f"{host}:{port} cannot be had ({error.strerror}); name another --host or --port") from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
