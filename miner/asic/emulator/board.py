"""An emulated chain behind a pseudo-terminal, as a program that a driver opens like a serial port."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from miner.asic.bm13xx.registers import BAUD_AT_RESET
from miner.asic.emulator.faults import Faults
from miner.asic.emulator.pty_port import PtyPort

_IDLE_S = 0.02
_BUSY_S = 0.002
_HASHING_S = 0.01  #: processor time spent hashing before the line is looked at again


class ChipLike(Protocol):
    """What a board asks of each of its chips, whatever their kind."""

    index: int
    dead: bool
    heat_c: float
    temperature_c: float

    @property
    def frequency_mhz(self) -> float:
        """The hash clock."""

    @property
    def hashing(self) -> bool:
        """Whether a job would make it hash and report."""

    def describe(self) -> str:
        """Its state in a line."""


class ChainLike(Protocol):
    """Emulated chips on one line: EmulatedChain, and what else answers on a UART."""

    faults: Faults
    reported: int

    @property
    def chips(self) -> Sequence[ChipLike]:
        """All of them."""

    @property
    def hash_rate(self) -> float:
        """Hashes a second that are really done."""

    @property
    def actual_baud(self) -> float:
        """The chips' own rate."""

    @property
    def bad_host_frames(self) -> int:
        """Frames of the host that were damaged."""

    def hears(self, baud: int) -> bool:
        """Whether a host at that rate is understood."""

    def reset(self) -> None:
        """The reset line, pulsed, or power lost and come back."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes from the host."""

    def run(self, now: float, budget_s: float) -> None:
        """Hash until now."""

    def bytes_to_send(self, now: float) -> bytes:
        """What is due on the return line."""

    def next_send(self) -> float | None:
        """When more is due."""


class EmulatedBoard:
    """A chain on a pty of its own, served by a thread. `link`: a symbolic link kept pointing at the port, which keeps
    its name when the board is unplugged and plugged in again. Its supply is the cable: pulled, the chips are off."""

    def __init__(self, chain: ChainLike, link: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.chain = chain
        self.lock = threading.Lock()  #: hold it to change chain or faults while the board runs
        self.wrong_baud_bytes = 0
        self._data = PtyPort(link)
        self._clock = clock
        self._baud_seen = BAUD_AT_RESET
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> str:
        """Path that a driver opens; empty while unplugged."""
        return self._data.path

    @property
    def ports(self) -> str:
        """All ports, as `--port` takes them."""
        return self.port

    @property
    def overruns(self) -> int:
        """Bytes lost because nobody read them."""
        return self._data.overruns

    @property
    def host_baud(self) -> int:
        """The rate the host has set; 0 while unplugged."""
        return self._data.baud

    def start(self) -> EmulatedBoard:
        """Plug in and serve in a thread. UserError where a link cannot be made."""
        with self.lock:
            try:
                self._plug_in()
            except BaseException:
                self._unplug()
                raise
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

    # What boards with more than a data port add to

    def _all_ports(self) -> list[PtyPort]:
        return [self._data]

    def _plug_in(self) -> None:
        if self._data.plug_in():
            self.chain.reset()

    def _unplug(self) -> None:
        self._data.unplug()

    def _alive(self) -> bool:
        """Whether the chips have power and are not held in reset."""
        return True

    def _turn(self, now: float) -> None:
        """Everything that has happened since the last turn."""
        self._turn_chain(now)

    def _serve(self) -> None:
        while not self._stop.is_set():
            with self.lock:
                busy = self.chain.hash_rate > 0
                ends = [port.fd for port in self._all_ports() if port.plugged]
            with contextlib.suppress(OSError, ValueError):  # unplugged meanwhile
                if ends:
                    select.select(ends, [], [], self._patience(busy))
                else:
                    self._stop.wait(_IDLE_S)
            with self.lock:
                self._turn(self._clock())

    def _patience(self, busy: bool) -> float:
        due = self.chain.next_send()
        longest = _BUSY_S if busy else _IDLE_S
        return longest if due is None else min(longest, max(0.0, due - self._clock()))

    def _turn_chain(self, now: float) -> None:
        if not self._data.plugged:
            return
        data = self._data.read()
        understood = self._understood()
        if not self._alive():
            return
        if data and not understood:
            self.wrong_baud_bytes += len(data)
        elif data:
            self.chain.receive_data(data, now)
        self.chain.run(now, _HASHING_S)
        outgoing = self.chain.bytes_to_send(now)
        if outgoing:
            self._data.write(outgoing if understood else _garbled(outgoing))

    def _understood(self) -> bool:
        """Whether host and chips are at one rate. What is read just after the host has changed its own may have been
        written before, when either will do."""
        baud, before = self.host_baud, self._baud_seen
        self._baud_seen = baud
        return self.chain.hears(baud) or (before != baud and self.chain.hears(before))


def _garbled(data: bytes) -> bytes:
    """What a receiver at the wrong rate makes of it: other bytes, and fewer."""
    return bytes((byte * 167 + 13 & 0xFF) for byte in data[::2])
