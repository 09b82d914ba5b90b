"""One port of an emulated board: a pseudo-terminal that can be pulled and put back."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import termios
import tty
from pathlib import Path

from chain.primitives.errors import UserError

_TCGETS2 = 0x802C542A  #: Linux: termios with the speed as a number, so that any rate can be read back
_TERMIOS2 = struct.Struct("=4IB19B2I")
_READ_BYTES = 4096
_TERMINALS = "/dev/pts/"


class PtyPort:
    """See the module. `link`: a symbolic link kept pointing at the port, which keeps its name over unplugging."""

    def __init__(self, link: Path | None = None) -> None:
        self.overruns = 0  #: bytes lost because nobody read them
        self._link = link
        self._master = self._slave = -1
        self._name = ""

    @property
    def plugged(self) -> bool:
        """Whether it exists."""
        return self._slave >= 0

    @property
    def path(self) -> str:
        """What a host opens; empty while unplugged."""
        return str(self._link) if self._link is not None and self._name else self._name

    @property
    def fd(self) -> int:
        """The board's end, to wait on; -1 while unplugged."""
        return self._master

    @property
    def baud(self) -> int:
        """The rate the host has set; 0 while unplugged."""
        if self._slave < 0:
            return 0
        return int(_TERMIOS2.unpack(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size)))[-1])

    def plug_in(self) -> bool:
        """A new pseudo-terminal; False when there is one already. UserError where the link cannot be made."""
        if self.plugged:
            return False
        self._check_link()
        self._master, self._slave = os.openpty()  # the slave stays open: its settings are read, and no hangup on close
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self._name = os.ttyname(self._slave)
        if self._link is not None:
            try:
                self._remove_link()
                self._link.symlink_to(self._name)
            except OSError as error:
                self._close()
                raise UserError(f"{self._link} cannot be made: {error.strerror}") from None
        return True

    def unplug(self) -> None:
        """The port disappears."""
        if not self.plugged:
            return
        with contextlib.suppress(OSError):  # it is only a name
            self._remove_link()
        self._close()

    def _check_link(self) -> None:
        """What is in the link's place and leads to no pseudo-terminal belongs to somebody."""
        link = self._link
        if link is not None and os.path.lexists(link) and not self._is_ours(link):
            raise UserError(f"{link} exists and is no link to an emulated port: choose another name for --link")

    def _remove_link(self) -> None:
        if self._link is not None and self._is_ours(self._link):
            self._link.unlink(missing_ok=True)

    @staticmethod
    def _is_ours(link: Path) -> bool:
        """Whether it is a link that this or an earlier emulation has left."""
        return link.is_symlink() and str(link.readlink()).startswith(_TERMINALS)

    def _close(self) -> None:
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._name = ""

    def read(self) -> bytes:
        """What the host has written; b"" when nothing is there."""
        try:
            return os.read(self._master, _READ_BYTES)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            return b""

    def write(self, data: bytes) -> None:
        """To the host; what does not fit because nobody reads is lost and counted."""
        try:
            written = os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO):
                raise
            written = 0
        self.overruns += len(data) - written
