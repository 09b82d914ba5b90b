"""The hash functions of the protocol. Digests are bytes as the function leaves them (internal order)."""

from __future__ import annotations

import functools
import hashlib
import hmac

_MASK64 = (1 << 64) - 1


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def sha256d(data: bytes) -> bytes:
    """SHA-256 of SHA-256, 32 bytes: txids, block hashes, merkle nodes."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def sha1(data: bytes) -> bytes:
    """SHA-1, 20 bytes; only for OP_SHA1."""
    return hashlib.sha1(data).digest()


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of SHA-256, 20 bytes: key and script hashes in addresses."""
    return ripemd160(hashlib.sha256(data).digest())


def hmac_sha512(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-512, 64 bytes (BIP32)."""
    return hmac.digest(key, data, "sha512")


@functools.lru_cache(maxsize=64)
def _tag_state(tag: str) -> hashlib._Hash:
    digest = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(digest + digest)


def tagged_hash(tag: str, data: bytes) -> bytes:
    """BIP340 tagged hash: SHA-256(SHA-256(tag) || SHA-256(tag) || data), 32 bytes. The tag's block is hashed once and
    copied."""
    state = _tag_state(tag).copy()
    state.update(data)
    return state.digest()


def siphash24(k0: int, k1: int, data: bytes) -> int:
    """SipHash-2-4 of `data` under a 128-bit key given as two u64; a u64. Short transaction ids (BIP152) and filters
    (BIP158)."""
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    tail = len(data) & ~7
    last = int.from_bytes(data[tail:], "little") | (len(data) & 0xFF) << 56
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, tail, 8)]
    for word, rounds in [(w, 2) for w in (*words, last)] + [(None, 4)]:
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0 = v0 + v1 & _MASK64
            v1 = (v1 << 13 | v1 >> 51) & _MASK64 ^ v0
            v0 = (v0 << 32 | v0 >> 32) & _MASK64
            v2 = v2 + v3 & _MASK64
            v3 = (v3 << 16 | v3 >> 48) & _MASK64 ^ v2
            v0 = v0 + v3 & _MASK64
            v3 = (v3 << 21 | v3 >> 43) & _MASK64 ^ v0
            v2 = v2 + v1 & _MASK64
            v1 = (v1 << 17 | v1 >> 47) & _MASK64 ^ v2
            v2 = (v2 << 32 | v2 >> 32) & _MASK64
        if word is not None:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3


def _openssl_has_ripemd160() -> bool:
    try:
        hashlib.new("ripemd160", b"")
    except ValueError:
        return False
    return True


if _openssl_has_ripemd160():
    _RIPEMD160 = hashlib.new("ripemd160")  # looking the algorithm up costs more than the hash: do it once and copy

    def ripemd160(data: bytes) -> bytes:
        """RIPEMD-160, 20 bytes."""
        state = _RIPEMD160.copy()
        state.update(data)
        return state.digest()

else:  # OpenSSL 3 without its legacy provider
    from chain.crypto.ripemd160 import ripemd160 as ripemd160
