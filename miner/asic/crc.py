"""The two checksums of the BM13xx serial protocol, shared by drivers and emulators.

Neither is documented by the chip's maker; parameters are those that reproduce every captured frame
(bm13xx/REFERENCE.md §3).
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable

_POLYNOMIAL = 0x05  #: x^5 + x^2 + 1
CRC5_START = 0x1F
CRC16_START = 0xFFFF


def _shift(register: int, bits: int) -> int:
    """Clock `bits` zero input bits through a register whose five bits stand at the top of a byte."""
    for _ in range(bits):
        register = (register << 1 ^ _POLYNOMIAL << 3 if register & 0x80 else register << 1) & 0xFF
    return register


_TABLE = bytes(_shift(byte, 8) >> 3 for byte in range(256))
#: Two bytes in one step: CRC5_PAIRS[(first | second << 8) ^ crc << 3] is the next crc. All that the first may lead to,
#: taken on by each second in turn.
CRC5_PAIRS = b"".join(
    _TABLE.translate(bytes(_TABLE[crc << 3 ^ second] for crc in range(32)).ljust(256)) for second in range(256)
)
_TABLE_3_BITS = bytes(_shift(kind << 5, 3) >> 3 for kind in range(8))


def crc5(data: Iterable[int], crc: int = CRC5_START) -> int:
    """CRC5 (poly 0x05, start 0x1F, most significant bit first) over whole bytes.

    Over everything behind a response's preamble, last byte included, it is 0 when the frame is intact.
    """
    table = _TABLE
    for byte in data:
        crc = table[crc << 3 ^ byte]
    return crc


def crc5_of_response(body: Iterable[int], kind: int) -> int:
    """The five bits that close a response: over `body` (all between preamble and last byte) and the 3 type bits."""
    crc = crc5(body)
    return _TABLE_3_BITS[crc >> 2 ^ kind] ^ (crc << 3 & 0x1F)


def crc16(data: bytes | bytearray | memoryview) -> int:
    """CRC-16/CCITT-FALSE (poly 0x1021, start 0xFFFF, not reflected), which closes job frames, high byte first."""
    return binascii.crc_hqx(data, CRC16_START)
