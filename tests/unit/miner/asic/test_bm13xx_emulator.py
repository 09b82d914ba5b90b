"""The emulated chips themselves, spoken to in raw frames from REFERENCE.md rather than through the driver."""

from __future__ import annotations

import random

import pytest

from miner.asic.bm13xx.frames import read_register
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.registers import Register
from miner.asic.emulator.chain import EmulatedChain
from miner.asic.emulator.chip import AMBIENT_C, EmulatedChip
from miner.asic.emulator.faults import Faults


def ask(chain: EmulatedChain, *frames: str, now: float = 0.0) -> str:
    """Send frames, wait, and give what came back as hex."""
    for frame in frames:
        chain.receive_data(bytes.fromhex(frame), now)
    return chain.bytes_to_send(now + 1.0).hex(" ").upper()


CHIP_ID = "55 AA 52 05 00 00 0A"
ROLL = "55 AA 51 09 00 A4 90 00 FF FF 1C"
IDENTITIES = {
    "bm1397": ("AA 55 13 97 18 00 00 00 06", None),
    "bm1362": ("AA 55 13 62 03 00 00 00 0D", "AA 55 13 62 03 00 00 00 00 00 1E"),
    "bm1366": ("AA 55 13 66 00 00 00 00 0C", "AA 55 13 66 00 00 00 00 00 00 05"),
    "bm1368": ("AA 55 13 68 00 00 00 00 14", "AA 55 13 68 00 00 00 00 00 00 0F"),
    "bm1370": ("AA 55 13 70 00 00 00 00 06", "AA 55 13 70 00 00 00 00 00 00 10"),
    "bm1373": ("AA 55 13 73 00 00 00 00 0D", "AA 55 13 73 00 00 00 00 00 00 1E"),
}


@pytest.mark.parametrize("model", IDENTITIES)
def test_identity_before_and_after_version_rolling(model: str) -> None:
    chain = EmulatedChain(MODELS[model])
    short, long = IDENTITIES[model]
    assert ask(chain, CHIP_ID) == short
    if long is not None:
        assert ask(chain, ROLL, CHIP_ID, now=1.0) == long


def test_addresses_go_to_the_first_chip_that_waits() -> None:
    chain = EmulatedChain(MODELS["bm1370"], 2)
    answer = ask(chain, ROLL, "55 AA 53 05 00 00 03", "55 AA 40 05 00 00 1C", "55 AA 40 05 80 00 10", CHIP_ID)
    assert answer == "AA 55 13 70 00 00 00 00 00 00 10 AA 55 13 70 00 80 80 00 00 00 06"
    surplus = ask(chain, "55 AA 40 05 2A 00 19", CHIP_ID, now=2.0)
    assert surplus == answer, "a surplus address is ignored"


def test_registers_straight_after_reset() -> None:
    """The captured MISC_CONTROL of a BM1370, and silence on writes."""
    chain = EmulatedChain(MODELS["bm1370"])
    assert ask(chain, read_register(0x18).hex()) == "AA 55 00 00 C1 00 00 18 02"
    assert ask(chain, "55 AA 51 09 00 14 00 00 00 FF 08", now=2.0) == ""


def test_damaged_frames_are_met_with_silence_and_cost_nothing_else() -> None:
    chain = EmulatedChain(MODELS["bm1366"])
    assert ask(chain, "55 AA 52 05 00 00 0B", "55", CHIP_ID) == IDENTITIES["bm1366"][0]
    assert chain.bad_host_frames == 1


def test_a_malformed_frame_that_a_known_host_sends_is_survived() -> None:
    """cgminer's BM1370 start-up has a chain-inactive frame with a register write's data behind it."""
    chain = EmulatedChain(MODELS["bm1370"])
    assert ask(chain, "55 AA 53 05 00 18 F0 00 C1 00 02", CHIP_ID) == IDENTITIES["bm1370"][0]


def test_baud_follows_the_dividers() -> None:
    chain = EmulatedChain(MODELS["bm1370"])
    assert chain.hears(115_200)
    assert not chain.hears(1_000_000)
    ask(chain, "55 AA 51 09 00 28 11 30 02 00 03")
    assert chain.hears(1_000_000)
    assert not chain.hears(115_200)
    ask(chain, "55 AA 51 09 00 28 11 30 00 00 1E")
    assert chain.actual_baud == 3_125_000
    chain.reset()
    assert chain.hears(115_200)
    old = EmulatedChain(MODELS["bm1397"])
    assert round(old.actual_baud) == 115_741
    ask(old, "55 AA 51 09 00 18 00 00 61 31 1C")
    assert old.actual_baud == 1_562_500


def test_replies_take_the_time_the_line_takes() -> None:
    chain = EmulatedChain(MODELS["bm1370"], 100)
    chain.receive_data(bytes.fromhex(CHIP_ID), 0.0)
    frame_s = 9 * 10 / chain.actual_baud
    assert chain.bytes_to_send(frame_s * 0.9) == b""
    assert len(chain.bytes_to_send(frame_s * 50.5)) == 50 * 9
    assert len(chain.bytes_to_send(frame_s * 100.5)) == 50 * 9


def test_temperature_and_voltage_follow_the_clock() -> None:
    chip = EmulatedChip(MODELS["bm1368"], 0)
    for value in (0x00020000, 0x01020000, 0x10020000):
        chip.write(Register.TEMPERATURE_CONTROL, value)

    def settled(pll0: int) -> tuple[float, float]:
        chip.write(Register.PLL0, pll0)
        for _ in range(100):
            chip.warm(1.0, working=True)
        return chip.temperature_c, chip.core_volts

    cool, hot = settled(0x40A00240), settled(0x40B80230)
    assert AMBIENT_C < cool[0] < hot[0] < 75
    assert cool[1] > hot[1]
    code = chip.read(Register.TEMPERATURE) & 0xFFFF
    assert code * 0.171342 - 299.5144 == pytest.approx(hot[0], abs=0.1)
    chip.write(Register.ADC_INPUT, 0x230C030D)
    chip.registers.pop(Register.ADC_RESULT, None)
    chip.write(Register.ADC_INPUT, 0x210C030D)
    chip.write(Register.ADC_INPUT, 0x232C030D)
    result = chip.read(Register.ADC_RESULT)
    assert result >> 31
    assert ((result & 0x7FFF) / 16384 - 1.0) * 0.6 == pytest.approx(hot[1] / 4, abs=0.001)


def test_nothing_is_reported_while_reports_are_off_or_nothing_is_swept() -> None:
    chip = EmulatedChip(MODELS["bm1370"], 0)
    assert not chip.hashing
    chip.write(Register.HASH_COUNTING_NUMBER, 0x1EB5)
    assert chip.hashing is False
    chip.write(Register.MISC_CONTROL, 0xF000C100)
    assert chip.hashing
    chip.write(Register.HASH_COUNTING_NUMBER, 0)
    assert not chip.hashing


def test_faults_do_what_they_say(rng: random.Random) -> None:
    frame = bytes(range(11))
    faults = Faults(rng, drop_next=1)
    assert len(faults.damage_frame(frame)) == 10
    assert faults.damage_frame(frame) == frame
    faults.flip_next = 1
    assert sum((a ^ b).bit_count() for a, b in zip(faults.damage_frame(frame), frame, strict=True)) == 1
    faults.duplicate_next = 1
    assert len(faults.damage_frame(frame)) == 12
    faults.drop_rate = 0.5
    lost = 11_000 - sum(len(faults.damage_frame(frame)) for _ in range(1000))
    assert 5000 < lost < 6000
    faults.clear()
    assert faults.damage_frame(frame) == frame


def test_a_malformed_speed_change_is_not_half_obeyed() -> None:
    chain = EmulatedChain(MODELS["bm1370"])
    ask(chain, "55 AA 51 09 00 28 11 30 02 00 04")
    assert chain.hears(115_200)
