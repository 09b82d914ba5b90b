"""SHA-256 and RIPEMD-160 inside compiled loops that hold no GIL, where hashlib cannot be called.

One message at a time: with x86's SHA extensions as fast as hashlib, else portable code, a third as fast on long
messages. On the two or three blocks of a signature hash or a key hash either costs less than a Python call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, typeof, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from chain.crypto.compiled import BYTES, INT, WORDS, compiled, copy


def _root_fractions(power: float, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The first 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3)."""
    primes: list[int] = []
    n = 2
    while len(primes) < count:
        if all(n % p for p in primes):
            primes.append(n)
        n += 1
    root = 2 if power == 0.5 else 3
    words = []
    for prime in primes:
        low, high = 0, prime << 32  # floor(prime ** (1 / root) * 2 ** 32) by bisection, in integers
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= prime << 32 * root else (low, middle)
        words.append(low & 0xFFFFFFFF)
    return np.array(words, dtype=np.uint32)


def initial_state() -> np.ndarray[Any, np.dtype[np.uint32]]:
    """SHA-256's eight words before the first block."""
    return _IV.copy()


_K = _root_fractions(1 / 3, 64)
_IV = _root_fractions(1 / 2, 8)

# RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996): word order, rotations and constants of the two lines
_RHO = [7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8]
_LEFT_ORDER = [list(range(16))]
_RIGHT_ORDER = [[(9 * i + 5) % 16 for i in range(16)]]
for _ in range(4):
    _LEFT_ORDER.append([_RHO[i] for i in _LEFT_ORDER[-1]])
    _RIGHT_ORDER.append([_RHO[i] for i in _RIGHT_ORDER[-1]])
_ROTATIONS = [  # by word, not by step
    [11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8],
    [12, 13, 11, 15, 6, 9, 9, 7, 12, 15, 11, 13, 7, 8, 7, 7],
    [13, 15, 14, 11, 7, 7, 6, 8, 13, 14, 13, 12, 5, 5, 6, 9],
    [14, 11, 12, 14, 8, 6, 5, 5, 15, 12, 15, 14, 9, 9, 8, 6],
    [15, 12, 13, 13, 9, 5, 8, 6, 14, 11, 12, 11, 8, 6, 5, 5],
]
_ORDER = np.array([_LEFT_ORDER, _RIGHT_ORDER], dtype=np.int64)
_ROTATE = np.array(
    [[[_ROTATIONS[j][word] for word in order[j]] for j in range(5)] for order in (_LEFT_ORDER, _RIGHT_ORDER)],
    dtype=np.uint32,
)
_ADD = np.array(
    [[0, 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xA953FD4E], [0x50A28BE6, 0x5C4DD124, 0x6D703EF3, 0x7A6D76E9, 0]],
    dtype=np.uint32,
)


@njit(nogil=True, cache=True, inline="always")
def _rotr(x: Any, n: Any) -> Any:
    return np.uint32(x >> np.uint32(n) | x << np.uint32(32 - n))


@compiled(WORDS, WORDS, BYTES, INT, INT)
def compress_portably(state: Any, schedule: Any, data: Any, at: Any, count: Any) -> None:
    """`count` blocks of 64 bytes from data[at] on into `state`. `schedule` (64 words) is scratch."""
    w = schedule
    for block in range(count):
        p = at + 64 * block
        for t in range(16):
            w[t] = np.uint32(
                np.uint32(data[p]) << np.uint32(24)
                | np.uint32(data[p + 1]) << np.uint32(16)
                | np.uint32(data[p + 2]) << np.uint32(8)
                | np.uint32(data[p + 3])
            )
            p += 4
        for t in range(16, 64):
            x, y = w[t - 15], w[t - 2]
            s0 = _rotr(x, 7) ^ _rotr(x, 18) ^ np.uint32(x >> np.uint32(3))
            s1 = _rotr(y, 17) ^ _rotr(y, 19) ^ np.uint32(y >> np.uint32(10))
            w[t] = np.uint32(w[t - 16] + s0 + w[t - 7] + s1)
        a, b, c, d, e, f, g, h = state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]
        for t in range(64):
            s1 = _rotr(e, 6) ^ _rotr(e, 11) ^ _rotr(e, 25)
            t1 = np.uint32(h + s1 + (g ^ (e & (f ^ g))) + _K[t] + w[t])
            s0 = _rotr(a, 2) ^ _rotr(a, 13) ^ _rotr(a, 22)
            t2 = np.uint32(s0 + ((a & b) | (c & (a | b))))
            h, g, f, e, d, c, b, a = g, f, e, np.uint32(d + t1), c, b, a, np.uint32(t1 + t2)
        state[0] = np.uint32(state[0] + a)
        state[1] = np.uint32(state[1] + b)
        state[2] = np.uint32(state[2] + c)
        state[3] = np.uint32(state[3] + d)
        state[4] = np.uint32(state[4] + e)
        state[5] = np.uint32(state[5] + f)
        state[6] = np.uint32(state[6] + g)
        state[7] = np.uint32(state[7] + h)


_QUAD = ir.VectorType(ir.IntType(32), 4)


def _quad(*words: int) -> ir.Constant:
    return ir.Constant(_QUAD, list(words))


def _emit_block(builder: Any, state: Any, block: Any) -> None:
    """One block with x86's SHA extensions: sha256rnds2 does two rounds on the words A, B, E, F and C, D, G, H (highest
    lane first), sha256msg1 and sha256msg2 make four words of the schedule (Intel SDM).
    """

    def call(name: str, *args: Any) -> Any:
        kind = ir.FunctionType(_QUAD, [_QUAD] * len(args))
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    def shuffle(a: Any, b: Any, lanes: tuple[int, ...]) -> Any:
        return builder.shuffle_vector(a, b, _quad(*lanes))

    def quad_at(pointer: Any, number: int) -> Any:
        return builder.gep(builder.bitcast(pointer, _QUAD.as_pointer()), [ir.Constant(ir.IntType(32), number)])

    abcd = builder.load(quad_at(state, 0), align=4)
    efgh = builder.load(quad_at(state, 1), align=4)
    start_abef, start_cdgh = shuffle(abcd, efgh, (5, 4, 1, 0)), shuffle(abcd, efgh, (7, 6, 3, 2))
    abef, cdgh = start_abef, start_cdgh
    words: list[Any] = []
    for group in range(16):
        if group < 4:
            words.append(call("llvm.bswap.v4i32", builder.load(quad_at(block, group), align=1)))
        else:
            seven_back = shuffle(words[-2], words[-1], (1, 2, 3, 4))
            partial = builder.add(call("llvm.x86.sha256msg1", words[-4], words[-3]), seven_back)
            words.append(call("llvm.x86.sha256msg2", partial, words[-1]))
        with_constants = builder.add(words[-1], _quad(*(int(k) for k in _K[4 * group : 4 * group + 4])))
        for lanes in ((0, 1, 2, 3), (2, 3, 2, 3)):
            two = shuffle(with_constants, with_constants, lanes)
            abef, cdgh = call("llvm.x86.sha256rnds2", cdgh, abef, two), abef
    abef, cdgh = builder.add(abef, start_abef), builder.add(cdgh, start_cdgh)
    builder.store(shuffle(abef, cdgh, (3, 2, 7, 6)), quad_at(state, 0), align=4)
    builder.store(shuffle(abef, cdgh, (1, 0, 5, 4)), quad_at(state, 1), align=4)


@intrinsic
def _compress_block(typingctx: Any, state: Any, block: Any) -> Any:
    """One block at an address into the eight words at another."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _emit_block(builder, *(builder.inttoptr(arg, ir.IntType(8).as_pointer()) for arg in args))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@compiled(WORDS, WORDS, BYTES, INT, INT)
def compress_with_extensions(state: Any, schedule: Any, data: Any, at: Any, count: Any) -> None:
    """As `compress_portably`, seven times as fast, on processors that have x86's SHA extensions."""
    state_at, block = np.uint64(state.ctypes.data), np.uint64(data.ctypes.data) + np.uint64(at)
    for _ in range(count):
        _compress_block(state_at, block)
        block += np.uint64(64)


def has_sha_extensions() -> bool:
    """Whether Numba compiles for a processor with x86's SHA extensions."""
    features = config.CPU_FEATURES if config.CPU_FEATURES is not None else get_host_cpu_features()
    return "+sha" in features.split(",")


_compress = compress_with_extensions if has_sha_extensions() else compress_portably


def new_hasher() -> Any:
    """Scratch for the functions below, one for each thread: state, schedule, and the last blocks of a message."""
    return np.zeros(8, dtype=np.uint32), np.zeros(64, dtype=np.uint32), np.zeros(128, dtype=np.uint8)


HASHER = typeof(new_hasher())


@compiled(HASHER)
def sha256_begin(hasher: Any) -> None:
    """The state before the first block."""
    for i in range(8):
        hasher[0][i] = _IV[i]


@compiled(HASHER, BYTES, INT, INT)
def sha256_blocks(hasher: Any, data: Any, start: Any, count: Any) -> None:
    """`count` whole blocks (64 bytes each) from data[start] on."""
    _compress(hasher[0], hasher[1], data, start, count)


@compiled(HASHER, BYTES, INT, INT, INT, BYTES, INT)
def sha256_end(hasher: Any, data: Any, start: Any, size: Any, before: Any, out: Any, out_at: Any) -> None:
    """The rest of a message, data[start:start+size], of which `before` bytes went into `sha256_blocks`; the digest goes
    to out[out_at:out_at+32]. `out` may be `data`.
    """
    state, schedule, tail = hasher
    whole = size >> 6
    if whole:  # a call with arrays costs as much as half a block
        _compress(state, schedule, data, start, whole)
    rest = size & 63
    last = 64 if rest < 56 else 128
    source = start + 64 * whole
    copy(data, source, rest, tail, 0)
    tail[rest] = np.uint8(0x80)
    for i in range(rest + 1, last - 8):
        tail[i] = np.uint8(0)
    bits = np.uint64(before + size) << np.uint64(3)
    for i in range(8):
        tail[last - 1 - i] = np.uint8(bits & np.uint64(0xFF))
        bits >>= np.uint64(8)
    _compress(state, schedule, tail, 0, last >> 6)
    for i in range(8):
        word = state[i]
        for j in range(4):
            out[out_at + 4 * i + j] = np.uint8(word >> np.uint32(24 - 8 * j) & np.uint32(0xFF))


@compiled(HASHER, BYTES, INT, INT, BYTES, INT)
def sha256_into(hasher: Any, data: Any, start: Any, size: Any, out: Any, out_at: Any) -> None:
    """SHA-256 of data[start:start+size] into out[out_at:out_at+32]; `out` may be `data`."""
    sha256_begin(hasher)
    sha256_end(hasher, data, start, size, 0, out, out_at)


@compiled(HASHER, BYTES, INT, INT, BYTES, INT)
def sha256d_into(hasher: Any, data: Any, start: Any, size: Any, out: Any, out_at: Any) -> None:
    """SHA-256 of SHA-256, as `sha256_into`."""
    sha256_into(hasher, data, start, size, out, out_at)
    sha256_into(hasher, out, out_at, 32, out, out_at)


@compiled(BYTES, BYTES, WORDS)
def ripemd160_of_32(data: Any, out: Any, w: Any) -> None:
    """RIPEMD-160 of data[:32] into out[:20]. `w` is u32 scratch of 16 words or more."""
    for i in range(8):
        w[i] = np.uint32(
            np.uint32(data[4 * i])
            | np.uint32(data[4 * i + 1]) << np.uint32(8)
            | np.uint32(data[4 * i + 2]) << np.uint32(16)
            | np.uint32(data[4 * i + 3]) << np.uint32(24)
        )
    for i in range(9, 16):
        w[i] = np.uint32(0)
    w[8] = np.uint32(0x80)
    w[14] = np.uint32(256)
    h0, h1, h2, h3, h4 = (
        np.uint32(0x67452301),
        np.uint32(0xEFCDAB89),
        np.uint32(0x98BADCFE),
        np.uint32(0x10325476),
        np.uint32(0xC3D2E1F0),
    )
    la, lb, lc, ld, le = h0, h1, h2, h3, h4
    for side in range(2):
        a, b, c, d, e = h0, h1, h2, h3, h4
        for j in range(5):
            function = j if side == 0 else 4 - j
            add = _ADD[side, j]
            for i in range(16):
                if function == 0:
                    f = b ^ c ^ d
                elif function == 1:
                    f = (b & c) | (~b & d)
                elif function == 2:
                    f = (b | ~c) ^ d
                elif function == 3:
                    f = (b & d) | (c & ~d)
                else:
                    f = b ^ (c | ~d)
                rotate = _ROTATE[side, j, i]
                t = np.uint32(a + np.uint32(f) + w[_ORDER[side, j, i]] + add)
                t = np.uint32(np.uint32(t << rotate | t >> np.uint32(np.uint32(32) - rotate)) + e)
                a, e, d, c, b = e, d, _rotr(c, 22), b, t
        if side == 0:
            la, lb, lc, ld, le = a, b, c, d, e
    words = (
        np.uint32(h1 + lc + d),
        np.uint32(h2 + ld + e),
        np.uint32(h3 + le + a),
        np.uint32(h4 + la + b),
        np.uint32(h0 + lb + c),
    )
    for i in range(5):
        for j in range(4):
            out[4 * i + j] = np.uint8(words[i] >> np.uint32(8 * j) & np.uint32(0xFF))


@compiled(HASHER, BYTES, INT, INT, BYTES)
def hash160_into(hasher: Any, data: Any, start: Any, size: Any, out: Any) -> None:
    """RIPEMD-160 of SHA-256 into out[:20]; out has 32 bytes."""
    sha256_into(hasher, data, start, size, out, 0)
    ripemd160_of_32(out, out, hasher[1])


@compiled(HASHER, BYTES, INT)
def _merkle_root(hasher: Any, level: Any, count: Any) -> Any:
    """Reduce `count` hashes in `level`, which has room for one more, to the first; whether two of a pair were equal."""
    mutated = False
    while count > 1:
        for i in range(count // 2):
            same = True
            for j in range(32):
                same = same and level[64 * i + j] == level[64 * i + 32 + j]
            mutated = mutated or same
        if count & 1:
            for j in range(32):
                level[32 * count + j] = level[32 * count - 32 + j]
            count += 1
        count //= 2
        for i in range(count):
            sha256d_into(hasher, level, 64 * i, 64, level, 32 * i)
    return mutated


def merkle_root(hashes: Sequence[bytes]) -> tuple[bytes, bool]:
    """See `chain.crypto.many_hashes.merkle_root`."""
    return reduce_merkle(np.frombuffer(bytearray().join((*hashes, bytes(32))), np.uint8), len(hashes))


def reduce_merkle(level: Any, count: int) -> tuple[bytes, bool]:
    """The same of `count` hashes in u8[32 * count + 32], which is overwritten."""
    mutated = _merkle_root(new_hasher(), level, count)
    return level[:32].tobytes(), bool(mutated)
