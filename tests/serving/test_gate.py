"""The gate by itself: an upload that does not come."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send
from tests.serving.conftest import LIMITS

from cover.serving.gate import Gate
from cover.serving.metrics import Metrics


def test_an_upload_that_takes_too_long_is_cut_off_and_gives_its_place_back() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def nothing() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def ignore(message: Message) -> None:
        pass

    limits, scope = replace(LIMITS, upload_seconds=0.05), {"type": "http", "method": "POST", "path": "/", "headers": []}
    gate = Gate(application, limits=limits, max_uploads=1, token=None, metrics=Metrics())
    for _ in range(2):
        with pytest.raises(HTTPException, match=r"the upload took more than 0\.05 s") as raised:
            asyncio.run(gate(scope, nothing, ignore))
        assert raised.value.status_code == 408
