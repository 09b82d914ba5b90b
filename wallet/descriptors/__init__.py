"""Output descriptors: which scripts a wallet owns, as text (BIP380 to 386, BIP389)."""

from __future__ import annotations

from wallet.descriptors.checksum import DescriptorError, add_checksum, descriptor_checksum
from wallet.descriptors.key_expression import DerivedKey, KeyExpression, KeyOrigin
from wallet.descriptors.nodes import Descriptor, Expansion, SingleKey, taproot_output_key
from wallet.descriptors.parser import parse_descriptor, parse_multipath

__all__ = [
    "DerivedKey",
    "Descriptor",
    "DescriptorError",
    "Expansion",
    "KeyExpression",
    "KeyOrigin",
    "SingleKey",
    "add_checksum",
    "descriptor_checksum",
    "parse_descriptor",
    "parse_multipath",
    "taproot_output_key",
]
