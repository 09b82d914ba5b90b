"""BIP380: the eight-character checksum of an output descriptor."""

from __future__ import annotations

from chain.primitives.errors import UserError

INPUT_CHARSET = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
CHECKSUM_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECKSUM_LENGTH = 8
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)
_VALUE = {c: i for i, c in enumerate(INPUT_CHARSET)}


class DescriptorError(UserError):
    """A descriptor that cannot be used. One line: what is wrong."""


def descriptor_checksum(body: str) -> str:
    """The checksum of a descriptor without its '#'. DescriptorError for a character outside BIP380's set."""
    state, group, group_size = 1, 0, 0
    for c in body:
        value = _VALUE.get(c)
        if value is None:
            raise DescriptorError(f"the descriptor contains '{c}', which no descriptor can")
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


def add_checksum(body: str) -> str:
    """`body#checksum`."""
    return f"{body}#{descriptor_checksum(body)}"


def strip_checksum(text: str, *, required: bool = False) -> str:
    """The descriptor without its checksum, after checking it. DescriptorError when wrong, or absent though
    `required`."""
    body, mark, given = text.partition("#")
    if not mark:
        if required:
            raise DescriptorError(f"the descriptor has no checksum: expected #{descriptor_checksum(body)} at its end")
        descriptor_checksum(body)
        return body
    if len(given) != CHECKSUM_LENGTH:
        raise DescriptorError(f"a descriptor's checksum has 8 characters, this one has {len(given)}")
    if descriptor_checksum(body) != given:
        raise DescriptorError(f"the descriptor's checksum #{given} does not match its text: it was changed or mistyped")
    return body


def _step(state: int, value: int) -> int:
    top = state >> 35
    state = (state & 0x7FFFFFFFF) << 5 ^ value
    for i, generator in enumerate(_GENERATOR):
        if top >> i & 1:
            state ^= generator
    return state
