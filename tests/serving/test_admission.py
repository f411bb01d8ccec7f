"""Admission by itself: uploads that do not come, that wait for their turn, and that are sent by other sites."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.serving.conftest import LIMITS

from cover.errors import CoverError
from cover.serving.admission import AdmissionControl, AdmissionPolicy, AllowedHosts, Metrics
from cover.serving.limits import UploadLimits


def control_of(
    application: ASGIApp, *, limits: UploadLimits = LIMITS, max_uploads: int = 1, max_waiting: int = 0
) -> AdmissionControl:
    policy = AdmissionPolicy(AllowedHosts("127.0.0.1"), None, max_uploads, max_waiting)
    return AdmissionControl(application, policy=policy, limits=limits, metrics=Metrics())


def post_to(path: str) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "headers": [(b"host", b"localhost")]}


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def ignore(message: Message) -> None:
    pass


def test_an_upload_that_takes_too_long_is_cut_off_and_gives_its_place_back() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    control = control_of(application, limits=replace(LIMITS, upload_seconds=0.05))
    for _ in range(2):
        with pytest.raises(HTTPException, match=r"the upload took more than 0\.05 s") as raised:
            asyncio.run(control(post_to("/"), nothing, ignore))
        assert raised.value.status_code == 408


def test_who_comes_first_is_served_first_and_who_finds_no_place_to_wait_comes_again() -> None:
    served: list[str] = []

    async def go() -> list[Message]:
        done, sent = asyncio.Event(), list[Message]()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            served.append(scope["path"])
            await done.wait()

        async def keep(message: Message) -> None:
            sent.append(message)

        control = control_of(application, max_waiting=3)
        async with asyncio.TaskGroup() as group:
            for path in ("first", "second", "third", "fourth"):
                group.create_task(control(post_to(path), nothing, ignore))
                await asyncio.sleep(0)
            await control(post_to("fifth"), nothing, keep)
            assert served == ["first"]
            done.set()
        return sent

    start, body = asyncio.run(go())
    assert served == ["first", "second", "third", "fourth"]
    assert start["status"] == 429 and (b"retry-after", b"4") in start["headers"]
    assert body["body"] == b'{"error":"4 uploads are ahead; try again in 4 s"}'


@pytest.mark.parametrize(
    ("listening_at", "host", "status"),
    [
        ("127.0.0.1", "localhost:8000", None),
        ("127.0.0.1", "LocalHost.", None),
        ("127.0.0.1", "127.0.0.1:8000", None),
        ("127.0.0.1", "[::1]:8000", None),
        ("127.0.0.1", "proxy.example", None),
        ("127.0.0.1", "evil.example:8000", 421),
        ("127.0.0.1", "localhost.evil.example", 421),
        ("127.0.0.1", "192.168.0.7", 421),
        ("192.168.0.7", "192.168.0.7:8000", None),
        ("0.0.0.0", "192.168.0.7:8000", None),
        ("::", "[fe80::7]", None),
        ("0.0.0.0", "localhost", None),
        ("0.0.0.0", "evil.example", 421),
        ("gpu-box", "gpu-box:8000", None),
        ("127.0.0.1", "", 400),
        ("127.0.0.1", "evil.example@localhost", 400),
        ("127.0.0.1", "[::1", 400),
    ],
)
def test_only_names_of_the_server_are_answered(listening_at: str, host: str, status: int | None) -> None:
    headers = Request(post_to("/") | {"headers": [(b"host", host.encode())]}).headers
    refusal = AllowedHosts(listening_at, ["proxy.example"]).refusal("GET", headers)
    assert (refusal and refusal.status) == status


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("https://proxy.example", True),
        ("http://proxy.example:81", True),
        ("http://localhost:3000", False),
        ("http://evil.example", False),
        ("http://localhost:8000.evil.example", False),
        ("null", False),
        ("file://localhost:8000", False),
    ],
)
def test_only_pages_of_the_server_may_post(origin: str | None, is_allowed: bool) -> None:
    headers = [(b"host", b"localhost:8000"), *([(b"origin", origin.encode())] if origin is not None else [])]
    hosts = AllowedHosts("127.0.0.1", ["proxy.example"])
    refusal = hosts.refusal("POST", Request(post_to("/") | {"headers": headers}).headers)
    assert (refusal is None) == is_allowed and (is_allowed or (refusal and refusal.status) == 403)
    assert hosts.refusal("GET", Request(post_to("/") | {"headers": headers}).headers) is None


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "*", ""])
def test_allowed_hosts_are_bare_names(name: str) -> None:
    with pytest.raises(CoverError, match="is not the name of a host; give one without http:// and port"):
        AllowedHosts("127.0.0.1", [name])
