"""Serial ports: waits that end when another thread has news, and cables that are pulled."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from miner.asic.device import AsicDevice
from miner.asic.link import Link
from miner.asic.transport import PortGone, SerialPort
from miner.device import Wakeable


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The chips' end of a pseudo-terminal, and the path of the host's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_a_wait_ends_with_bytes_a_wake_or_its_time(terminal: tuple[int, str]) -> None:
    master, path = terminal
    port = SerialPort(path, 115_200)
    try:
        assert not port.wait(0.001)
        os.write(master, b"x")
        assert port.wait(10)
        assert port.read_into(memoryview(bytearray(8))) == 1
        timer = threading.Timer(0.02, port.wake)
        timer.start()
        began = time.monotonic()
        assert not port.wait(30), "woken, and there is nothing to read"
        assert time.monotonic() - began < 10
        timer.join()
        assert not port.wait(0.001), "one wake ends one wait"
    finally:
        port.close()
    port.wake()  # late: hits nothing


def test_a_wake_ends_a_wait_where_ports_can_only_be_polled(terminal: tuple[int, str]) -> None:
    master, path = terminal
    port = SerialPort(path, 115_200)
    try:
        port._fd = None  # as on Windows
        assert not port.wait(0.001)
        timer = threading.Timer(0.02, port.wake)
        timer.start()
        began = time.monotonic()
        assert not port.wait(30)
        assert time.monotonic() - began < 10
        timer.join()
        assert port.write_now(b"x") == 0, "what could wait is left to the thread that may"
        os.write(master, b"x")
        assert port.wait(10)
    finally:
        port.close()


def test_a_wake_before_the_wait_is_not_lost(terminal: tuple[int, str]) -> None:
    master, path = terminal
    port = SerialPort(path, 115_200)
    try:
        for _ in range(100_000):
            port.wake()
        os.write(master, b"x")
        began = time.monotonic()
        assert port.wait(30), "bytes are seen beside a wake"
        port.read_into(memoryview(bytearray(8)))
        while not port.wait(0.001) and time.monotonic() - began < 1:
            continue
        assert not port.wait(0.001), "and wakes do not pile up for ever"
    finally:
        port.close()


def test_boards_can_be_woken_whether_or_not_they_are_open(terminal: tuple[int, str]) -> None:
    device = AsicDevice("asic0", terminal[1], "bm1370")
    assert isinstance(device, Wakeable)
    device.wake()
    device.open()
    device.wake()
    device.close()
    device.wake()
    Link(terminal[1], 115_200, None).wake()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use",
    [
        lambda port: port.read_into(memoryview(bytearray(8))),
        lambda port: port.write(b"x"),
        lambda port: port.write_now(b"x"),
        lambda port: port.discard_input(),
        lambda port: port.set_baud(1_000_000),
    ],
    ids=["read", "write", "write now", "discard", "baud"],
)
def test_whatever_is_done_with_an_unplugged_port_says_that_it_is_gone(use: Callable[[SerialPort], object]) -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    port = SerialPort(os.ttyname(slave), 115_200)
    os.close(slave)
    os.close(master)
    try:
        with pytest.raises(PortGone, match="has been unplugged"):
            use(port)
    finally:
        port.keep_lines()
        port.close()
