"""TPS546D24 buck regulator, the core supply of newer Bitaxe boards, over PMBus (REFERENCE.md §8).

Everything is written at each start and nothing is stored: STORE_USER_ALL is said to be able to brick the part.
"""

from __future__ import annotations

from dataclasses import dataclass

from miner.asic.boards import pmbus
from miner.asic.boards.i2c import Conversation, I2cError, Transfer
from miner.asic.boards.pmbus import Command

ADDRESS = 0x24
#: IC_DEVICE_ID of the parts that boards carry (§8): D24A, D24S, B24A.
DEVICE_IDS = (b"\x54\x49\x54\x6d\x24\x41", b"\x54\x49\x54\x6d\x24\x62", b"\x54\x49\x54\x6b\x24\x41")
_ON_OFF_CONFIG = 0x1F  #: output follows OPERATION and the enable pin, off without delay (§8)
_RELATIVE = {  #: limits as fractions of VOUT_COMMAND (§8)
    Command.VOUT_OV_FAULT_LIMIT: 1.25,
    Command.VOUT_OV_WARN_LIMIT: 1.16,
    Command.VOUT_MARGIN_HIGH: 1.10,
    Command.VOUT_MARGIN_LOW: 0.90,
    Command.VOUT_UV_WARN_LIMIT: 0.90,
    Command.VOUT_UV_FAULT_LIMIT: 0.75,
}
_OFF_LOOKS = 50  #: at the status, a millisecond each, before an output is said to stay on
_OFF_AND_STAY_OFF = 0xC0  #: response to over-current (§8)
_VIN_RESPONSE = 0xB7
_OT_RESPONSE = 0xFF
_TON_RESPONSE = 0x3B


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulatorSettings:
    """What a board wants of its regulator; volts, amperes, degrees. `volts_min`, `volts_max`: what it may ever put out,
    all domains together; `vin_warn`: supply below which it warns, None to leave that alone. The regulator enforces
    these by itself, with or without a host."""

    volts_min: float
    volts_max: float
    vin_on: float = 4.8
    vin_off: float = 4.5
    vin_over: float = 6.5
    vin_warn: float | None = None
    scale_loop: float = 0.25
    amps_warn: float = 25.0
    amps_fault: float = 30.0
    warn_c: float = 105.0
    fault_c: float = 145.0
    switching_khz: float = 650.0


@dataclass(frozen=True, slots=True)
class RegulatorReading:
    """Telemetry. `faults`: why the output must go off, in words; `warnings`: what else the status registers say."""

    volts_in: float
    volts: float
    amps: float
    temperature_c: float
    output_on: bool
    faults: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def watts(self) -> float:
        """Power of the output."""
        return self.volts * self.amps


class Tps546:
    """One regulator; every method is a Conversation."""

    def __init__(self, settings: RegulatorSettings, address: int = ADDRESS) -> None:
        self.settings = settings
        self.address = address
        self._exponent = -9  # until VOUT_MODE has been read

    def identify(self) -> Conversation[None]:
        """I2cError unless it is the part that it should be."""
        block = yield self._read(Command.IC_DEVICE_ID, 7)
        if block[:1] != b"\x06" or bytes(block[1:]) not in DEVICE_IDS:
            raise I2cError(f"the regulator at {self.address:02X} calls itself {block.hex()}, which is no TPS546")

    def disable(self) -> Conversation[bool]:
        """Output off; whether it says so afterwards, of what it was told and of the output itself."""
        yield self._byte(Command.OPERATION, pmbus.OPERATION_OFF)
        operation = yield self._read(Command.OPERATION, 1)
        if operation[0] != pmbus.OPERATION_OFF:
            return False
        for _ in range(_OFF_LOOKS):  # a part that has not been configured may take its time
            status = yield self._read(Command.STATUS_WORD, 2)
            if int.from_bytes(status, "little") & pmbus.StatusWord.OFF:
                return True
        return False

    def configure(self) -> Conversation[None]:
        """Write every setting; the output is off afterwards. I2cError where it does not go off."""
        yield self._byte(Command.OPERATION, pmbus.OPERATION_OFF)
        yield self._byte(Command.ON_OFF_CONFIG, _ON_OFF_CONFIG)  # from the factory the part may listen to its pin alone
        off = yield from self.disable()
        if not off:
            raise I2cError("the regulator does not switch off")
        mode = yield self._read(Command.VOUT_MODE, 1)
        try:
            self._exponent = pmbus.vout_exponent(mode[0])
        except ValueError as error:
            raise I2cError(f"the regulator at {self.address:02X}: {error}") from None
        wanted = self.settings
        yield self._byte(Command.PHASE, 0x00)
        yield self._linear(Command.FREQUENCY_SWITCH, wanted.switching_khz)
        yield self._linear(Command.VIN_ON, wanted.vin_on)
        yield self._linear(Command.VIN_OFF, wanted.vin_off)
        if wanted.vin_warn is not None:
            yield self._linear(Command.VIN_UV_WARN_LIMIT, wanted.vin_warn)
        yield self._linear(Command.VIN_OV_FAULT_LIMIT, wanted.vin_over)
        yield self._byte(Command.VIN_OV_FAULT_RESPONSE, _VIN_RESPONSE)
        yield self._linear(Command.VOUT_SCALE_LOOP, wanted.scale_loop)
        yield self._volts(Command.VOUT_MIN, wanted.volts_min)
        yield self._volts(Command.VOUT_COMMAND, wanted.volts_min)
        yield self._volts(Command.VOUT_MAX, wanted.volts_max)
        for command, fraction in _RELATIVE.items():
            yield self._volts(command, fraction)
        yield self._linear(Command.IOUT_OC_WARN_LIMIT, wanted.amps_warn)
        yield self._linear(Command.IOUT_OC_FAULT_LIMIT, wanted.amps_fault)
        yield self._byte(Command.IOUT_OC_FAULT_RESPONSE, _OFF_AND_STAY_OFF)
        yield self._linear(Command.OT_WARN_LIMIT, wanted.warn_c)
        yield self._linear(Command.OT_FAULT_LIMIT, wanted.fault_c)
        yield self._byte(Command.OT_FAULT_RESPONSE, _OT_RESPONSE)
        for command, value in ((Command.TON_DELAY, 0.0), (Command.TON_RISE, 3.0), (Command.TON_MAX_FAULT_LIMIT, 0.0)):
            yield self._linear(command, value)
        yield self._byte(Command.TON_MAX_FAULT_RESPONSE, _TON_RESPONSE)
        yield self._linear(Command.TOFF_DELAY, 0.0)
        yield self._linear(Command.TOFF_FALL, 0.0)
        yield self._word(Command.PIN_DETECT_OVERRIDE, 0xFFFF)

    def set_voltage(self, volts: float) -> Conversation[float]:
        """Volts, held within the settings' limits; what was set."""
        held = min(max(volts, self.settings.volts_min), self.settings.volts_max)
        yield self._volts(Command.VOUT_COMMAND, held)
        return held

    def enable(self) -> Conversation[None]:
        """Forget old faults, output on. I2cError when it does not come on."""
        yield Transfer(self.address, bytes((Command.CLEAR_FAULTS,)))
        yield self._byte(Command.OPERATION, pmbus.OPERATION_ON)
        operation = yield self._read(Command.OPERATION, 1)
        if operation[0] != pmbus.OPERATION_ON:
            raise I2cError(f"the regulator does not switch on (OPERATION reads {operation[0]:02X})")
        status = yield self._read(Command.STATUS_WORD, 2)
        if int.from_bytes(status, "little") & pmbus.StatusWord.OFF:
            reading = yield from self.read()
            raise I2cError("the regulator stays off: " + (", ".join(reading.faults) or "it does not say why"))

    def read(self) -> Conversation[RegulatorReading]:
        """Everything it measures and complains of."""
        values = {}
        for command in (Command.READ_VIN, Command.READ_VOUT, Command.READ_IOUT, Command.READ_TEMPERATURE_1):
            data = yield self._read(command, 2)
            values[command] = int.from_bytes(data, "little")
        data = yield self._read(Command.STATUS_WORD, 2)
        word = int.from_bytes(data, "little")
        faults = [text for bit, text in pmbus.WORD_FAULTS if word & bit]
        warnings: list[str] = []
        for bit, register in pmbus.DETAILS:
            if word & bit:
                detail = yield self._read(register, 1)
                for mask, text, critical in pmbus.STATUS_BITS[register]:
                    if detail[0] & mask:
                        (faults if critical else warnings).append(text)
        return RegulatorReading(
            volts_in=pmbus.from_linear11(values[Command.READ_VIN]),
            volts=pmbus.from_ulinear16(values[Command.READ_VOUT], self._exponent),
            amps=pmbus.from_linear11(values[Command.READ_IOUT]),
            temperature_c=pmbus.from_linear11(values[Command.READ_TEMPERATURE_1]),
            output_on=not word & pmbus.StatusWord.OFF,
            faults=tuple(dict.fromkeys(faults)),
            warnings=tuple(warnings),
        )

    def _read(self, command: int, count: int) -> Transfer:
        return Transfer(self.address, bytes((command,)), count)

    def _byte(self, command: int, value: int) -> Transfer:
        return Transfer(self.address, bytes((command, value)))

    def _word(self, command: int, value: int) -> Transfer:
        return Transfer(self.address, bytes((command,)) + value.to_bytes(2, "little"))

    def _linear(self, command: int, value: float) -> Transfer:
        return self._word(command, pmbus.linear11(value))

    def _volts(self, command: int, value: float) -> Transfer:
        return self._word(command, pmbus.ulinear16(value, self._exponent))
