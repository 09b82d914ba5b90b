"""The API's socket: one request a connection, bounded in bytes, time and number."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from miner.api.cgminer.commands import Context, execute
from miner.api.cgminer.wire import MAX_REQUEST, Envelope, is_complete, parse_request, render
from miner.api.control import RunControl
from miner.status import Status

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_CONNECTIONS = 32
_READ_TIMEOUT_S = 5.0
_QUIET_S = 0.1  #: text without a terminator is whole when nothing follows for this long
_WRITE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Who may ask: this machine always, and addresses in `allowed`. `write`: they may change things too."""

    write: bool = False
    allowed: Sequence[Network] = field(default=())

    def admits(self, host: str) -> bool:
        """Whether this address may connect."""
        try:
            address = ipaddress.ip_address(host.split("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address.is_loopback or any(address in network for network in self.allowed)


class ApiServer:
    """Serves on sockets that are already bound, so that a port in use is known before mining starts."""

    def __init__(self, status: Callable[[], Status], control: RunControl, access: ApiAccess) -> None:
        self._status = status
        self._control = control
        self._access = access
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, bound: socket.socket) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._connected, sock=bound, limit=MAX_REQUEST)

    async def close(self) -> None:
        """Answer no more; the port is free afterwards."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        if task is None or len(self._tasks) >= MAX_CONNECTIONS or not peer or not self._access.admits(peer[0]):
            writer.close()
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(_READ_TIMEOUT_S):
                    data = await _read_request(reader)
                if data:
                    async with asyncio.timeout(_WRITE_TIMEOUT_S):
                        writer.write(self._answer(data))
                        await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, data: bytes) -> bytes:
        status, when = self._status(), int(time.time())
        request = parse_request(data)
        replies = execute(request, Context(status, self._control, self._access.write, when))
        return render(request, replies, Envelope(when, f"pickaxe {status.version}"))


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """Until it is whole, as long as a request may be, or the client says no more."""
    data = b""
    while len(data) < MAX_REQUEST and not is_complete(data):
        # JSON is whole when it parses; of text without a terminator only silence can tell
        quiet_s = _QUIET_S if data and not data.startswith(b"{") else None
        try:
            async with asyncio.timeout(quiet_s):
                more = await reader.read(MAX_REQUEST - len(data))
        except TimeoutError:
            return data
        if not more:
            break
        data += more
    return data
