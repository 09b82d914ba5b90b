"""The checksum at the end of a descriptor (BIP380): adding it, checking it."""

from __future__ import annotations

from chain.primitives.errors import DecodeError, UserError
from chain.script.descriptor_checksum import CHECKSUM_LENGTH
from chain.script.descriptor_checksum import descriptor_checksum as bip380_checksum


class DescriptorError(UserError):
    """A descriptor that cannot be used. One line: what is wrong."""


def descriptor_checksum(body: str) -> str:
    """The checksum of a descriptor without its '#'. DescriptorError for a character outside BIP380's set."""
    try:
        return bip380_checksum(body)
    except DecodeError as error:
        raise DescriptorError(str(error)) from None


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
