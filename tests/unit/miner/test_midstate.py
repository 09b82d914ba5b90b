from __future__ import annotations

import hashlib
import random

import pytest

from miner.kernels.midstate import midstate, openssl_midstate, portable_midstate


def test_both_ways_agree(rng: random.Random) -> None:
    by_openssl = openssl_midstate()
    for block in (bytes(64), b"\xff" * 64, *(rng.randbytes(64) for _ in range(50))):
        assert midstate(block) == portable_midstate(block)
        assert by_openssl is None or by_openssl(block) == portable_midstate(block)


def test_a_padded_message_ends_in_its_digest() -> None:
    """The state after a message's only block is its SHA-256."""
    for message in (b"", b"abc", b"x" * 55):
        block = message + b"\x80" + bytes(55 - len(message)) + (8 * len(message)).to_bytes(8, "big")
        assert portable_midstate(block) == midstate(block) == hashlib.sha256(message).digest()


def test_only_whole_blocks() -> None:
    by_openssl = openssl_midstate()
    if by_openssl is not None:
        with pytest.raises(ValueError, match="63"):
            by_openssl(bytes(63))
