"""SHA-256d over LLVM vectors: one generator for every width, as straight-line IR inside Numba intrinsics.

A nonce search hashes headers whose 80 bytes differ only in the nonce (and, with version rolling, in the version). The
first 64 bytes are one SHA-256 block, hashed once per job on the host into a *midstate*; what is left per nonce is the
second block (16 bytes of header, then padding) and a second SHA-256 over the 32-byte digest. The generator emits that
work for `width` consecutive nonces at a time, one per vector lane, in two pieces that a Numba loop
(miner/kernels/search.py) calls:

``expand``
    The message schedule W18..W63 of the second block, round constants added, into a scratch array. It depends on the
    nonce but not on the midstate, so version-rolled midstates share it.
``compress``
    For one midstate: the rounds of the second block, then the second SHA-256 as far as the hash's top 32 bits need it.

What never depends on the nonce is computed once per job (miner/kernels/prepare.py) or folded into literals here.
README.md counts the operations.
"""

from __future__ import annotations

from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from miner.kernels.layout import LIMIT, MIDSTATE, SCHEDULE, W3_VECTOR
from miner.kernels.sha256_constants import IV, MASK, PADDING_WORDS_32, PADDING_WORDS_80, K, rotr, sigma0, sigma1
from miner.kernels.sha_extensions import emit_sha_compress, emit_sha_expand
from miner.kernels.variant import Variant

#: A word in a kernel: an int known while the IR is written, or an IR value (scalar for width 1, otherwise a vector).
Word = Any

I32 = ir.IntType(32)
TERNARY_XOR3, TERNARY_CHOOSE, TERNARY_MAJORITY = 0x96, 0xCA, 0xE8  # vpternlogd truth tables for (a, b, c)


class Emitter:
    """SHA-256's word operations on ints and IR values; ints fold at once, so padding and constants cost nothing in the
    kernel."""

    def __init__(self, builder: ir.IRBuilder, variant: Variant) -> None:
        self.builder = builder
        self.variant = variant
        self.word_type: ir.Type = I32 if variant.width == 1 else ir.VectorType(I32, variant.width)

    def value(self, word: Word) -> ir.Value:
        """The word as an IR value."""
        if not isinstance(word, int):
            return word
        if self.variant.width == 1:
            return ir.Constant(I32, word)
        return ir.Constant(self.word_type, [word] * self.variant.width)

    def add(self, *words: Word) -> Word:
        """Sum modulo 2^32 in the order given; ints are summed first and added where the first of them stood, a zero sum
        not at all."""
        literal = sum(word for word in words if isinstance(word, int)) & MASK
        terms: list[Word] = []
        for word in words:
            if not isinstance(word, int):
                terms.append(word)
            elif literal:
                terms.append(literal)
                literal = 0
        if not terms:
            return 0
        total = terms[0]
        for term in terms[1:]:
            total = self.builder.add(self.value(total), self.value(term))
        return total

    def rotr(self, word: Word, count: int) -> ir.Value:
        """Rotate right, as a funnel shift: vprold on AVX-512, shifts and or below it."""
        bits = ir.Constant(self.word_type, [32 - count] * self.variant.width if self.variant.width > 1 else 32 - count)
        return self._call("llvm.fshl", [word, word, bits])

    def shr(self, word: Word, count: int) -> ir.Value:
        return self.builder.lshr(word, self.value(count))

    def xor3(self, a: Word, b: Word, c: Word) -> Word:
        if self.variant.ternary:
            return self._ternary(a, b, c, TERNARY_XOR3)
        return self.builder.xor(self.builder.xor(a, b), c)

    def choose(self, e: Word, f: Word, g: Word) -> Word:
        """Ch(e, f, g) = (e and f) xor (not e and g)."""
        if all(isinstance(word, int) for word in (e, f, g)):
            return (e & f) ^ (~e & g) & MASK
        if self.variant.ternary:
            return self._ternary(e, f, g, TERNARY_CHOOSE)
        e, f, g = (self.value(word) for word in (e, f, g))
        return self.builder.xor(self.builder.and_(self.builder.xor(f, g), e), g)

    def majority(self, a: Word, b: Word, c: Word) -> Word:
        """Maj(a, b, c) = (a and b) xor (a and c) xor (b and c)."""
        if all(isinstance(word, int) for word in (a, b, c)):
            return (a & b) ^ (a & c) ^ (b & c)
        if self.variant.ternary:
            return self._ternary(a, b, c, TERNARY_MAJORITY)
        a, b, c = (self.value(word) for word in (a, b, c))
        # b xor ((a xor b) and (b xor c)): the next round's (b xor c) is this round's (a xor b), which the compiler
        # keeps
        return self.builder.xor(self.builder.and_(self.builder.xor(a, b), self.builder.xor(b, c)), b)

    def big_sigma0(self, a: Word) -> Word:
        if isinstance(a, int):
            return rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)
        return self.xor3(self.rotr(a, 2), self.rotr(a, 13), self.rotr(a, 22))

    def big_sigma1(self, e: Word) -> Word:
        if isinstance(e, int):
            return rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)
        return self.xor3(self.rotr(e, 6), self.rotr(e, 11), self.rotr(e, 25))

    def sigma0(self, w: Word) -> Word:
        if isinstance(w, int):
            return sigma0(w)
        return self.xor3(self.rotr(w, 7), self.rotr(w, 18), self.shr(w, 3))

    def sigma1(self, w: Word) -> Word:
        if isinstance(w, int):
            return sigma1(w)
        return self.xor3(self.rotr(w, 17), self.rotr(w, 19), self.shr(w, 10))

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A 32-bit scalar in every lane."""
        if self.variant.width == 1:
            return scalar
        undefined = ir.Constant(self.word_type, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        lanes = ir.Constant(ir.VectorType(I32, self.variant.width), [0] * self.variant.width)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def load_splat(self, base: ir.Value, index: int) -> ir.Value:
        """The scalar word `base[index]` in every lane; AVX-512 folds it into the instruction that uses it."""
        return self.splat(self.builder.load(self.builder.gep(base, [ir.Constant(I32, index)], inbounds=True)))

    def lane_pointer(self, base: ir.Value, index: int) -> ir.Value:
        """Pointer to vector number `index` of an array of vectors."""
        vectors = self.builder.bitcast(base, self.word_type.as_pointer())
        return self.builder.gep(vectors, [ir.Constant(I32, index)], inbounds=True)

    def load(self, base: ir.Value, index: int) -> ir.Value:
        return self.builder.load(self.lane_pointer(base, index), align=4 * self.variant.width)

    def store(self, value: ir.Value, base: ir.Value, index: int) -> None:
        self.builder.store(value, self.lane_pointer(base, index), align=4 * self.variant.width)

    def byte_swap(self, word: ir.Value) -> ir.Value:
        return self._call("llvm.bswap", [word])

    def not_above(self, word: ir.Value, limit: ir.Value) -> ir.Value:
        """i32 with bit n set where lane n of the byte-swapped word is at most `limit` (a hash's top word, read as the
        hash is compared)."""
        swapped = self.byte_swap(word)
        below = self.builder.icmp_unsigned("<=", swapped, limit)
        if self.variant.width == 1:
            return self.builder.zext(below, I32)
        return self.builder.zext(self.builder.bitcast(below, ir.IntType(self.variant.width)), I32)

    def _call(self, name: str, arguments: list[ir.Value]) -> ir.Value:
        suffix = "i32" if self.variant.width == 1 else f"v{self.variant.width}i32"
        signature = ir.FunctionType(self.word_type, [argument.type for argument in arguments])
        function = self.builder.module.declare_intrinsic(f"{name}.{suffix}", fnty=signature)
        return self.builder.call(function, arguments)

    def _ternary(self, a: Word, b: Word, c: Word, table: int) -> ir.Value:
        signature = ir.FunctionType(self.word_type, [self.word_type] * 3 + [I32])
        name = f"llvm.x86.avx512.pternlog.d.{32 * self.variant.width}"
        function = cast(Any, self.builder.module).globals.get(name) or ir.Function(self.builder.module, signature, name)
        return self.builder.call(function, [self.value(a), self.value(b), self.value(c), ir.Constant(I32, table)])


def emit_expand(emit: Emitter, nonce: ir.Value, job: ir.Value, schedule: ir.Value) -> None:
    """Write W[t] + K[t] for t = 18..63 of the header's second block to vectors 0..45 of `schedule`, and W[3], the
    nonces, after them.

    `nonce` is the first lane's nonce as a scalar; `job` points at the words that layout.SCHEDULE names.
    """
    if emit.variant.width > 1:
        lanes = ir.Constant(emit.word_type, list(range(emit.variant.width)))
        nonces = emit.builder.add(emit.splat(nonce), lanes)
    else:
        nonces = nonce
    w: list[Word] = [None] * 64
    for t in range(4, 16):
        w[t] = PADDING_WORDS_80[t - 4]
    w3 = emit.byte_swap(nonces)
    job_word = {name: emit.load_splat(job, index) for name, index in SCHEDULE.items()}
    emit.store(w3, schedule, W3_VECTOR)
    w[18] = emit.add(job_word["w18_without_nonce"], emit.sigma0(w3))
    w[19] = emit.add(job_word["w19_without_nonce"], w3)
    w[16], w[17] = job_word["w16"], job_word["w17"]
    for t in range(20, 64):
        if t in (31, 32):  # σ0 and the oldest word are job constants here, summed on the host
            terms = [w[t - 7], job_word[f"w{t}_job_terms"]]
        else:
            terms = [w[t - 7], w[t - 16], emit.sigma0(w[t - 15])]
        w[t] = emit.add(*terms, emit.sigma1(w[t - 2]))
    for t in range(18, 64):
        emit.store(emit.add(w[t], K[t]), schedule, t - 18)


def emit_round(emit: Emitter, state: list[Word], *schedule_terms: Word) -> list[Word]:
    """One round; `schedule_terms` sum to W + K. State is [a, b, c, d, e, f, g, h]."""
    a, b, c, d, e, f, g, h = state
    t1 = emit.add(h, *schedule_terms, emit.big_sigma1(e), emit.choose(e, f, g))
    return [emit.add(t1, emit.big_sigma0(a), emit.majority(a, b, c)), a, b, c, emit.add(d, t1), e, f, g]


def emit_compress(emit: Emitter, job: ir.Value, midstate: ir.Value, schedule: ir.Value) -> ir.Value:
    """i32 mask of the lanes whose hash may meet the target: those whose top 32 bits are at most the target's.

    `midstate` points at the words that layout.MIDSTATE names, `schedule` at what emit_expand wrote.
    """
    mid = {name: emit.load_splat(midstate, index) for name, index in MIDSTATE.items()}
    nonces = emit.load(schedule, W3_VECTOR)
    # Round 3 is the first that sees the nonce, and its output is linear in it; rounds 4..6 still have job constants for
    # h.
    a4, e4 = emit.add(mid["a4"], nonces), emit.add(mid["e4"], nonces)
    state: list[Word] = [a4, mid["a3"], mid["b3"], mid["c3"], e4, mid["e3"], mid["f3"], mid["h4_w4_k4"]]
    state = emit_round(emit, state)
    state[7] = mid["h5_w5_k5"]
    state = emit_round(emit, state)
    state[7] = mid["h6_w6_k6"]
    state = emit_round(emit, state)
    for t in range(7, 16):
        state = emit_round(emit, state, (PADDING_WORDS_80[t - 4] + K[t]) & MASK)
    for t in (16, 17):
        state = emit_round(emit, state, mid[f"w{t}_k{t}"])
    for t in range(18, 64):
        state = emit_round(emit, state, emit.load(schedule, t - 18))

    w: list[Word] = [emit.add(word, mid[f"feed{index}"]) for index, word in enumerate(state)]
    w += PADDING_WORDS_32
    state = list(IV)
    for t in range(57):
        if t >= 16:
            w.append(_next_word(emit, w, t))
        state = emit_round(emit, state, w[t], K[t])
    # The hash's last word is IV[7] + h after round 63, and that h is e after round 60: from here on only e is wanted.
    a, b, c, d, e, f, g, h = state
    for t in range(57, 60):
        w.append(_next_word(emit, w, t))
        t1 = emit.add(h, w[t], K[t], emit.choose(e, f, g), emit.big_sigma1(e))
        a, b, c, d, e, f, g, h = a, a, b, c, emit.add(d, t1), e, f, g
    w.append(_next_word(emit, w, 60))
    last = emit.add(h, w[60], d, K[60] + IV[7], emit.choose(e, f, g), emit.big_sigma1(e))
    return emit.not_above(last, emit.load_splat(job, LIMIT))


def _next_word(emit: Emitter, w: list[Word], t: int) -> Word:
    return emit.add(w[t - 7], w[t - 16], emit.sigma0(w[t - 15]), emit.sigma1(w[t - 2]))


def expand_intrinsic(variant: Variant) -> Any:
    """Numba intrinsic expand(nonce: uint32, job: address, schedule: address) -> uint32 (always 0)."""

    def expand(typingctx: Any, nonce: Any, job: Any, schedule: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
            start, *addresses = arguments
            job, schedule = (builder.inttoptr(address, I32.as_pointer()) for address in addresses)
            if variant.sha_extensions:
                emit_sha_expand(builder, variant, start, job, schedule)
            else:
                emit_expand(Emitter(builder, variant), start, job, schedule)
            return ir.Constant(I32, 0)

        return types.uint32(types.uint32, types.uintp, types.uintp), codegen

    return intrinsic(expand)


def compress_intrinsic(variant: Variant) -> Any:
    """Numba intrinsic compress(job: address, midstate: address, schedule: address) -> uint32 lane mask."""

    def compress(typingctx: Any, job: Any, midstate: Any, schedule: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: list[ir.Value]) -> ir.Value:
            pointers = [builder.inttoptr(argument, I32.as_pointer()) for argument in arguments]
            if variant.sha_extensions:
                return emit_sha_compress(builder, variant, *pointers)
            return emit_compress(Emitter(builder, variant), *pointers)

        return types.uint32(types.uintp, types.uintp, types.uintp), codegen

    return intrinsic(compress)
