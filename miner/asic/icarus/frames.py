"""Frames of Icarus-type boards (REFERENCE.md §2, §3, §4, §5, §7, §8): bytes in, bytes out, nothing remembered."""

from __future__ import annotations

from dataclasses import dataclass

from chain.primitives.errors import UserError
from miner.asic.crc import crc5_of_response
from miner.kernels.midstate import midstate

WORK_BYTES = 64
NONCE_BYTES = 4
ID_MASK = 0x1F
ID_COUNT = 31  #: ids 0 to 30 (§2)

U1_MHZ = (100.0, 500.0)  #: lowest and highest clock of the table in §7
U3_MHZ = (100.0, 250.0)
U3_MILLIVOLTS = (725, 850)


@dataclass(frozen=True, slots=True)
class KnownWork:
    """A frame whose answers are known: `nonces` as they stand in the header, in the order of the search position."""

    frame: bytes
    nonces: tuple[bytes, ...]


GOLDEN = KnownWork(  #: §4
    bytes.fromhex("4679ba4ec99876bf4bfe086082b400254df6c356451471139a3afa71e48f544a")
    + bytes(20)
    + bytes.fromhex("87320b1a1426674f2fa722ce"),
    (bytes.fromhex("000187a2"),),
)
FAR = KnownWork(  #: §4, the second work
    bytes.fromhex("46a9a88fc83e6899b41116030b4c5f488f5deb70bedcec316adbd0cdacd5e4b1")
    + bytes(20)
    + bytes.fromhex("3aae0517b5257064d63778eb"),
    (bytes.fromhex("d19e020a"),),
)
DIVISION = KnownWork(  #: §5
    bytes.fromhex("2e4c8f91fd595d2d7ea20aaacb64a2a04382860277cf26b6a1ee04c56a5b504a")
    + bytes(20)
    + bytes.fromhex("6461011ac906a951fb9b3c73"),
    tuple(bytes.fromhex(nonce) for nonce in ("04c0fdb4", "417c0f36", "60c994d5", "82540e46")),
)
_ENGINES = {"04c0fdb4": 1, "82540e46": 2, "417c0f36": 4, "60c994d5": 8}
USUAL_ENGINES = 2


def engines_of(reply: bytes | None) -> int:
    """How many engines share the range, by the first answer to DIVISION; None: there was none (§5)."""
    return _ENGINES.get(reply.hex(), USUAL_ENGINES) if reply is not None else USUAL_ENGINES


def work_frame(header: bytes, work_id: int = 0) -> bytes:
    """A header (80 bytes, its nonce ignored) as work (§2)."""
    state = midstate(header[:64])
    words = b"".join(state[at : at + 4] for at in range(28, -4, -4))
    return words + bytes(19) + bytes((work_id,)) + header[72:76] + header[68:72] + header[64:68]


def is_clock_command(frame: bytes) -> bool:
    """Whether a Cairnsmore board would take the frame for a command (§2)."""
    return frame[:32] == bytes(32) and frame[56:60] == b"\xff" * 4


def position_of(nonce: bytes) -> int:
    """The search position that a nonce, as on the wire, stands for (§3)."""
    return int.from_bytes(nonce, "big")


def hashes_at(nonce: bytes, engines: int) -> int:
    """Hashes that a board of so many engines has done when it reports this nonce (§3)."""
    part = (1 << 32) // engines
    return (position_of(nonce) % part + 1) * engines


def u1_register(mhz: float) -> int:
    """The clock register of an AntMiner U1 or U2 nearest to a frequency, never above it (§7). UserError outside of
    what is known to work."""
    _check("AntMiner U1 and U2 run", mhz, U1_MHZ, "MHz")
    best, best_mhz = 0, 0.0
    for od in range(4):
        for n in range(16):
            for m in range(64):
                at = 25 * (m + 1) / ((n + 1) << od)
                if best_mhz < at <= mhz:
                    best, best_mhz = (500 <= at * (1 << od) <= 1000) << 14 | m << 7 | n << 2 | od, at
    return best


def u3_register(mhz: float) -> int:
    """The same of a U3 (§8): output divider 8 below 200 MHz and 4 above, the input divider 2 only where 1 misses."""
    _check("AntMiner U3 run", mhz, U3_MHZ, "MHz")
    od = 3 if mhz < 200 else 2
    best, best_mhz = 0, 0.0
    for n in range(2):
        for m in range(64):
            at = 50 * (m + 1) / ((n + 1) << od)
            if best_mhz < at <= mhz:
                best, best_mhz = m << 7 | n << 2 | od, at
    return best


def register_mhz(register: int, reference_mhz: float) -> float:
    """The clock that a register means; reference 25 MHz for U1 and U2, 50 for U3."""
    return reference_mhz * ((register >> 7 & 0x3F) + 1) / (((register >> 2 & 0x1F) + 1) << (register & 3))


def clock_command(register: int) -> bytes:
    """Sets the clock register (§7)."""
    body = bytes((0x82, register >> 8, register & 0xFF))
    return body + bytes((_crc5_27(body),))


def voltage_command(millivolts: int) -> bytes:
    """Sets a U3's core voltage (§8). UserError outside of 725 to 850 mV."""
    _check("AntMiner U3 take", millivolts, U3_MILLIVOLTS, "mV")
    hundreds, rest = divmod(millivolts, 100)
    body = bytes((0xAA, 0xB0 | hundreds, int(str(rest).zfill(2), 16)))
    return body + bytes((0xC0 | _crc5_27(body),))


def _crc5_27(body: bytes) -> int:
    """CRC5 over three bytes and three zero bits."""
    return crc5_of_response(body, 0)


def _check(who: str, value: float, limits: tuple[float, float], unit: str) -> None:
    low, high = limits
    if not low <= value <= high:
        raise UserError(f"{who} at {low:g} to {high:g} {unit}, not at {value:g}")
