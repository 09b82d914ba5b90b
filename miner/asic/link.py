"""A port that comes back: opened once, pumped by its device's thread, found again after the cable was pulled."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from miner.asic.transport import PortError, PortGone, PortInfo, Search, SerialPort, port_named

log = logging.getLogger("pickaxe.asic")
_BUFFER_BYTES = 4096
_RETRY_S = 0.5
_LOOK_S = 0.01  #: how often a wait for the board looks at `cancelled`


class LineDriver(Protocol):
    """A protocol without I/O: bytes and the time in, bytes out. `asks_for_room`: the board's CTS line says whether it
    takes another frame, and `room` is to be set to that before each `tick` (None: there is no such line)."""

    asks_for_room: bool
    room: bool | None

    def start(self, now: float) -> None:
        """The port is open: begin."""

    def tick(self, now: float) -> None:
        """Do what is due."""

    def received(self, data: bytes, now: float) -> None:
        """Bytes from the board."""

    def outgoing(self) -> list[bytes]:
        """Frames to send, each handed out once."""

    def next_wakeup(self) -> float | None:
        """When `tick` wants to be called."""


class Link:
    """See the module. The port is found again by its USB serial number, else its socket, else its path."""

    def __init__(self, path: str, baud: int, driver: LineDriver, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.replugs = 0
        self._baud = baud
        self._driver = driver
        self._clock = clock
        self._port: SerialPort | None = None
        self._known: PortInfo | None = None
        self._search: Search | None = None
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    @property
    def connected(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def open(self) -> None:
        """Open the port and start the driver. Raises PortError."""
        self._port = SerialPort(self.path, self._baud)
        self._known = port_named(self.path)
        self._driver.start(self._clock())

    def close(self) -> None:
        """Send what is still to be sent, give the port back."""
        if self._port is not None:
            with contextlib.suppress(PortError):
                self._send()
            self._port.close()
            self._port = None

    def wake(self) -> None:
        """End the wait of a `pump` that is going on. Called from any thread."""
        if (port := self._port) is not None:
            port.wake()

    def pump(self, timeout_s: float, cancelled: Callable[[], bool]) -> None:
        """Do what is due, wait for bytes at most that long, hand them on. Waits, while not cancelled, for a board that
        has been unplugged. Raises PortError when the port is there and takes nothing."""
        if self._port is None:
            self._wait_for_port(cancelled)
            return
        driver = self._driver
        try:
            if driver.asks_for_room:
                driver.room = self._port.clear_to_send()
            driver.tick(self._clock())
            self._send()
            wakeup = driver.next_wakeup()
            wait_s = timeout_s if wakeup is None else min(timeout_s, wakeup - self._clock())
            if self._port.wait(wait_s):
                count = self._port.read_into(self._buffer)
                driver.received(bytes(self._buffer[:count]), self._clock())
                self._send()
        except PortGone:
            self._port.close()
            self._port = None

    def _send(self) -> None:
        for frame in self._driver.outgoing():
            if self._port is not None:
                self._port.write(frame)

    def _wait_for_port(self, cancelled: Callable[[], bool]) -> None:
        next_try = self._clock()
        while not cancelled():
            if self._clock() >= next_try:
                if self._reopen():
                    return
                next_try = self._clock() + _RETRY_S
            time.sleep(_LOOK_S)

    def _reopen(self) -> bool:
        self._search = self._search or Search(self.path, self._known, log.warning)
        if not self._search.ended(self._open_at):
            return False
        self.replugs += 1
        self._search = None
        return True

    def _open_at(self, path: str) -> None:
        self.path = path
        self.open()
