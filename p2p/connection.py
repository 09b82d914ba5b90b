"""One TCP connection: bytes between a socket and the engine. A peer's messages are handled one after another, in one
task.

Backpressure: nothing is read while a message is handled or while too much waits to be sent; the stream's own buffer
is bounded; what piles up unsent beyond a hard limit ends the connection. Idle connections are ended by the engine's
timeouts (Engine.tick), which bounds every wait here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chain.primitives.errors import LocalFault
from p2p import log
from p2p.constants import MAX_MESSAGE_SIZE, TIMEOUT_INTERVAL_S
from p2p.engine import Engine
from p2p.peer import Peer

READ_SIZE = 128 * 1024
CLOSE_TIMEOUT_S = 5  #: for the last bytes of a connection that we end
HARD_SEND_LIMIT = 32 * MAX_MESSAGE_SIZE // 4


class Connection:
    """Drives one peer over one pair of streams."""

    def __init__(
        self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, max_send_buffer: int
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._transport = writer.transport
        self._transport.set_write_buffer_limits(high=max_send_buffer)
        self._max_send_buffer = max_send_buffer
        self.idle = False  #: everything received has been handled
        self.peer: Peer | None = None

    def write(self, data: bytes) -> None:
        """The peer's sink."""
        if self._transport.is_closing():
            return
        self._writer.write(data)
        if self._transport.get_write_buffer_size() > HARD_SEND_LIMIT and self.peer is not None:
            log.net.debug("send buffer of %d bytes is not being read, %s", HARD_SEND_LIMIT, self.peer.disconnect_text)
            self.peer.disconnect()
            self._transport.abort()

    def close(self) -> None:
        """End the connection: what is queued is still sent, for a few seconds at most. The reading task then sees the
        end of the stream."""
        if not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    async def run(self, peer: Peer, on_local_fault: Callable[[LocalFault], None]) -> None:
        """Until either side ends it. Faults of this machine go to `on_local_fault`; everything that a peer can cause
        ends here."""
        self.peer = peer
        peer.on_disconnect = self.close
        engine = self._engine
        try:
            engine.connected(peer)
            while not peer.disconnecting:
                self.idle = True
                data = await self._reader.read(READ_SIZE)
                self.idle = False
                if not data:
                    if not peer.disconnecting:
                        log.net.debug("socket closed, %s", peer.disconnect_text)
                    break
                engine.received_bytes(peer, len(data))
                for event in peer.transport.receive_data(data):
                    await engine.handle(peer, event)
                    await self._flow(peer)
                    if peer.disconnecting:
                        break
        except (OSError, EOFError, TimeoutError) as error:
            log.net.debug("socket error (%s), %s", error or type(error).__name__, peer.disconnect_text)
        except LocalFault as fault:
            on_local_fault(fault)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        finally:
            peer.disconnect()
            self.close()
            engine.disconnected(peer)

    async def _flow(self, peer: Peer) -> None:
        """Answer queued requests, as fast as the peer takes the answers; return when both queues are short enough to go
        on."""
        while not peer.disconnecting:
            if self._transport.get_write_buffer_size() > self._max_send_buffer:
                async with asyncio.timeout(TIMEOUT_INTERVAL_S):
                    await self._writer.drain()
            if not peer.has_requests:
                return
            await self._engine.serve(peer)
