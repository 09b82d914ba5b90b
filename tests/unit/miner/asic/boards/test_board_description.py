"""Boards as data, and as users write them down in TOML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chain.primitives.errors import UserError
from miner.asic.bm13xx.driver import DriverOptions
from miner.asic.bm13xx.models import MODELS
from miner.asic.boards.bare import BarePower
from miner.asic.boards.bitaxe import BitaxePower
from miner.asic.boards.catalog import BOARDS, board_named
from miner.asic.boards.description import load_board, parse_board
from miner.asic.boards.opening import board_profile, make_board
from miner.asic.boards.profile import BoardProfile, Control, check_profile
from miner.asic.device import asic_devices
from miner.asic.emulator.bitaxe import KINDS
from miner.asic.transport import PortInfo, control_port_of, control_ports, identify

DOCS = Path(__file__).resolve().parents[5] / "docs/asic.md"
BARE = """
name = "shelf 3"
[chips]
model = "bm1370"
count = 65
per_domain = 5
[port]
reset_line = "rts"
fast_baud = false
[target]
frequency_mhz = 400
[limits]
frequency_mhz = 500
"""


def parse(text: str) -> BoardProfile:
    return parse_board(text, "board.toml", "board")


def test_a_bare_board() -> None:
    board = parse(BARE)
    assert (board.name, board.model, board.chips, board.chips_per_domain) == ("shelf 3", MODELS["bm1370"], 65, 5)
    assert (board.reset_line, board.fast_baud, board.control) == ("rts", False, Control.NONE)
    assert (board.clock_mhz(), board.clock_mhz(600.0), board.clock_mhz(1.0)) == (400.0, 500.0, 50.0)


def test_a_known_board_with_changes() -> None:
    board = parse('base = "bitaxe-gamma"\n[target]\nvoltage_mv = 1100\n[limits]\nchip_c = 70\nwatts = 20')
    assert (board.name, board.model, board.control) == ("board", MODELS["bm1370"], Control.BITAXE_RAW)
    assert board.chip_volts() == 1.1
    assert (board.limits.chip_cut_off_c, board.limits.chip_throttle_c, board.limits.watts) == (70, 65, 20)
    assert (board.chip_volts(5000), board.chip_volts(100)) == (1.25, 1.0), (
        "whatever is asked for, the chip's limits hold"
    )


def test_a_fan_aims_below_what_slows_the_chips_down() -> None:
    cool = parse('base = "bitaxe-gamma"\n[limits]\nchip_c = 50').limits
    assert (cool.chip_throttle_c, cool.chip_resume_c) == (45, 40)
    assert cool.fan_target_c == 33, "as far below as the usual target is below the usual throttling"
    assert parse('base = "bitaxe-gamma"\n[fan]\ntarget_c = 70').limits.fan_target_c == 70
    assert parse('base = "bitaxe-gamma"').limits.fan_target_c == 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "chips.model is missing"),
        ("[chips", "no TOML"),
        ('[chips]\nmodel = "bm9999"', r"chips.model: no chip is called 'bm9999'; known are"),
        ("[chips]\nmodel = 3", "chips.model must be a short text, not 3"),
        ('[chips]\nmodel = "bm1370"\ncount = 0', "chips.count must be a whole number, 1 to 126, not 0"),
        ('[chips]\nmodel = "bm1370"\ncount = true', "chips.count must be a whole number"),
        ('[chips]\nmodel = "bm1370"\ncuont = 2', "chips.cuont means nothing here; known are count, model, per_domain"),
        ('[chips]\nmodel = "bm1370"\n[prot]\n', "'prot' means nothing here; known are name, base, chips"),
        ('chips = "bm1370"', r"'chips' must be a table: \[chips\]"),
        ('[chips]\nmodel = "bm1370"\n[port]\nreset_line = "cts"', 'port.reset_line must be "dtr", "rts" or "none"'),
        ('[chips]\nmodel = "bm1370"\n[port]\nfast_baud = 1', "port.fast_baud must be true or false"),
        ('[chips]\nmodel = "bm1370"\n[target]\nfrequency_mhz = 900', "900 MHz is outside 50 to 625"),
        ('[chips]\nmodel = "bm1370"\n[target]\nfrequency_mhz = "fast"', "target.frequency_mhz must be a number"),
        ('[chips]\nmodel = "bm1370"\n[target]\nvoltage_mv = 1100', "target.voltage_mv needs a control channel"),
        ('[chips]\nmodel = "bm1370"\n[limits]\nwatts = 10', "limits.watts needs a control channel"),
        ('base = "bitaxe-gamma"\n[target]\nvoltage_mv = 1400', "1400 mV is outside 1000 to 1250 mV"),
        (
            'base = "bitaxe-gamma"\n[limits]\nvoltage_max_mv = 1100\nvoltage_min_mv = 1200',
            "no voltage is within the limits",
        ),
        (
            'base = "bitaxe-gamma"\n[limits]\nvoltage_max_mv = 1300',
            r"1300 mV is outside of what bm1370 takes \(1000 to",
        ),
        ('base = "bitaxe-gamma"\n[limits]\nvoltage_min_mv = 900', "900 mV is outside of what bm1370 takes"),
        ('base = "bitaxe-gamma"\n[limits]\nfrequency_mhz = 2000', r"2000 MHz is more than bm1370 takes \(625\)"),
        ('base = "bitaxe-gamma"\n[port]\nreset_line = "dtr"', "port.reset_line: a board is reset through its control"),
        ('base = "bitaxe-gamma"\n[fan]\ntarget_c = 72', r"fan.target_c must be below limits.throttle_c \(72\)"),
        ('base = "bitaxe-gamma"\n[limits]\nchip_c = nan', "limits.chip_c must be 40 to 100, not nan"),
        ('[chips]\nmodel = "bm1373"\ncount = 17', "17 × bm1373 are more than can be addressed"),
        ('[chips]\nmodel = "bm1370"\ncount = 5\nper_domain = 6', "6 chips share a supply, and there are 5"),
        ("a = " + "[" * 100_000, "no TOML"),
        ("a = " + "9" * 5000, "no TOML"),
        ('base = "bitaxe-gamma"\n[chips]\nmodel = "bm1366"', "a bitaxe-gamma has bm1370"),
        ('base = "bitaxe-gamma"\n[limits]\nthrottle_c = 85', "limits.throttle_c must be below limits.chip_c"),
        ('base = "bitaxe"', "base: there is no board 'bitaxe'; known are .*bitaxe-ultra"),
        ('base = "bitaxe-gamma"\nname = ""', "name must be a short text"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse(text)
    assert str(caught.value).startswith("board.toml: ")
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_board(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        load_board(tmp_path / "binary.toml")
    (tmp_path / "good.toml").write_text(BARE, encoding="utf-8-sig")
    assert board_profile(str(tmp_path / "good.toml")).name == "shelf 3"


def test_the_examples_in_the_documentation_are_right() -> None:
    examples = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.S)
    assert len(examples) >= 2
    for example in examples:
        parse(example)


def test_known_boards_keep_their_own_rules() -> None:
    for name, board in BOARDS.items():
        check_profile(board)
        assert board_named(name.upper()) is board
        if board.control is Control.BITAXE_RAW:
            assert board.regulator is not None
            assert board.limits.chip_throttle_c < board.limits.chip_cut_off_c
    assert {name for name in BOARDS if name.startswith("bitaxe")} == set(KINDS), "each has its emulation"
    with pytest.raises(UserError, match="or a TOML file"):
        board_named("antminer")


def test_ports_and_boards_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only with the --board"):
        make_board("/dev/a,/dev/b")
    with pytest.raises(UserError, match="has no control port"):
        make_board("/dev/a,/dev/b", parse(BARE))
    with pytest.raises(UserError, match="a bitaxe-gamma has bm1370"):
        make_board("/dev/a", board_named("bitaxe-gamma"), "bm1366")
    with pytest.raises(UserError, match="runs at 50 to 410 MHz, not at 500"):
        make_board("/dev/a", board_named("bitaxe-gamma-duo"), options=DriverOptions(frequency_mhz=500.0))
    with pytest.raises(UserError, match="3 ports, 2 boards"):
        asic_devices(["/dev/a", "/dev/b", "/dev/c"], boards=["bitaxe-gamma", "bitaxe-hex"])


def test_what_a_board_says_reaches_the_driver() -> None:
    board = make_board("/dev/a", parse(BARE), options=DriverOptions(zero_bits=8))
    options = board.driver.options
    assert isinstance(board.power, BarePower)
    assert (options.chips, options.chips_per_domain, options.fast_baud, options.frequency_mhz) == (65, 5, False, 400.0)
    assert options.zero_bits == 8
    devices = asic_devices(["/dev/a", "/dev/b"], boards=["bitaxe-gamma"])
    assert all(isinstance(device.board.power, BitaxePower) for device in devices)


def test_the_control_port_is_the_first_interface_of_the_same_device() -> None:
    ports = [
        PortInfo("/dev/ttyACM3", "", "11112222", None, 0),
        PortInfo("/dev/ttyACM1", "", "11112222", None, 2),
        PortInfo("/dev/ttyACM2", "", "33334444", None, 0),
        PortInfo("/dev/ttyUSB0", "", "55556666", None, 0),
        PortInfo("/dev/ttyUSB1", "", None, None, 1),
        PortInfo("/dev/ttyUSB2", "", "77778888", identify(0x10C4, 0xEA70, "GekkoScience Compac A1"), 0),
        PortInfo("/dev/ttyUSB3", "", "77778888", identify(0x10C4, 0xEA70, "GekkoScience Compac A1"), 1),
        PortInfo("/dev/ttyACM8", "", "99990000", identify(0xC0DE, 0xCAFE, "Bitaxe"), 0),
        PortInfo("/dev/ttyACM9", "", "99990000", identify(0xC0DE, 0xCAFE, "Bitaxe"), 2),
    ]
    found = {port.path: control_port_of(port.path, ports) for port in ports}
    assert found == {
        "/dev/ttyACM3": None,
        "/dev/ttyACM1": "/dev/ttyACM3",
        "/dev/ttyACM2": None,
        "/dev/ttyUSB0": None,
        "/dev/ttyUSB1": None,
        "/dev/ttyUSB2": None,
        "/dev/ttyUSB3": None,
        "/dev/ttyACM8": None,
        "/dev/ttyACM9": "/dev/ttyACM8",
    }
    assert control_ports(ports) == {"/dev/ttyACM3", "/dev/ttyACM8"}
