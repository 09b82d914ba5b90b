"""The control port of a bitaxe-raw board, open: requests answered, conversations with I2C devices held."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from miner.asic.boards import bitaxe_raw
from miner.asic.boards.bitaxe_raw import ControlCodec, Framing, Reply, Request
from miner.asic.boards.i2c import Conversation, I2cError, T, Transfer
from miner.asic.transport import PortError, SerialPort

_BAUD = 115_200  #: of no importance: the port is USB all the way (REFERENCE.md §1)
_I2C_TRIES = 3
_I2C_PAUSE_S = 0.01


class ControlSilent(PortError):
    """The control port takes requests and answers none."""


class ControlRefused(I2cError):
    """The firmware answered with an error."""


class ControlPort:
    """See the module. May be used from several threads; a request holds the others up."""

    def __init__(
        self, path: str, timeout_s: float = bitaxe_raw.REPLY_TIMEOUT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open it. Raises PortError."""
        self.path = path
        self._port = SerialPort(path, _BAUD)
        self._codec = ControlCodec()
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.RLock()
        self._buffer = bytearray(4096)

    @property
    def framing(self) -> Framing | None:
        """How this build frames replies, once known."""
        return self._codec.framing

    def close(self) -> None:
        """Give the port back."""
        self._port.close()

    def detect(self) -> int:
        """Find out how the firmware frames replies; the level of the reset pin. Raises as `ask`."""
        return self.ask(bitaxe_raw.gpio_get(bitaxe_raw.RESET_PIN))[0]

    def ask(self, request: Request) -> bytes:
        """The data of the answer. Raises ControlSilent, ControlRefused, PortGone."""
        with self._lock:
            self._port.discard_input()
            self._port.write(self._codec.begin(request))
            reply = self._await_reply()
        if reply is None:
            raise ControlSilent(f"the control port {self.path} does not answer")
        if reply.error is not None:
            raise ControlRefused(f"{self.path}: {reply.error}")
        return reply.data

    def converse(self, conversation: Conversation[T]) -> T:
        """Carry a conversation out; a transfer that fails is tried again twice. Raises as `ask`, and what the
        conversation raises."""
        try:
            transfer = next(conversation)
            while True:
                try:
                    data = self._transfer(transfer)
                except I2cError as error:
                    transfer = conversation.throw(error)
                else:
                    transfer = conversation.send(data)
        except StopIteration as result:
            value: T = result.value
            return value

    def _transfer(self, transfer: Transfer) -> bytes:
        if not transfer.read:
            request = bitaxe_raw.i2c_write(transfer.address, transfer.write)
        elif transfer.write:
            request = bitaxe_raw.i2c_write_read(transfer.address, transfer.write, transfer.read)
        else:
            request = bitaxe_raw.i2c_read(transfer.address, transfer.read)
        for attempt in range(_I2C_TRIES):
            if attempt:
                time.sleep(_I2C_PAUSE_S)
            with contextlib.suppress(ControlRefused):
                data = self.ask(request)
                return data if transfer.read else b""
        raise I2cError(f"the I2C device at {transfer.address:02X} does not answer")

    def _await_reply(self) -> Reply | None:
        deadline = self._clock() + self._timeout_s
        view = memoryview(self._buffer)
        heard = False
        while (left := deadline - self._clock()) > 0:
            if self._port.wait(min(left, bitaxe_raw.QUIET_S) if heard else left):
                count = self._port.read_into(view)
                heard = heard or count > 0
                reply = self._codec.receive_data(bytes(view[:count]))
            else:
                reply = self._codec.quiet()
            if reply is not None:
                return reply
        return None
