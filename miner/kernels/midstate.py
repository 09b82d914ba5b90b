"""SHA-256's state after the first block of a header, which many boards are told instead of the header.

hashlib does not give it away; the OpenSSL under it does, where it can be reached: some twenty times faster than here,
which a chain that takes four for every few milliseconds of its work needs.
"""

from __future__ import annotations

import _hashlib
import ctypes
import struct
from collections.abc import Callable

from miner.kernels.sha256_constants import IV, MASK, K

_CONTEXT_BYTES = 128  #: OpenSSL's SHA256_CTX has 112: the state first, in words of the machine's order
_START = struct.pack("=8I", *IV)
_WORDS = struct.Struct("=8I")
_STATE = struct.Struct(">8I")


def portable_midstate(block: bytes) -> bytes:
    """The same as `midstate`, in Python alone: a seventh of a millisecond."""
    words = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for t in range(16, 64):
        s0, s1 = words[t - 15], words[t - 2]
        s0 = (s0 >> 7 | s0 << 25) ^ (s0 >> 18 | s0 << 14) ^ s0 >> 3
        s1 = (s1 >> 17 | s1 << 15) ^ (s1 >> 19 | s1 << 13) ^ s1 >> 10
        words.append((words[t - 16] + (s0 & MASK) + words[t - 7] + (s1 & MASK)) & MASK)
    a, b, c, d, e, f, g, h = IV
    for word, constant in zip(words, K, strict=True):
        s1 = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7)
        s0 = (a >> 2 | a << 30) ^ (a >> 13 | a << 19) ^ (a >> 22 | a << 10)
        t1 = h + (s1 & MASK) + (e & f ^ ~e & g) + constant + word
        t2 = (s0 & MASK) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = t1 + t2 & MASK, a, b, c, d + t1 & MASK, e, f, g
    return b"".join(
        (before + after & MASK).to_bytes(4, "big") for before, after in zip(IV, (a, b, c, d, e, f, g, h), strict=True)
    )


def openssl_midstate() -> Callable[[bytes], bytes] | None:
    """The same by OpenSSL's compression function; None where it is not within reach or does not agree."""
    try:
        library = ctypes.PyDLL(getattr(_hashlib, "__file__", None))  # as long as a call that lets the interpreter go
        transform = library.SHA256_Transform
    except (OSError, AttributeError):
        return None
    transform.argtypes, transform.restype = [ctypes.c_char_p, ctypes.c_char_p], None

    def midstate(block: bytes) -> bytes:
        if len(block) != 64:
            raise ValueError(f"a block has 64 bytes, not {len(block)}")
        context = ctypes.create_string_buffer(_START, _CONTEXT_BYTES)
        transform(context, block)
        return _STATE.pack(*_WORDS.unpack_from(context))

    probe = bytes(range(64))
    return midstate if midstate(probe) == portable_midstate(probe) else None


midstate: Callable[[bytes], bytes] = openssl_midstate() or portable_midstate
"""midstate(block of 64 bytes) -> words a..h after it, big-endian."""
