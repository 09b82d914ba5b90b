"""Serial ports: the only user of pyserial.

A port is read without blocking into the buffer its protocol decoder offers, so that bytes are copied once, by the
kernel. Every wait is bounded. Modem lines and parity are optional: a pseudo-terminal has neither.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import os
import re
import select
import socket
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass

import serial
from serial.tools import list_ports

WRITE_TIMEOUT_S = 2.0
_DRAIN_LOOK_S = 0.001
_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.EBADF}
_FAILURES = (OSError, ValueError, termios.error)  # of a port in use; pyserial lets termios.error through, no OSError

# write(2) that keeps the interpreter lock. A port takes bytes without a wait, in microseconds; but each time the lock
# were given away for them, another board's thread could have it first, 64 times on the way to the last board's job.
_write_locked = ctypes.PyDLL(None, use_errno=True).write
_write_locked.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_write_locked.restype = ctypes.c_ssize_t


class PortError(Exception):
    """A port that cannot be used; one line for the user."""


class PortMissing(PortError):
    """There is no port of that name."""


class PortGone(PortError):
    """The port has disappeared: unplugged, or the other end of a pseudo-terminal has closed."""


def with_path(path: str, error: Exception) -> str:
    """The error's line with the board's port (DATA or DATA,CONTROL) before it, unless it names a port of the board."""
    text = str(error)
    return text if any(part in text for part in path.split(",")) else f"{path}: {text}"


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """A bridge that boards come with. `product`: part of the product string, all of it where `exact`; `shared`: the
    same numbers are on ordinary adapters, so nothing is sent there unasked; `chip`: the part behind it, where that is
    certain; `board`: what --board calls it, None where the identity does not tell; `control`: its first port is a
    control port; `driven`: False for what no driver of ours speaks to."""

    vendor: int
    product_id: int
    product: str
    name: str
    shared: bool = False
    chip: str | None = None
    exact: bool = False
    board: str | None = None
    control: bool = False
    driven: bool = True

    @property
    def title(self) -> str:
        """For people."""
        if self.board is not None:
            return f"{self.name}: --board {self.board}"
        return self.name if self.driven else f"{self.name}, not driven"


#: Boards by their USB bridge (bm13xx/REFERENCE.md §20). Branches of bitaxe-raw for other boards have other pins under
#: the same numbers: theirs must not be taken for a Bitaxe.
KNOWN_BRIDGES = (
    UsbIdentity(0xC0DE, 0xCAFE, "Bitaxe", "Bitaxe with bitaxe-raw firmware", exact=True, control=True),
    UsbIdentity(0xC0DE, 0xCAFE, "BitaxeBonanza", "Bitaxe Bonanza", driven=False),
    UsbIdentity(0xC0DE, 0xCAFE, "bitcrane3", "bitcrane 3", driven=False),
    UsbIdentity(0x1209, 0x256F, "EmberOne00", "emberOne/00", chip="bm1362", control=True),
    UsbIdentity(0xC0DE, 0xCAFE, "EmberOne00", "emberOne/00", chip="bm1362", control=True),
    UsbIdentity(0x0403, 0x6015, "CompacF", "GekkoScience Compac F", chip="bm1397", board="gekko-compacf"),
    UsbIdentity(0x0403, 0x6015, "R909", "GekkoScience R909", chip="bm1397", board="gekko-r909"),
    UsbIdentity(0x0403, 0x6015, "NewPac", "GekkoScience NewPac", chip="bm1387", board="gekko-newpac"),
    UsbIdentity(0x0403, 0x6015, "R606", "GekkoScience R606", chip="bm1387", board="gekko-r606"),
    UsbIdentity(0x10C4, 0xEA60, "Compac BM1384", "GekkoScience Compac", chip="bm1384", board="gekko-compac"),
    UsbIdentity(0x10C4, 0xEA60, "2Pac BM1384", "GekkoScience 2Pac", chip="bm1384", board="gekko-2pac"),
    UsbIdentity(0x10C4, 0xEA60, "Terminus BM1384", "GekkoScience Terminus", chip="bm1384"),
    UsbIdentity(0x10C4, 0xEA60, "Block Erupter", "Block Erupter USB", board="erupter"),
    UsbIdentity(0x10C4, 0xEA60, "Antminer", "AntMiner U1 or U2", board="u1"),
    UsbIdentity(0x0403, 0x6014, "Cairnsmore1", "Cairnsmore1, Icarus type", board="icarus"),
    UsbIdentity(0x0403, 0x8350, "Cairnsmore1", "Cairnsmore1, Icarus type", board="icarus"),
    UsbIdentity(0x0403, 0x6014, "BitFORCE", "BitForce", driven=False),
    UsbIdentity(0x0403, 0x6001, "BitBurner", "BitBurner", driven=False),
    UsbIdentity(0x10C4, 0xEA70, "Compac A1", "GekkoScience Compac A1", chip="bm1362"),
    UsbIdentity(0x10C4, 0xEA70, "Terminus A1", "GekkoScience Terminus A1", chip="bm1362"),
    UsbIdentity(0x10C4, 0xEA70, "Compac A2", "GekkoScience Compac A2", chip="bm1370"),
    UsbIdentity(0x10C4, 0xEA70, "Terminus A2", "GekkoScience Terminus A2", chip="bm1370"),
    UsbIdentity(0x0403, 0x6001, "", "FTDI adapter", shared=True),
    UsbIdentity(0x0403, 0x6014, "", "FTDI adapter", shared=True),
    UsbIdentity(0x10C4, 0xEA60, "", "CP210x adapter", shared=True),
    UsbIdentity(0x067B, 0x2303, "", "PL2303 adapter", shared=True),
)


@dataclass(frozen=True, slots=True)
class PortInfo:
    """A port that exists. `known`: what its USB identity says; None for a port without one, or an unknown one."""

    path: str
    description: str
    serial_number: str | None
    known: UsbIdentity | None
    interface: int | None = None  #: number of the USB interface, which tells the ports of one board apart
    socket: str | None = None  #: where in the tree of USB hubs, interface included

    @property
    def traceable(self) -> bool:
        """Whether `find_again` has something to go by."""
        return self.serial_number is not None or self.socket is not None


def scan() -> list[PortInfo]:
    """All serial ports of the machine, sorted by path. Nothing is opened."""
    found = []
    for entry in list_ports.comports():
        if entry.vid is None:
            continue  # the sixteen ttyS of every PC
        known = identify(entry.vid, entry.pid, entry.product or "")
        description = " ".join(part for part in (entry.manufacturer, entry.product) if part) or entry.description
        place = re.search(r":\d+\.(\d+)$", entry.location or "")
        found.append(
            PortInfo(
                entry.device,
                f"{description} ({entry.vid:04X}:{entry.pid:04X})",
                entry.serial_number,
                known,
                int(place.group(1)) if place else None,
                entry.location or None,
            )
        )
    return sorted(found, key=lambda port: port.path)


def port_named(path: str, ports: list[PortInfo] | None = None) -> PortInfo | None:
    """The port of that path, or that a link such as those in /dev/serial/by-id leads to; None for none."""
    real = os.path.realpath(path)
    return next((port for port in (scan() if ports is None else ports) if port.path in (path, real)), None)


def find_again(known: PortInfo) -> list[str]:
    """Where a port may be now that may have been plugged in anew, likeliest first; empty while it is not there.

    By its serial number, and of several ports of one device by its interface; without a serial number by its socket.
    Several: bridges are sold with the same number in all of them.
    """
    same = [
        port.path
        for port in scan()
        if port.serial_number == known.serial_number
        and port.interface == known.interface
        and port.description == known.description
        and (known.serial_number is not None or port.socket == known.socket)
    ]
    return sorted(same, key=lambda path: path != known.path)


class Search:
    """For a port that has disappeared: what stands in the way of its return, each thing said once."""

    def __init__(self, path: str, known: PortInfo | None, say: Callable[[str], None]) -> None:
        self._path = path
        self._known = known if known is not None and known.traceable else None
        self._say = say
        self._said: set[str] = set()
        where = "" if self._known is not None else f" under the same name, {path}"
        say(f"{path} has been unplugged: waiting for it to come back{where}")

    def ended(self, open_at: Callable[[str], None]) -> bool:
        """Look for it once; True when `open_at` has opened it. That gets a path, and raises PortError in vain."""
        for path in find_again(self._known) if self._known is not None else [self._path]:
            try:
                open_at(path)
            except PortError as error:  # nodes appear before they can be opened
                self._failed(error)
            else:
                self._say(f"{path} is back")
                return True
        return False

    def _failed(self, error: PortError) -> None:
        text = str(error)
        if not isinstance(error, PortMissing | PortGone) and text not in self._said:
            self._said.add(text)
            self._say(f"{text}; trying again")


def control_port_of(data_port: str, ports: list[PortInfo] | None = None) -> str | None:
    """The control port of the board with that data port: on the same USB device, the interface with the lowest number
    (boards/REFERENCE.md §1). None where the data port is none of two on one device, or no such board's."""
    ports = scan() if ports is None else ports
    data = port_named(data_port, ports)
    if data is None or data.serial_number is None or (data.known is not None and not data.known.control):
        return None  # the ports of other bridges are miners of their own, or telemetry
    siblings = [port for port in ports if port.serial_number == data.serial_number and port.interface is not None]
    first = min(siblings, key=lambda port: port.interface or 0, default=None)
    return first.path if first is not None and first.path != data.path and len(siblings) > 1 else None


def control_ports(ports: list[PortInfo]) -> set[str]:
    """Those of the ports that are some board's control port."""
    found = (control_port_of(port.path, ports) for port in ports)
    return {path for path in found if path is not None}


def identify(vendor: int, product_id: int, product: str) -> UsbIdentity | None:
    """The known bridge with these numbers and product string."""
    for bridge in KNOWN_BRIDGES:
        if (bridge.vendor, bridge.product_id) != (vendor, product_id):
            continue
        if bridge.product == product if bridge.exact else bridge.product in product:
            return bridge
    return None


class SerialPort:
    """An open port, 8N1, raw, locked against a second user."""

    def __init__(self, path: str, baud: int) -> None:
        """Open `path`; PortError says what is in the way and what to do about it."""
        self.path = path
        self.baud = baud
        try:
            self._port = serial.Serial(path, baud, timeout=0, write_timeout=WRITE_TIMEOUT_S, exclusive=True)
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise _explain(path, error) from None
        self._fd: int | None = self._port.fileno() if os.name == "posix" else None
        self._woken, self._waker = socket.socketpair()  # sockets: once closed, a late wake() hits nothing else
        self._woken_fd = self._woken.fileno()
        self._undrained = False  # _woken has bytes of a wake that a wait has already ended for
        for end in (self._woken, self._waker):
            end.setblocking(False)

    @property
    def exists(self) -> bool:
        """Whether its name still leads somewhere."""
        return os.path.exists(self.path)

    def close(self) -> None:
        """Give the port back; harmless when it is gone."""
        with contextlib.suppress(OSError):
            self._port.close()
        self._woken.close()
        self._waker.close()

    def wake(self) -> None:
        """End a wait that is going on, or the next one. Called from any thread."""
        with contextlib.suppress(OSError):  # closed, or woken often enough already
            self._waker.send(b"\0")

    def wait(self, timeout_s: float) -> bool:
        """Until there is something to read, at most that long, or until woken; True when there is. Raises PortGone."""
        try:
            if self._fd is None:
                return self._wait_polling(timeout_s)
            if self._undrained:  # by now, so that what a wake is for comes first; a new wake may go with it: no wait
                self._undrained = False
                self._woken.recv(4096)
                timeout_s = 0.0
            ready = select.select([self._fd, self._woken_fd], [], [], timeout_s if timeout_s > 0.0 else 0.0)[0]
            self._undrained = self._woken_fd in ready
            return self._fd in ready
        except _FAILURES as error:
            raise self._gone(error) from None

    def read_into(self, buffer: memoryview) -> int:
        """What has arrived, written into `buffer`; the number of bytes, 0 when there are none. Raises PortGone."""
        try:
            if self._fd is None:
                data = self._port.read(len(buffer))
                buffer[: len(data)] = data
                return len(data)
            count = os.readv(self._fd, [buffer])
        except BlockingIOError:
            return 0
        except _FAILURES as error:
            raise self._gone(error) from None
        if count == 0:  # end of file: a terminal says that when its other end is gone
            raise PortGone(f"{self.path} has been unplugged")
        return count

    def write(self, data: bytes) -> None:
        """All of it. Raises PortGone, or PortError when the device takes nothing for WRITE_TIMEOUT_S."""
        try:
            if self._fd is None:
                self._port.write(data)
            elif (count := self._write_part(data)) < len(data):
                self._write_rest(self._fd, memoryview(data)[count:])
        except (serial.SerialTimeoutException, TimeoutError):
            raise self._hangs() from None
        except _FAILURES as error:
            raise self._gone(error) from None

    def write_now(self, data: bytes) -> int:
        """As much as the system takes without a wait, which is mostly all; how many bytes. Other threads of Python do
        not run meanwhile. Raises PortGone."""
        if self._fd is None:
            return 0
        count = int(_write_locked(self._fd, data, len(data)))
        if count >= 0:
            return count
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return 0
        raise self._gone(OSError(number, os.strerror(number)))

    def set_baud(self, baud: int) -> None:
        """Let everything written leave at the old rate, then change; what has been received is dropped. Raises
        PortGone, or PortError when what was written does not leave, or the adapter does not know the rate."""
        try:
            self._drain()
            self._port.baudrate = baud
            self._port.reset_input_buffer()
        except TimeoutError:
            raise self._hangs() from None
        except ValueError:  # pyserial's, where the adapter refuses
            raise PortError(f"{self.path} cannot be set to {baud} baud: its adapter does not know that rate") from None
        except _FAILURES as error:
            raise self._gone(error) from None
        self.baud = baud

    def discard_input(self) -> None:
        """Drop what has been received."""
        try:
            self._port.reset_input_buffer()
        except _FAILURES as error:
            raise self._gone(error) from None

    def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        """Drive modem lines, which some boards have wired to the chips' reset; False where the port has none."""
        try:
            if dtr is not None:
                self._port.dtr = dtr
            if rts is not None:
                self._port.rts = rts
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return False
            raise self._gone(error) from None
        return True

    def clear_to_send(self) -> bool | None:
        """Whether the other end holds CTS on; None where the port has no such line. Raises PortGone."""
        try:
            return bool(self._port.cts)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise self._gone(error) from None

    def keep_lines(self) -> None:
        """Leave the modem lines as they are when the port is closed; by itself closing lets them go."""
        if self._fd is not None:
            with contextlib.suppress(termios.error):
                attributes = termios.tcgetattr(self._fd)
                attributes[2] &= ~termios.HUPCL
                termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def _drain(self) -> None:
        """Until everything written has left. tcdrain alone would wait for ever on an adapter that takes nothing, and
        with it the board that is to be switched off."""
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while self._fd is not None and self._port.out_waiting:
            if time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(_DRAIN_LOOK_S)
        self._port.flush()

    def _hangs(self) -> PortError:
        with contextlib.suppress(*_FAILURES):
            self._port.reset_output_buffer()  # the system would wait half a minute for it when the port is closed
        return PortError(f"{self.path} takes no data: the board hangs, unplug it and plug it in again")

    def _write_part(self, data: bytes | memoryview) -> int:
        if self._fd is None:
            return 0
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def _write_rest(self, fd: int, rest: memoryview) -> None:
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while rest:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([], [fd], [], left_s)[1]:
                raise TimeoutError
            rest = rest[self._write_part(rest) :]

    def _wait_polling(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._port.in_waiting:
            with contextlib.suppress(BlockingIOError):
                if self._woken.recv(4096):
                    return False
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)
        return True

    def _gone(self, error: Exception) -> PortError:
        number = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
        if number is None or number in _GONE:
            return PortGone(f"{self.path} has been unplugged")
        return PortError(f"{self.path}: {os.strerror(number)}")


def _explain(path: str, error: Exception) -> PortError:
    number = getattr(error, "errno", None)
    text = str(error)
    if number == errno.ENOENT or "No such file" in text:
        return PortMissing(f"there is no port {path}; `pickaxe asic scan` lists those that exist")
    if number in (errno.EACCES, errno.EPERM) or "Permission denied" in text:
        return PortError(f"no permission for {path}: {_remedy(path)}")
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
        return PortError(f"{path} is in use by another program")
    if number in (errno.ENOTTY, errno.EINVAL) or "Could not configure port" in text:
        return PortError(f"{path} is not a serial port")
    if number in _GONE:
        return PortGone(f"{path} has been unplugged")
    return PortError(f"{path} cannot be opened: {os.strerror(number) if number else text}")


def _udev_rule(path: str) -> str:
    """That lets everybody use the port, and others of its kind."""
    port = port_named(path)
    ids = re.search(r"\(([0-9A-F]{4}):([0-9A-F]{4})\)$", port.description) if port is not None else None
    if ids is not None:
        which = f'ATTRS{{idVendor}}=="{ids[1].lower()}", ATTRS{{idProduct}}=="{ids[2].lower()}"'
    else:
        which = f'KERNEL=="{os.path.basename(os.path.realpath(path))}"'
    return f'SUBSYSTEM=="tty", {which}, MODE="0666"'


def _remedy(path: str) -> str:
    """What to do about a missing permission: join the group that has it, or have udev give it away."""
    rule = f"put {_udev_rule(path)} into /etc/udev/rules.d/50-pickaxe.rules and plug it in again"
    try:
        status = os.stat(path)
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return f"ask its owner, or {rule}"
    if status.st_gid == 0:  # nobody is to join that for a serial port
        return f"only root may use it; {rule}"
    rule = f"or {rule}"
    if status.st_mode & 0o060 == 0o060:
        return f"it belongs to group {group}; run `sudo usermod -aG {group} $USER` and log in again, {rule}"
    return f"its group {group} may not use it either; run `sudo chmod g+rw {path}`, {rule}"
