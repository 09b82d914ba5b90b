"""An emulated chain behind a pseudo-terminal, as a program that a driver opens like a serial port."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

from miner.asic.bm13xx.registers import BAUD_AT_RESET
from miner.asic.emulator.chain import EmulatedChain

_TCGETS2 = 0x802C542A  #: Linux: termios with the speed as a number, so that any rate can be read back
_TERMIOS2 = struct.Struct("=4IB19B2I")
_READ_BYTES = 4096
_IDLE_S = 0.02
_BUSY_S = 0.002
_HASHING_S = 0.01  #: processor time spent hashing before the line is looked at again


class EmulatedBoard:
    """A chain on a pty of its own, served by a thread. `link`: a symbolic link kept pointing at the port, which keeps
    its name when the board is unplugged and plugged in again."""

    def __init__(
        self, chain: EmulatedChain, link: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.chain = chain
        self.lock = threading.Lock()  #: hold it to change chain or faults while the board runs
        self.overruns = 0  #: bytes lost because nobody read them
        self.wrong_baud_bytes = 0
        self._link = link
        self._clock = clock
        self._master = self._slave = -1
        self._port = ""
        self._baud_seen = BAUD_AT_RESET
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> str:
        """Path that a driver opens; empty while unplugged."""
        return str(self._link) if self._link is not None and self._port else self._port

    def start(self) -> EmulatedBoard:
        """Plug in and serve in a thread."""
        with self.lock:
            self._plug_in()
        self._thread = threading.Thread(target=self._serve, name="emulated-board", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Unplug and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)
        with self.lock:
            self._unplug()

    def __enter__(self) -> EmulatedBoard:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def unplug(self) -> None:
        """Pull the cable: the port disappears, the chips lose power."""
        with self.lock:
            self._unplug()

    def plug_in(self) -> None:
        """Put the cable back: a new port, chips as after reset."""
        with self.lock:
            self._plug_in()

    @property
    def host_baud(self) -> int:
        """The rate the host has set; 0 while unplugged."""
        if self._slave < 0:
            return 0
        return int(_TERMIOS2.unpack(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size)))[-1])

    def _plug_in(self) -> None:
        if self._slave >= 0:
            return
        self._master, self._slave = os.openpty()  # the slave stays open: its settings are read, and no hangup on close
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self._port = os.ttyname(self._slave)
        self.chain.reset()
        if self._link is not None:
            with contextlib.suppress(FileNotFoundError):
                self._link.unlink()
            self._link.symlink_to(self._port)

    def _unplug(self) -> None:
        if self._slave < 0:
            return
        if self._link is not None:
            with contextlib.suppress(FileNotFoundError):
                self._link.unlink()
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._port = ""

    def _serve(self) -> None:
        while not self._stop.is_set():
            with self.lock:
                busy = self.chain.hash_rate > 0
                master = self._master
            if master < 0:
                self._stop.wait(_IDLE_S)
                continue
            with contextlib.suppress(OSError, ValueError):  # unplugged meanwhile
                select.select([master], [], [], self._patience(busy))
            with self.lock:
                if self._master >= 0:
                    self._turn()

    def _patience(self, busy: bool) -> float:
        due = self.chain.next_send()
        longest = _BUSY_S if busy else _IDLE_S
        return longest if due is None else min(longest, max(0.0, due - self._clock()))

    def _turn(self) -> None:
        now = self._clock()
        try:
            data = os.read(self._master, _READ_BYTES)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            data = b""
        understood = self._understood()
        if data and not understood:
            self.wrong_baud_bytes += len(data)
        elif data:
            self.chain.receive_data(data, now)
        self.chain.run(now, _HASHING_S)
        outgoing = self.chain.bytes_to_send(now)
        if outgoing:
            self._write(outgoing if understood else _garbled(outgoing))

    def _understood(self) -> bool:
        """Whether host and chips are at one rate. What is read just after the host has changed its own may have been
        written before, when either will do."""
        baud, before = self.host_baud, self._baud_seen
        self._baud_seen = baud
        return self.chain.hears(baud) or (before != baud and self.chain.hears(before))

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            written = 0
        self.overruns += len(data) - written


def _garbled(data: bytes) -> bytes:
    """What a receiver at the wrong rate makes of it: other bytes, and fewer."""
    return bytes((byte * 167 + 13 & 0xFF) for byte in data[::2])
