"""A real server on loopback: load, slow clients, tokens, and an end that leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.processes import started, wait_until
from tests.serving.loopback import served

from cover.errors import CoverError
from cover.serving.server import listening

FORM = "multipart/form-data; boundary=x"
HEAD = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nContent-Type: {FORM}\r\n\r\n".encode()


def uploads(client: httpx.Client, state: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"cover_uploads_{state} "))


def test_a_full_server_says_when_to_come_again(make_app: Callable[..., FastAPI], tmp_path: Path) -> None:
    with served(make_app(max_uploads=2)) as client:
        address = client.base_url.host, client.base_url.port
        slow = [socket.create_connection(address) for _ in range(2)]
        for connection in slow:
            connection.sendall(HEAD + b"--x")
        wait_until(lambda: uploads(client, "in_progress") == 2)
        answer = client.post("/predict", files={"file": b"a"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert client.get("/healthz").status_code == 200
        for connection in slow:  # who goes away leaves the place to others
            connection.close()
        wait_until(lambda: uploads(client, "in_progress") == 0)
        assert client.post("/predict", files={"file": b"a"}, timeout=60).status_code == 415


def test_who_goes_away_while_waiting_holds_nobody_up(make_app: Callable[..., FastAPI]) -> None:
    with served(make_app(max_uploads=1, max_waiting=2)) as client, ThreadPoolExecutor(1) as pool:
        address = client.base_url.host, client.base_url.port
        first, second = (socket.create_connection(address) for _ in range(2))
        first.sendall(HEAD + b"--x")
        wait_until(lambda: uploads(client, "in_progress") == 1)
        second.sendall(HEAD + b"--x")
        wait_until(lambda: uploads(client, "waiting") == 1)
        third = pool.submit(client.post, "/predict", files={"file": b"a"})
        wait_until(lambda: uploads(client, "waiting") == 2)
        second.close()
        first.close()
        assert third.result().status_code == 415


def test_many_clients_are_answered_or_told_to_wait(
    make_app: Callable[..., FastAPI], tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    video = write_video(tmp_path / "a.mp4").read_bytes()
    for max_waiting, statuses in ((0, {200, 429}), (8, {200})):
        with served(make_app(max_uploads=4, max_waiting=max_waiting)) as client, ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: client.post("/predict", files={"file": video}), range(24)))
        assert {answer.status_code for answer in answers} <= statuses
        assert len({answer.text for answer in answers if answer.status_code == 200}) >= 1


def test_a_token_is_asked_for_everywhere_but_at_the_door(make_app: Callable[..., FastAPI]) -> None:
    with served(make_app(token="open sesame")) as client:
        assert client.get("/").status_code == client.get("/healthz").status_code == 200
        for path in ("/heads", "/samples", "/metrics", "/openapi.json", "/nowhere"):
            assert client.get(path).status_code == 401
        assert client.post("/predict", files={"file": b"a"}).json()["error"].startswith("this needs a token")
        for headers in ({"Authorization": "Bearer open sesame"}, {"X-Token": "open sesame"}):
            assert client.get("/heads", headers=headers).status_code == 200
        assert client.get("/heads", headers={b"X-Token": "öpen".encode()}).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_leaves_nothing(run: Path, tmp_path: Path, end: signal.Signals) -> None:
    command = [sys.executable, "-m", "cover.cli", "serve", str(run), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with started(command, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].split(";")[0]
        assert httpx.post(f"{address}/predict", files={"file": b"a"}, timeout=60).status_code == 415
        server.send_signal(end)
        assert server.wait(30) == 0
    assert not list(tmp_path.glob("cover-serve-*"))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """With Nagle's algorithm, the second part of an answer waits for that of the first: 40 ms on Linux."""
    with (
        listening("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_in_use_is_told() -> None:
    with listening("127.0.0.1", 0) as listener, pytest.raises(CoverError, match="choose another --host or --port"):
        listening("127.0.0.1", listener.getsockname()[1])
