"""Serial ports: waits that end when another thread has news, and cables that are pulled."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import serial

from miner.asic import transport
from miner.asic.device import AsicDevice
from miner.asic.icarus.driver import IcarusDriver, Options
from miner.asic.link import Link
from miner.asic.transport import PortError, PortGone, PortInfo, SerialPort, control_port_of, find_again, port_named
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


def test_bytes_that_never_leave_hold_nobody_up(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that takes nothing: tcdrain would wait for ever, and with it whoever wants to switch the board off."""
    port = SerialPort(terminal[1], 115_200)
    dropped: list[bool] = []
    monkeypatch.setattr(transport, "WRITE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(serial.Serial, "out_waiting", property(lambda _: 5))
    monkeypatch.setattr(serial.Serial, "flush", lambda _: pytest.fail("it waits without end"))
    monkeypatch.setattr(serial.Serial, "reset_output_buffer", lambda _: dropped.append(True))
    try:
        with pytest.raises(PortError, match="takes no data: the board hangs"):
            port.set_baud(9600)
        assert dropped
        assert port.baud == 115_200
    finally:
        port.close()


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


def test_what_is_written_at_once_ends_where_the_system_would_have_to_wait(terminal: tuple[int, str]) -> None:
    master, path = terminal
    port = SerialPort(path, 115_200)
    try:
        data, taken = bytes(range(256)), 0
        while count := port.write_now(data[taken % 256 :]):  # until what nobody reads fills the terminal
            taken += count
        heard = bytearray()
        while len(heard) < taken:
            heard += os.read(master, 4096)
        assert bytes(heard) == (data * (taken // 256 + 1))[:taken]
        assert port.write_now(b"x") == 1
    finally:
        port.close()


def test_a_rate_that_the_adapter_refuses_is_no_pulled_cable(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: serial.Serial, baud: int) -> None:
        raise ValueError(f"Failed to set custom baud rate ({baud}): Invalid argument")  # as pyserial does

    port = SerialPort(terminal[1], 115_200)
    monkeypatch.setattr(serial.Serial, "_set_special_baudrate", refuse)
    try:
        with pytest.raises(PortError, match="cannot be set to 1562500 baud") as refused:
            port.set_baud(1_562_500)
        assert not isinstance(refused.value, PortGone)
    finally:
        port.close()


def test_a_port_is_known_by_any_link_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/serial/by-id names are what udev gives people to keep."""
    (tmp_path / "ttyACM0").touch()
    (tmp_path / "ttyACM1").touch()
    (tmp_path / "by-id").symlink_to("ttyACM1")
    tmp_path = tmp_path.resolve()
    control = PortInfo(str(tmp_path / "ttyACM0"), "Bitaxe", "11112222", None, 0)
    data = PortInfo(str(tmp_path / "ttyACM1"), "Bitaxe", "11112222", None, 2)
    monkeypatch.setattr("miner.asic.transport.scan", lambda: [control, data])
    assert port_named(str(tmp_path / "by-id")) == data
    assert port_named(data.path) == data
    assert port_named(str(tmp_path / "other")) is None
    assert control_port_of(str(tmp_path / "by-id")) == control.path


def test_of_several_ports_of_a_device_each_is_found_again_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [PortInfo(f"/dev/ttyUSB{number}", "Cairnsmore1", "serial", None, number) for number in range(4)]
    back = [dataclasses.replace(ports[number], path=f"/dev/ttyUSB{number + 4}") for number in (1, 2, 3)]
    monkeypatch.setattr("miner.asic.transport.scan", lambda: back)
    assert [find_again(port) for port in ports] == [[], ["/dev/ttyUSB5"], ["/dev/ttyUSB6"], ["/dev/ttyUSB7"]]


def test_a_port_without_a_serial_number_is_found_in_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    known = PortInfo("/dev/ttyUSB0", "CP2102", None, None, 0, "1-2:1.0")
    there = [
        PortInfo("/dev/ttyUSB0", "CP2102", None, None, 0, "1-3:1.0"),
        PortInfo("/dev/ttyUSB1", "PL2303", None, None, 0, "1-2:1.0"),
        PortInfo("/dev/ttyUSB2", "CP2102", None, None, 0, "1-2:1.0"),
        PortInfo("/dev/ttyUSB3", "CP2102", "0001", None, 0, "1-2:1.0"),
    ]
    monkeypatch.setattr("miner.asic.transport.scan", lambda: there)
    assert find_again(known) == ["/dev/ttyUSB2"]


def test_of_bridges_that_share_a_serial_number_all_are_tried(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CP2102s come from the factory with 0001."""
    _, path = terminal
    master, slave = os.openpty()
    other = SerialPort(os.ttyname(slave), 115_200)
    ports = [PortInfo(path, "CP2102", "0001", None, 0)]
    monkeypatch.setattr("miner.asic.transport.scan", lambda: ports)
    link = Link(path, 115_200, IcarusDriver(Options()))
    link.open()
    link.close()
    ports[:] = [PortInfo(other.path, "CP2102", "0001", None, 0)]
    assert not link._reopen()
    assert not link._reopen()
    assert f"{path} has been unplugged: waiting for it to come back" in caplog.text
    assert caplog.text.count(f"{other.path} is in use by another program; trying again") == 1
    ports.append(PortInfo(path, "CP2102", "0001", None, 0))
    assert link._reopen()
    assert link.path == path
    link.close()
    other.close()
    os.close(master)
    os.close(slave)


def test_a_link_comes_back_under_its_own_interface(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = terminal
    sibling = PortInfo("/dev/nowhere", "Cairnsmore1", "serial", None, 0)
    monkeypatch.setattr(
        "miner.asic.transport.scan", lambda: [sibling, PortInfo(path, "Cairnsmore1", "serial", None, 1)]
    )
    link = Link(path, 115_200, IcarusDriver(Options()))
    link.open()
    link.close()
    assert link._reopen()
    assert (link.path, link.replugs) == (path, 1)
    link.close()


def test_a_missing_permission_names_the_rule_and_never_the_group_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    port = PortInfo("/dev/ttyUSB0", "GekkoScience CompacF (0403:601A)", "1", None, 0)
    monkeypatch.setattr("miner.asic.transport.scan", lambda: [port])
    monkeypatch.setattr(
        "miner.asic.transport.grp.getgrgid", lambda gid: SimpleNamespace(gr_name={0: "root"}.get(gid, "uucp"))
    )

    def said(group: int, path: str = port.path) -> str:
        monkeypatch.setattr("miner.asic.transport.os.stat", lambda _: SimpleNamespace(st_gid=group, st_mode=0o20660))
        return str(transport._explain(path, PermissionError(errno.EACCES, "Permission denied")))

    rule = 'SUBSYSTEM=="tty", ATTRS{idVendor}=="0403", ATTRS{idProduct}=="601a", MODE="0666"'
    assert "run `sudo usermod -aG uucp $USER` and log in again" in said(14)
    assert rule in said(14)
    assert rule in said(0)
    assert "usermod" not in said(0)
    assert 'SUBSYSTEM=="tty", KERNEL=="ttyAMA0", MODE="0666"' in said(14, "/dev/ttyAMA0")
