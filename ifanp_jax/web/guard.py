"""Who may ask, and what every answer says to the browser: an ASGI middleware."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses a foreign Host or Origin with 403 and adds HEADERS to every answer.

    A page on another site can have a browser send it requests (then Origin is foreign), or point its own
    name at this machine (then Host is).
    """

    def __init__(self, app, host: str):
        """Around an application that listens on a host."""
        self.app = app
        self.is_loopback = host in LOOPBACK
        self.names = {*LOOPBACK, host.lower()}
        if not self.is_loopback:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope, receive, send):
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = self._find_problem(Headers(scope=scope))
        app = JSONResponse({"error": problem}, 403) if problem else self.app
        await app(scope, receive, send_with_headers)

    def _find_problem(self, headers):
        host = headers.get("host", "")
        if not self._is_known(_without_port(host)):
            return f"The host {host[:100]!r} is not this server: open it by the address that it printed."
        origins = headers.getlist("origin")
        is_foreign = any(origin.lower().partition("://")[2] != host.lower() for origin in origins)
        is_cross_site = headers.get("sec-fetch-site") == "cross-site"
        if is_foreign or (is_cross_site and headers.get("sec-fetch-mode") != "navigate"):
            return "The request comes from another site: only this server's own page may send it."
        return ""

    def _is_known(self, name):
        # With --host other than this machine's own any address may be this server; a name may be a trap.
        is_address = False
        with contextlib.suppress(ValueError):
            is_address = bool(ipaddress.ip_address(name))
        return name in self.names or (is_address and not self.is_loopback)


def _without_port(host: str) -> str:
    """The name in a Host header, in lower case, without brackets."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.lower()


def list_urls(host: str, port: int) -> Iterable[str]:
    """Where a browser on this machine, or on another one, finds the page."""
    if host in ("0.0.0.0", "::", ""):
        return [f"http://127.0.0.1:{port}/", f"http://{socket.gethostname()}:{port}/"]
    return [f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"]
