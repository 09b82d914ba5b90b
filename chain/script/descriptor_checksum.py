"""BIP380: the eight-character checksum of an output descriptor."""

from __future__ import annotations

from chain.primitives.errors import DecodeError

#: what a descriptor may hold, in an order that gives each character a 5-bit symbol and a group of 32
INPUT_CHARSET = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
CHECKSUM_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_LENGTH = 8
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)
_VALUE = {c: i for i, c in enumerate(INPUT_CHARSET)}


def descriptor_checksum(body: str) -> str:
    """The checksum of a descriptor without its '#'. DecodeError for a character outside BIP380's set."""
    state, group, group_size = 1, 0, 0
    for c in body:
        value = _VALUE.get(c)
        if value is None:
            raise DecodeError(f"the descriptor contains '{c}', which no descriptor can")
        state = _step(state, value & 31)
        group, group_size = group * 3 + (value >> 5), group_size + 1
        if group_size == 3:
            state = _step(state, group)
            group = group_size = 0
    if group_size:
        state = _step(state, group)
    for _ in range(CHECKSUM_LENGTH):
        state = _step(state, 0)
    state ^= 1
    return "".join(CHECKSUM_CHARSET[state >> 5 * i & 31] for i in reversed(range(CHECKSUM_LENGTH)))


def _step(state: int, value: int) -> int:
    top = state >> 35
    state = (state & 0x7FFFFFFFF) << 5 ^ value
    for i, generator in enumerate(_GENERATOR):
        if top >> i & 1:
            state ^= generator
    return state
