"""The emulated Bitaxe in raw frames, held to the reference: no driver of ours in between."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from miner.asic.emulator.bitaxe import BoardFaults, EmulatedBitaxe, ReplyFraming
from miner.asic.emulator.catalog import EmulationOptions, emulation
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.console import EmulatorConsole
from miner.asic.emulator.faults import Faults

READ_CHIP_ID = bytes.fromhex("55 AA 52 05 00 00 0A")
BM1370_SAYS = bytes.fromhex("AA 55 13 70 00 00 00 00 06")


class Wired:
    """An emulated board with its ports replaced by lists of bytes, in simulated time."""

    def __init__(self, framing: ReplyFraming = ReplyFraming.TOTAL, **options: object) -> None:
        self.board = EmulatedBitaxe("bitaxe-gamma", 20, framing, **options)  # type: ignore[arg-type]
        self.now = 0.0
        self.data, self.control = _Wire(), _Wire()
        self.board._data, self.board._control = self.data, self.control  # type: ignore[assignment]

    def ask(self, request: str, seconds: float = 0.01) -> str:
        self.control.to_board = bytes.fromhex(request)
        self.pass_time(seconds)
        return self.control.taken().hex(" ").upper()

    def chips(self, data: bytes) -> bytes:
        self.data.to_board = data
        self.pass_time(0.05)
        return self.data.taken()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.005
            self.board._turn(self.now)


class _Wire:
    plugged, baud = True, 115_200

    def __init__(self) -> None:
        self.to_board, self.to_host = b"", b""

    def read(self) -> bytes:
        data, self.to_board = self.to_board, b""
        return data

    def write(self, data: bytes) -> None:
        self.to_host += data

    def taken(self) -> bytes:
        data, self.to_host = self.to_host, b""
        return data


@pytest.mark.parametrize(
    ("framing", "level", "written", "error"),
    [
        (ReplyFraming.V0, "01 00 07 00", "01 00 07 02", "12 00 07 FF"),
        (ReplyFraming.TOTAL, "04 00 07 00", "04 00 07 02", "12 00 07 FF"),
        (ReplyFraming.V1, "05 00 07 00 00", "05 00 07 00 02", "12 00 07 FF"),
    ],
)
def test_replies_in_each_framing(framing: ReplyFraming, level: str, written: str, error: str) -> None:
    wired = Wired(framing)
    assert wired.ask("06 00 07 00 06 00") == level
    assert wired.ask("09 00 07 00 05 20 4C 4C 3F") == written
    assert wired.ask("08 00 07 00 05 30 50 01") == error + " " + b"I2C Read Error".hex(" ").upper()
    assert wired.ask("06 00 07 00 33 00") == "04 00 07 11"
    assert wired.ask("03 00 07") == "04 00 FF 11"


def test_a_request_that_stops_is_dropped() -> None:
    wired = Wired(partial_s=0.004)
    assert wired.ask("06 00 01 00", 0.05) == ""
    assert wired.ask("06 00 02 00 06 00") == "04 00 02 00"


def test_what_the_devices_hold_before_anybody_wrote() -> None:
    """The diode of chips without power reads as open."""
    wired = Wired()
    for register, value in (("FD", "16"), ("FE", "5D"), ("01", "7F"), ("10", "00"), ("4C", "00")):
        assert wired.ask(f"09 00 00 00 05 40 4C {register} 01") == f"04 00 00 {value}"
    assert wired.ask("09 00 00 00 05 40 24 AD 07") == "0A 00 00 06 54 49 54 6D 24 41"
    assert wired.ask("09 00 00 00 05 40 24 79 02") == "05 00 00 40 08", "off, and so no good power"
    assert wired.ask("09 00 00 00 05 40 24 20 01") == "04 00 00 97"
    assert wired.ask("09 00 00 00 08 10 FF 00 FF") == "06 00 00 FF 00 FF"
    assert wired.board.led == (255, 0, 255)


def test_chips_live_only_with_voltage_and_out_of_reset() -> None:
    wired = Wired()
    assert wired.chips(READ_CHIP_ID) == b""
    wired.ask("07 00 00 00 06 00 01")
    assert wired.chips(READ_CHIP_ID) == b"", "no core voltage"
    wired.ask("0A 00 00 00 05 20 24 21 4D 02")  # 1.15 V
    wired.ask("09 00 00 00 05 20 24 01 80")
    assert wired.board.core_on
    assert wired.chips(READ_CHIP_ID) == BM1370_SAYS
    assert wired.ask("09 00 00 00 05 40 24 79 02") == "05 00 00 00 00"
    wired.ask("07 00 00 00 06 00 00")
    assert wired.chips(READ_CHIP_ID) == b"", "in reset"
    wired.ask("07 00 00 00 06 00 01")
    wired.ask("0A 00 00 00 05 20 24 21 00 01")  # 0.5 V
    assert wired.chips(READ_CHIP_ID) == b"", "too little voltage"


def test_heat_follows_fan_and_load() -> None:
    wired = Wired(speed=50)
    wired.ask("0A 00 00 00 05 20 24 21 4D 02")
    wired.ask("09 00 00 00 05 20 24 01 80")
    wired.ask("07 00 00 00 06 00 01")
    chip = wired.board.chain.chips[0]
    chip.registers |= {0x18: 0xF000C100, 0x10: 0x1EB5, 0x08: 0x40A80263}  # reports, sweeps, some 525 MHz
    wired.ask("09 00 00 00 05 20 4C 4C 3F")
    wired.pass_time(5)
    cool, watts = wired.board.chip_c, wired.board.watts
    wired.ask("09 00 00 00 05 20 4C 4C 0F")
    wired.pass_time(5)
    assert wired.board.chip_c > cool + 5, "less air"
    wired.ask("0A 00 00 00 05 20 24 21 00 02")
    wired.pass_time(0.1)
    assert wired.board.watts == pytest.approx(watts * (1.0 / 1.15) ** 2, rel=0.02), "power goes with the square"
    wired.board.board_faults.fan_stopped = True
    wired.pass_time(5)
    assert wired.ask("09 00 00 00 05 40 4C 47 01") == "04 00 00 FF", "no tachometer edges"


def test_faults_from_the_console() -> None:
    said: list[str] = []
    emulated = emulation("bitaxe-gamma", EmulationOptions())
    board = emulated.board
    assert isinstance(board, EmulatedBitaxe)
    console = EmulatorConsole(board, threading.Event(), said.append)
    console.read_commands(
        ["heat 40", "fan 0", "nak 0x4c", "amps 3", "silent 1", "pmbus 0x7d 0x80", "status", "nonsense"]
    )
    faults = board.board_faults
    assert (faults.heat_c, faults.fan_stopped, faults.silent, faults.extra_amps) == (40.0, True, {0x4C}, 3.0)
    assert faults.control_silent
    assert board.regulator.latched
    assert "core OFF, clock OFF" in said[0]
    assert any("unplug | plug | status | quit" in line for line in said)
    console.obey("heat", ["much"])
    assert said[-1].startswith("heat DEGREES")
    console.obey("clear", [])
    assert (faults.heat_c, faults.silent, faults.control_silent) == (0.0, set(), False)


@pytest.mark.parametrize(
    "line",
    [
        *("heat nan", "heat inf", "heat", "amps nan", "amps 1e300", "delay -1", "delay nan", "delay 1e5"),
        *("drop -5", "drop 1.5", "wrong nan", "dead -1", "dead 0.5", "dead 9", "stuck 9", "revive x"),
        *("pmbus 0x7d", "pmbus 0x7d 0x1ff", "pmbus 0x20 1", "pmbus 0x7d -1", "nak"),
    ],
)
def test_a_fault_that_cannot_be_is_explained_and_changes_nothing(line: str) -> None:
    said: list[str] = []
    board = emulation("bitaxe-gamma", EmulationOptions()).board
    assert isinstance(board, EmulatedBitaxe)
    registers = dict(board.regulator.registers)
    EmulatorConsole(board, threading.Event(), said.append).read_commands([line])
    assert len(said) == 1, "one line that says how it is used"
    assert said[0].startswith(line.split()[0] + " ")
    assert board.board_faults == BoardFaults()
    assert board.chain.faults == Faults(board.chain.faults.rng)
    assert not board.chain.chips[0].dead
    assert board.regulator.registers == registers


def test_a_link_replaces_nothing_but_links_to_ports(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "board"
    precious.write_text("mine")
    with pytest.raises(UserError, match="precious exists and is no link to an emulated port"):
        emulation("bm1370", EmulationOptions(link=precious)).board.start()
    link.symlink_to(precious)
    with pytest.raises(UserError, match="board exists and is no link"):
        emulation("bm1370", EmulationOptions(link=link)).board.start()
    assert (precious.read_text(), link.readlink()) == ("mine", precious)
    with pytest.raises(UserError, match="board cannot be made: No such file or directory"):
        emulation("bm1370", EmulationOptions(link=tmp_path / "nowhere" / "board")).board.start()
    left = tmp_path / "left"
    left.symlink_to("/dev/pts/999999")  # by an emulation that was killed
    with emulation("bm1370", EmulationOptions(link=left)).board as board:
        assert str(left.readlink()) != "/dev/pts/999999"
        assert board.port == str(left)
    assert not left.is_symlink()


def test_a_board_whose_second_link_cannot_be_made_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("mine")
    with pytest.raises(UserError, match="board exists"):
        emulation("bitaxe-gamma", EmulationOptions(link=tmp_path / "board")).board.start()
    assert [path.name for path in tmp_path.iterdir()] == ["board"]


def test_what_can_be_emulated_is_listed() -> None:
    with pytest.raises(UserError, match=r"nothing called 'toaster' can be emulated; known are bm1397.*bitaxe-gamma"):
        emulation("toaster", EmulationOptions())
    with pytest.raises(UserError, match="a bitaxe-hex has 6 chips: leave --chips out"):
        emulation("bitaxe-hex", EmulationOptions(chips=2))
    for name, options, complaint in (
        ("erupter", EmulationOptions(silicon=1.1), "--silicon is of BM13xx chips, and erupter has none"),
        ("gekko-newpac", EmulationOptions(silicon=1.1), "--silicon is of BM13xx chips"),
        ("erupter", EmulationOptions(chips=5), "a board called erupter is emulated as a whole: leave --chips out"),
        ("bm1370", EmulationOptions(speed=20.0), "--speed is of a board with sensors, such as bitaxe-gamma"),
        ("avalon", EmulationOptions(framing=ReplyFraming.V1), "--framing is of a control port, and avalon has none"),
    ):
        with pytest.raises(UserError, match=complaint):
            emulation(name, options)
    compac = emulation("gekko-compacf", EmulationOptions(silicon=1.1)).board.chain
    assert isinstance(compac, EmulatedChain)
    assert compac.chips[0].silicon == 1.1
    assert emulation("gekko-r606", EmulationOptions()).advice == "--board gekko-r606"
    link = Path("/tmp/never-used")
    assert emulation("bm1366", EmulationOptions(chips=3, link=link)).title == "3 × bm1366"
