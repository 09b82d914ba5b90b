"""Faults on demand: commands to a running emulation, one a line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from chain.primitives.errors import UserError
from miner.asic.boards.pmbus import STATUS_BITS
from miner.asic.emulator.bitaxe import EmulatedBitaxe
from miner.asic.emulator.board import EmulatedBoard

_Action = Callable[[list[float]], None]
_LARGEST = 1e6
_STATUS_REGISTERS = frozenset(STATUS_BITS)


class EmulatorConsole:
    """See the module. `say`: where answers go; `stop` is set by `quit`."""

    def __init__(self, board: EmulatedBoard, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._board = board
        self._stop = stop
        self._say = say
        chain, faults = board.chain, board.chain.faults
        self._commands: dict[str, tuple[str, _Action]] = {
            "dead": ("CHIP: it answers no more", lambda a: setattr(chain.chips[self._chip(a)], "dead", True)),
            "revive": ("CHIP: it answers again", lambda a: setattr(chain.chips[self._chip(a)], "dead", False)),
            "stuck": ("CHIP: it repeats one nonce", lambda a: setattr(faults, "stuck_chip", self._chip(a))),
            "wrong": ("RATE: share of nonces that are false", lambda a: setattr(faults, "wrong_nonce_rate", _rate(a))),
            "stale": ("RATE: share of nonces for the job before", lambda a: setattr(faults, "stale_id_rate", _rate(a))),
            "drop": ("RATE: bytes lost", lambda a: setattr(faults, "drop_rate", _rate(a))),
            "flip": ("RATE: bytes damaged", lambda a: setattr(faults, "flip_rate", _rate(a))),
            "duplicate": ("RATE: bytes doubled", lambda a: setattr(faults, "duplicate_rate", _rate(a))),
            "clear": ("no faults, no dead chips, no heat", lambda _: self._clear()),
        }
        if isinstance(board, EmulatedBitaxe):
            self._commands |= _bitaxe_commands(board)
        else:
            self._commands["heat"] = ("CHIP DEGREES: above what its clock explains", self._heat)
            self._commands["reset"] = ("pulse the reset line", lambda _: chain.reset())

    def read_commands(self, lines: Iterable[str]) -> None:
        """Until their end; what is wrong is said and nothing else happens."""
        for line in lines:
            words = line.split()
            if words:
                self.obey(words[0], words[1:])
            if self._stop.is_set():
                return

    def obey(self, name: str, arguments: list[str]) -> None:
        """One command."""
        board = self._board
        if name == "quit":
            self._stop.set()
        elif name == "unplug":
            board.unplug()
        elif name == "plug":
            try:
                board.plug_in()
            except UserError as error:
                self._say(str(error))
            else:
                self._say(f"plugged in: {board.ports}")
        elif name == "status":
            with board.lock:
                self._say(self._status())
        elif name in self._commands:
            try:
                numbers = [_number(text) for text in arguments]
                with board.lock:
                    self._commands[name][1](numbers)
            except (ValueError, IndexError):
                self._say(f"{name} {self._commands[name][0]}")
        else:
            for known, (text, _) in self._commands.items():
                self._say(f"  {known} {text}")
            self._say("  unplug | plug | status | quit")

    def _status(self) -> str:
        board, chain = self._board, self._board.chain
        lines = [f"host at {board.host_baud} baud, chips at {chain.actual_baud:.0f}; {chain.reported} nonces"]
        if isinstance(board, EmulatedBitaxe):
            lines.append(board.describe())
        lines += [chip.describe() for chip in chain.chips]
        return "\n".join(lines)

    def _heat(self, arguments: list[float]) -> None:
        self._board.chain.chips[self._chip(arguments)].heat_c = arguments[1]

    def _chip(self, arguments: list[float]) -> int:
        """The chip that is meant; IndexError for none."""
        index = int(arguments[0])
        if index != arguments[0] or index < 0:
            raise IndexError
        return self._board.chain.chips[index].index

    def _clear(self) -> None:
        self._board.chain.faults.clear()
        if isinstance(self._board, EmulatedBitaxe):
            self._board.board_faults.clear()
        for chip in self._board.chain.chips:
            chip.dead, chip.heat_c = False, 0.0


def _number(text: str) -> float:
    """A number as people write it; ValueError also for one that physics does not know."""
    number = float(int(text, 0)) if "x" in text else float(text)
    if not abs(number) <= _LARGEST:  # neither inf nor nan
        raise ValueError
    return number


def _between(arguments: list[float], low: float, high: float) -> float:
    if not low <= arguments[0] <= high:
        raise ValueError
    return arguments[0]


def _rate(arguments: list[float]) -> float:
    return _between(arguments, 0.0, 1.0)


def _delay_s(arguments: list[float]) -> float:
    return _between(arguments, 0.0, 60.0)


def _regulator_fault(board: EmulatedBitaxe, register: float, bits: float) -> None:
    if not (register in _STATUS_REGISTERS and bits in range(256)):
        raise ValueError
    board.regulator_fault(int(register), int(bits))


def _bitaxe_commands(board: EmulatedBitaxe) -> dict[str, tuple[str, _Action]]:
    faults = board.board_faults
    return {
        "heat": ("DEGREES: above what load and fan explain", lambda a: setattr(faults, "heat_c", a[0])),
        "fan": ("0 or 1: stopped, or turning", lambda a: setattr(faults, "fan_stopped", not a[0])),
        "diode": ("0 or 1: open, or there", lambda a: setattr(faults, "diode_open", not a[0])),
        "nak": ("ADDRESS (as 0x4c): that I2C device answers no more", lambda a: faults.silent.add(int(a[0]))),
        "ack": ("ADDRESS: it answers again", lambda a: faults.silent.discard(int(a[0]))),
        "pmbus": ("REGISTER BITS (as 0x7d 0x80): a fault", lambda a: _regulator_fault(board, a[0], a[1])),
        "amps": ("AMPERES: drawn besides what the chips need", lambda a: setattr(faults, "extra_amps", a[0])),
        "silent": ("1 or 0: the control port answers no more", lambda a: setattr(faults, "control_silent", bool(a[0]))),
        "delay": (
            "SECONDS: before each answer of the control port",
            lambda a: setattr(faults, "reply_delay_s", _delay_s(a)),
        ),
    }
