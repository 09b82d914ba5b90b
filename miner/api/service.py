"""The servers of a run: their places taken before mining starts, their answers for as long as it lasts."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from chain.primitives.errors import UserError
from miner.api.cgminer.server import ApiAccess, ApiServer
from miner.api.control import RunControl
from miner.api.http import StatusServer
from miner.api.listen import bind, is_loopback, show_place
from miner.status import StatusMonitor

SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where the status page is, and its token; None: no token on this machine, one made up beyond it."""

    host: str
    port: int
    token: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise UserError(f"the status page's token needs at least {SHORTEST_TOKEN} plain characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """Where the cgminer API is, and who may use it for what."""

    host: str
    port: int
    access: ApiAccess = field(default_factory=ApiAccess)

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.access.allowed:
            raise UserError(
                f"--api {show_place(self.host, self.port)} is open to others, and this protocol knows no passwords:"
                " say who may use it with --api-allow, for example --api-allow 192.168.1.0/24"
            )


class Servers:
    """Takes the ports at once; UserError, and none is taken, where one is in use."""

    def __init__(self, http: HttpOptions | None, api: ApiOptions | None) -> None:
        self._http = http
        self._api = api
        self._sockets: list[socket.socket] = []
        self._running: list[StatusServer | ApiServer] = []
        try:
            if http is not None:
                self._sockets.append(bind(http.host, http.port, "the status page", "--http"))
            if api is not None:
                self._sockets.append(bind(api.host, api.port, "the cgminer API", "--api"))
        except UserError:
            self._close_sockets()
            raise

    async def start(self, monitor: StatusMonitor, control: RunControl, on_message: Callable[[str], None]) -> None:
        """Begin to answer, and say where."""
        waiting = list(self._sockets)
        if self._http is not None:
            bound = waiting.pop(0)
            await self._start_http(self._http, bound, monitor, on_message)
        if self._api is not None:
            bound = waiting.pop(0)
            server = ApiServer(monitor.status, control, self._api.access)
            await server.start(bound)
            self._running.append(server)
            may = "reads and changes" if self._api.access.write else "reads only"
            on_message(f"cgminer API at {show_place(self._api.host, bound.getsockname()[1])}, {may}")

    async def close(self) -> None:
        """Answer no more; the ports are free afterwards."""
        for server in self._running:
            await server.close()
        self._running.clear()
        self._close_sockets()

    async def _start_http(
        self, options: HttpOptions, bound: socket.socket, monitor: StatusMonitor, on_message: Callable[[str], None]
    ) -> None:
        port = bound.getsockname()[1]
        token, names, shown = options.token, {options.host.lower()}, options.host
        if not is_loopback(options.host):
            own_name = socket.gethostname().lower()
            names |= {own_name, f"{own_name}.local"}
            if options.host in ("0.0.0.0", "::"):
                shown = own_name
            if token is None:
                token = secrets.token_urlsafe(24)
        server = StatusServer(monitor, frozenset(names), token)
        await server.start(bound)
        self._running.append(server)
        made_up = f"?token={token}" if token is not None and options.token is None else ""
        on_message(f"status page at http://{show_place(shown, port)}/{made_up}")

    def _close_sockets(self) -> None:
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()
