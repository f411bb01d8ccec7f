"""In front of the application: who may ask, how many at a time, and how much they may send.

All of it is settled before a body is read, or while it comes in, so that what is refused costs next to nothing.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cover.serving.hosts import AllowedHosts
from cover.serving.limits import Limits, Refusal
from cover.serving.metrics import Metrics

OPEN_PATHS = {"/", "/page.css", "/page.js", "/healthz"}
"""What needs no token."""
_NEWEST = 0.1
"""Weight of the newest upload in the mean time that an upload takes."""


class Gate:
    """ASGI middleware: hosts, token, back-pressure, sizes, and metrics of what comes and goes.

    Args:
        hosts: The names that the server answers to.
        token: Requests bring it as `Authorization: Bearer` or `X-Token`; None needs no token.
        max_uploads: Uploads in progress at a time.
        max_waiting: Uploads that wait for a place, in the order in which they came. Nothing of them is read yet.
            Further ones are told to come again.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        hosts: AllowedHosts,
        token: str | None,
        max_uploads: int,
        max_waiting: int,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._limits = limits
        self._hosts = hosts
        self._token = token
        self._max_uploads, self._max_waiting = max_uploads, max_waiting
        self._places = asyncio.Semaphore(max_uploads)  # which wakes those that wait in their order
        self._num_waiting = 0
        self._upload_seconds = 1.0
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn keeps the scope that it made, and sends no body
        began, status = time.monotonic(), 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await self._answer(refusal)(scope, receive, send_and_note)
            elif scope["method"] == "POST":
                await self._upload(scope, receive, send_and_note)
            else:
                await self._app(scope, receive, send_and_note)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - began)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        if refusal := self._hosts.refusal(scope["method"], headers):
            return refusal
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("x-token") or headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                return Refusal(401, "this needs a token; send it as Authorization: Bearer TOKEN")
        if scope["method"] != "POST":
            return None
        if self._places.locked() and self._num_waiting >= self._max_waiting:
            seconds = self._retry_after_seconds()
            return Refusal(429, f"{self._max_uploads + self._num_waiting} uploads are ahead; come again in {seconds} s")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.max_bytes:
            return self._too_large()
        return None

    def _retry_after_seconds(self) -> int:
        """Time until all that wait now have had their turn, at the pace of the last uploads; a minute at most."""
        return math.ceil(min((self._num_waiting + 1) * self._upload_seconds / self._max_uploads, 60))

    def _answer(self, refusal: Refusal) -> JSONResponse:
        headers = {429: {"Retry-After": str(self._retry_after_seconds())}, 401: {"WWW-Authenticate": "Bearer"}}
        return JSONResponse({"error": refusal.reason}, refusal.status, headers.get(refusal.status))

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._num_waiting += 1
        try:
            with self._metrics.waiting.track_inprogress():
                await self._places.acquire()
        finally:
            self._num_waiting -= 1
        began = time.monotonic()
        try:
            with self._metrics.in_progress.track_inprogress():
                await self._app(scope, self._limited(receive), send)
        finally:
            self._places.release()
            self._upload_seconds += _NEWEST * (time.monotonic() - began - self._upload_seconds)

    def _limited(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        """`receive`, as long as the body is not too large and not too slow."""
        num_bytes, deadline = 0, asyncio.get_running_loop().time() + self._limits.upload_seconds
        is_over = False

        async def limited() -> Message:
            nonlocal num_bytes, is_over
            if is_over:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"the upload took more than {self._limits.upload_seconds:g} s") from error
            num_bytes += len(message.get("body", b""))
            is_over = not message.get("more_body", False)
            if num_bytes > self._limits.max_bytes:
                raise HTTPException(413, self._too_large().reason)
            return message

        return limited

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the upload has more than {self._limits.max_bytes:,} bytes; send a smaller file")
