"""In front of the application: who may send requests, how many uploads at a time, how large, and metrics of all that.

All of this is decided before a body is read, or while it arrives, so a rejected request costs next to nothing.

About hosts and origins: a page of any site can make the browser that shows it send requests to this server, even if the
server listens on loopback only. If the page uses the server's address, the browser states the page's site in the header
Origin. If the site makes its own name point to this server after the page is loaded (DNS rebinding), that name is in
the header Host.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cover.errors import CoverError
from cover.serving.limits import Refusal, UploadLimits

PAGE_FILES = {"/": "index.html"} | {f"/{name}": name for name in ("page.css", "page.js", "server.js", "draw.js")}
"""The files of the page, by path."""
OPEN_PATHS = {*PAGE_FILES, "/healthz"}
"""Paths that need no token."""
_NEWEST = 0.1
"""Weight of the newest upload in the moving average of the time that an upload takes."""
_CLIPS = (1, 2, 4, 8, 16, 32, 64, 128)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)


class Metrics:
    """What one server counts, for Prometheus. Two servers in one process have a registry each."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("cover_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram("cover_request_seconds", "Time to answer a request.", ["path"], registry=registry)
        self.stage_seconds = Histogram(
            "cover_stage_seconds",
            "Time of a stage of an upload: upload, decode, or model with the wait for it.",
            ["stage"],
            registry=registry,
        )
        self.pass_seconds = Histogram("cover_pass_seconds", "Time of a forward pass.", registry=registry)
        self.waiting = Gauge("cover_uploads_waiting", "Uploads that wait for their turn.", registry=registry)
        self.in_progress = Gauge("cover_uploads_in_progress", "Uploads not answered yet.", registry=registry)
        self.batch_clips = Histogram("cover_batch_clips", "Clips a forward pass.", buckets=_CLIPS, registry=registry)

    def text(self) -> str:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry).decode()


class AllowedHosts:
    """The names that a server answers to, and the pages that may post to it.

    Args:
        listening_at: The host that the server listens at. Loopback names are always allowed. If this is another host,
            all IP addresses are allowed too: a site cannot make an address point to this server.
        others: Further names, such as that of a proxy. Their pages may post too.

    Raises:
        CoverError: One of `others` is not a bare host name.
    """

    def __init__(self, listening_at: str, others: Collection[str] = ()) -> None:
        self._listening_at = listening_at.lower()
        self._others = {_checked(other) for other in others}

    def refusal(self, method: str, headers: Headers) -> Refusal | None:
        """Say why a request is refused, or return None if it is not."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        name = _name(host)
        if name is None or len(headers.getlist("host")) > 1:
            return Refusal(400, "the header Host names no host; send the name or address of this server")
        if not self._answers_to(name):
            return Refusal(
                421, f"this server does not answer to {name[:100]}; start it with --allowed-host {name[:100]}"
            )
        if method != "POST" or origin is None:
            return None
        scheme, _, its_host = origin.lower().partition("://")
        if scheme in ("http", "https") and (its_host == host or _name(its_host) in self._others):
            return None
        return Refusal(
            403, f"pages of {origin[:100]} may not post here; allow a site with `cover serve --allowed-host`"
        )

    def _answers_to(self, name: str) -> bool:
        if _is_loopback(name) or name == self._listening_at or name in self._others:
            return True
        return _is_address(name) and not _is_loopback(self._listening_at)


@dataclass(frozen=True)
class AdmissionPolicy:
    """Who may send requests, and how many uploads at a time.

    Attributes:
        hosts: The names that the server answers to.
        token: Requests must bring it as `Authorization: Bearer` or `X-Token`; None needs no token.
        max_uploads: Uploads in progress at a time.
        max_waiting: Uploads that wait for their turn, first come, first served, before anything of them is read.
            Further uploads get status 429.
    """

    hosts: AllowedHosts
    token: str | None = None
    max_uploads: int = 32
    max_waiting: int = 128


class AdmissionControl:
    """ASGI middleware that admits requests by a policy and limits, and counts them.

    Args:
        app: The application behind it.
        policy: Who may send requests, and how many uploads at a time.
        limits: What one upload may take.
        metrics: Counts requests and uploads.
    """

    def __init__(self, app: ASGIApp, *, policy: AdmissionPolicy, limits: UploadLimits, metrics: Metrics) -> None:
        self._app = app
        self._policy = policy
        self._limits = limits
        self._metrics = metrics
        self._places = asyncio.Semaphore(policy.max_uploads)  # wakes waiting uploads in the order of their arrival
        self._num_waiting = 0
        self._upload_seconds = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn keeps its own scope, and so sends no body
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
        headers, policy = Headers(scope=scope), self._policy
        if refusal := policy.hosts.refusal(scope["method"], headers):
            return refusal
        if policy.token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("x-token") or headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(given.encode(), policy.token.encode()):
                return Refusal(401, "this needs a token; send it as Authorization: Bearer TOKEN")
        if scope["method"] != "POST":
            return None
        if self._places.locked() and self._num_waiting >= policy.max_waiting:
            num_ahead, seconds = policy.max_uploads + self._num_waiting, self._retry_after_seconds()
            return Refusal(429, f"{num_ahead} uploads are ahead; try again in {seconds} s")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.max_bytes:
            return self._too_large()
        return None

    def _retry_after_seconds(self) -> int:
        """Time until all waiting uploads are done, at the pace of the last ones; at most a minute."""
        return math.ceil(min((self._num_waiting + 1) * self._upload_seconds / self._policy.max_uploads, 60))

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
        """`receive`, which fails once the body is too large or too slow."""
        began, num_bytes, is_over = asyncio.get_running_loop().time(), 0, False
        deadline = began + self._limits.upload_seconds

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
            if is_over:
                self._metrics.stage_seconds.labels("upload").observe(asyncio.get_running_loop().time() - began)
            return message

        return limited

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the upload has more than {self._limits.max_bytes:,} bytes; send a smaller file")


def _checked(name: str) -> str:
    name = name.lower()
    if not _is_address(name) and _name(name) != name:
        raise CoverError(f"--allowed-host {name!r} is not the name of a host; give one without http:// and port")
    return name


def _name(host: str) -> str | None:
    """The host before the port, without the brackets of IPv6 and a final dot; None if it is not a host."""
    match = _HOST.fullmatch(host)
    return match["name"].strip("[]").rstrip(".") or None if match else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return name == "localhost" or (_is_address(name) and ip_address(name).is_loopback)
