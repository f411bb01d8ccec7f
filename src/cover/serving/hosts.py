"""Which names the server answers to, and which pages may post to it.

A page of any site can make the browser that shows it send requests to this server, even one that listens at loopback.
If it uses the server's address, the browser states the page's site in the header Origin. If the site lets its own name
point to this server once the page is loaded (DNS rebinding), that name is in the header Host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers

from cover.errors import CoverError
from cover.serving.limits import Refusal

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)


class AllowedHosts:
    """The names of one server.

    Args:
        listening_at: The host that the server listens at. Loopback names are allowed in any case. If this is another
            one, all IP addresses are allowed, too: they are no names that a site could point to this server.
        others: Further names, such as that of a proxy. Their pages may post, too.
    """

    def __init__(self, listening_at: str, others: Collection[str] = ()) -> None:
        self._listening_at = listening_at.lower()
        self._others = {_checked(other) for other in others}

    def refusal(self, method: str, headers: Headers) -> Refusal | None:
        """Why a request is not answered, or None."""
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
        return Refusal(403, f"pages of {origin[:100]} may not post here; --allowed-host of `cover serve` allows a site")

    def _answers_to(self, name: str) -> bool:
        if _is_loopback(name) or name == self._listening_at or name in self._others:
            return True
        return _is_address(name) and not _is_loopback(self._listening_at)


def _checked(name: str) -> str:
    name = name.lower()
    if not _is_address(name) and _name(name) != name:
        raise CoverError(f"--allowed-host {name!r} is not the name of a host; give one without http:// and port")
    return name


def _name(host: str) -> str | None:
    """What stands before the port, without the brackets of IPv6 addresses and a final dot; None if it is no host."""
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
