"""The status page: read-only HTTP for people, programs and Prometheus.

Bound to this machine unless told otherwise, and then with a token. A page elsewhere cannot read it through a browser:
the Host header must be an address or a name that this server goes by (against DNS rebinding), no other origin is let
in, and the page itself loads nothing from anywhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from miner.api import metrics
from miner.status import Status, StatusMonitor

MAX_CONNECTIONS = 64
SILENCE_S = 20.0  #: a connection that has asked nothing for so long makes room for others
#: What other programs send us is their affair: nothing of it is worth a traceback on the miner's screen.
_log = logging.getLogger("pickaxe.miner.http")
_log.addHandler(logging.NullHandler())
_log.propagate = False
_PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusServer:
    """`names`: what it may be called in a Host header, besides any numeric address and localhost. `token`: asked of
    everyone, None of no one."""

    def __init__(self, monitor: StatusMonitor, names: frozenset[str] = frozenset(), token: str | None = None) -> None:
        self._monitor = monitor
        self._names = names | {"localhost"}
        self._token = token
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._cookie = "pickaxe_token"
        self._silent: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}  # connections without any request yet

    async def start(self, bound: socket.socket) -> None:
        """Begin to answer on a socket that is already bound."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        for path in _FILES:
            app.router.add_get(path, self._file)
        app.router.add_get("/status.json", self._status)
        app.router.add_get("/history.json", self._history)
        app.router.add_get("/metrics", self._metrics)
        app.on_response_prepare.append(_add_headers)
        self._cookie = f"pickaxe_token_{bound.getsockname()[1]}"  # cookies do not know ports
        self._runner = web.AppRunner(
            app, access_log=None, logger=_log, handle_signals=False, keepalive_timeout=SILENCE_S
        )
        await self._runner.setup()
        protocols, loop = self._runner.server, asyncio.get_running_loop()

        def accept() -> asyncio.BaseProtocol:
            if protocols is None or len(protocols.connections) >= MAX_CONNECTIONS:
                return _Refusal()
            protocol = protocols()
            self._silent[protocol] = loop.call_later(SILENCE_S, self._drop, protocol)
            return protocol

        self._server = await loop.create_server(accept, sock=bound)

    async def close(self) -> None:
        """Answer no more; the port is free afterwards."""
        if self._server is not None:
            self._server.close()
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()
        if self._runner is not None:
            if self._runner.server is not None:
                await self._runner.server.shutdown(0.5)
            await self._runner.cleanup()
        if self._server is not None:
            await self._server.wait_closed()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if (timer := self._silent.pop(request.protocol, None)) is not None:
            timer.cancel()  # from now on it is keepalive_timeout that counts
        if not self._is_ours(request.headers.get("Host", "")):
            return web.Response(status=403, text="this is not a name of this miner: use its address\n")
        if self._token is None or self._is_authorised(request):
            return await handler(request)
        if request.path == "/" and self._matches(request.query.get("token", "")):
            response = web.Response(status=303, headers={"Location": "/"})
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict", max_age=90 * 86400)
            return response
        return web.Response(
            status=401,
            text="this miner wants its token: open /?token=TOKEN, or send Authorization: Bearer TOKEN\n",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _drop(self, protocol: RequestHandler) -> None:
        self._silent.pop(protocol, None)
        protocol.force_close()

    def _is_ours(self, host: str) -> bool:
        match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d{1,5})?", host)
        if match is None:
            return False
        name = (match[1] or match[2]).lower().rstrip(".")
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return name in self._names

    def _is_authorised(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._matches(token.strip()):
            return True
        return self._matches(request.cookies.get(self._cookie, ""))

    def _matches(self, token: str) -> bool:
        given = token.encode(errors="surrogateescape")  # bytes that are not UTF-8 included
        return self._token is not None and hmac.compare_digest(given, self._token.encode())

    async def _file(self, request: web.Request) -> web.Response:
        name, kind = _FILES[request.path]
        body = await asyncio.to_thread((_PAGE / name).read_text, "utf-8")
        return web.Response(text=body, content_type=kind, charset="utf-8")

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._monitor.status().as_dict())

    async def _history(self, _: web.Request) -> web.Response:
        return web.json_response(self._monitor.history_as_dict())

    async def _metrics(self, _: web.Request) -> web.Response:
        status: Status = self._monitor.status()
        return web.Response(body=metrics.render(lambda: status), headers={"Content-Type": metrics.CONTENT_TYPE})


class _Refusal(asyncio.Protocol):
    """For one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.pop("Server", None)
