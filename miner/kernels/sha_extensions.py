"""The kernel over the processor's SHA-256 instructions: x86's SHA extensions (AMD Zen to Zen 3, for one, have them but
no AVX-512) and AArch64's (nearly every 64-bit Arm core but the Raspberry Pi's before the 5).

Same division as the vector kernels: `expand` writes a nonce's message schedule once, `compress` uses it for every
midstate. Words go by fours, one vector each. `width` hashes are interleaved, because an instruction of the rounds must
wait about four cycles for the last one while the unit takes a new one every cycle or two.

What the two have in common is here; `Sha` names what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, cast

from llvmlite import ir

from miner.kernels.layout import LIMIT, MIDSTATE, SCHEDULE
from miner.kernels.sha256_constants import IV, MASK, PADDING_WORDS_32, PADDING_WORDS_80, K, sigma0
from miner.kernels.variant import Variant

I32 = ir.IntType(32)
QUAD = ir.VectorType(I32, 4)
#: A hash's eight state words, as two vectors in the order that the instructions want.
State: TypeAlias = tuple[ir.Value, ir.Value]
#: Four schedule words: ints where they are known while the IR is written.
Words: TypeAlias = "ir.Value | Sequence[int]"

_GROUPS = 16  #: of four rounds
_LAST = 15  #: of the second hash, the group with the round after which e is wanted: 60, its first


class Sha(Protocol):
    """One instruction set."""

    def nonce_lanes(self) -> tuple[int, ...]:
        """Where in a vector the nonce stands so that `after_round_3` can add it."""

    def state(self, builder: ir.IRBuilder, abcd: ir.Value, efgh: ir.Value) -> State:
        """Eight words, in their order, as a state."""

    def after_round_3(self, builder: ir.IRBuilder, state: State, nonce: ir.Value) -> State:
        """The nonce, in `nonce_lanes` of a vector, added to a and e."""

    def four_rounds(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> State:
        """Four rounds on; `words` are W + K."""

    def digest(self, builder: ir.IRBuilder, state: State) -> tuple[ir.Value, ir.Value]:
        """The eight words of a state, in their order."""

    def e_after_one_round(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> ir.Value:
        """The scalar e, one round on."""

    def partial(self, builder: ir.IRBuilder, oldest: ir.Value, following: ir.Value) -> ir.Value:
        """W[t-16] + σ0(W[t-15]) of four words, from W[t-16]..W[t-13] and W[t-12]..W[t-9]."""

    def complete(self, builder: ir.IRBuilder, partial: ir.Value, before: ir.Value, latest: ir.Value) -> ir.Value:
        """The same with W[t-7] + σ1(W[t-2]): four schedule words; `before` and `latest` are W[t-8]..W[t-1]."""


class _X86:
    """sha256rnds2 does two rounds on ABEF and CDGH (highest lane first); sha256msg1 and sha256msg2 make four schedule
    words (Intel SDM, SHA extensions)."""

    def nonce_lanes(self) -> tuple[int, ...]:
        return (1, 3)

    def state(self, builder: ir.IRBuilder, abcd: ir.Value, efgh: ir.Value) -> State:
        return _shuffle(builder, abcd, efgh, (5, 4, 1, 0)), _shuffle(builder, abcd, efgh, (7, 6, 3, 2))

    def after_round_3(self, builder: ir.IRBuilder, state: State, nonce: ir.Value) -> State:
        return builder.add(state[0], nonce), state[1]

    def four_rounds(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> State:
        after_two = self._two_rounds(builder, state, words)
        return self._two_rounds(builder, after_two, _shuffle(builder, words, words, (2, 3, 2, 3)))

    def digest(self, builder: ir.IRBuilder, state: State) -> tuple[ir.Value, ir.Value]:
        abef, cdgh = state
        return _shuffle(builder, abef, cdgh, (3, 2, 7, 6)), _shuffle(builder, abef, cdgh, (1, 0, 5, 4))

    def e_after_one_round(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> ir.Value:
        abef, _ = self._two_rounds(builder, state, words)  # the second has moved e to f, the lowest lane
        return builder.extract_element(abef, ir.Constant(I32, 0))

    def partial(self, builder: ir.IRBuilder, oldest: ir.Value, following: ir.Value) -> ir.Value:
        return _call(builder, "llvm.x86.sha256msg1", oldest, following)

    def complete(self, builder: ir.IRBuilder, partial: ir.Value, before: ir.Value, latest: ir.Value) -> ir.Value:
        seven_back = _shuffle(builder, before, latest, (1, 2, 3, 4))
        return _call(builder, "llvm.x86.sha256msg2", builder.add(partial, seven_back), latest)

    def _two_rounds(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> State:
        """W + K in the lower two lanes: the old ABEF becomes CDGH."""
        abef, cdgh = state
        return _call(builder, "llvm.x86.sha256rnds2", cdgh, abef, words), abef


class _Arm:
    """sha256h and sha256h2 do four rounds on ABCD and EFGH (lowest lane first), one makes the new ABCD, the other the
    new EFGH; sha256su0 and sha256su1 make four schedule words (Arm ARM, FEAT_SHA256)."""

    def nonce_lanes(self) -> tuple[int, ...]:
        return (0,)

    def state(self, builder: ir.IRBuilder, abcd: ir.Value, efgh: ir.Value) -> State:
        return abcd, efgh

    def after_round_3(self, builder: ir.IRBuilder, state: State, nonce: ir.Value) -> State:
        return builder.add(state[0], nonce), builder.add(state[1], nonce)

    def four_rounds(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> State:
        abcd, efgh = state
        return _call(builder, "llvm.aarch64.crypto.sha256h", abcd, efgh, words), self._efgh(builder, state, words)

    def digest(self, builder: ir.IRBuilder, state: State) -> tuple[ir.Value, ir.Value]:
        return state

    def e_after_one_round(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> ir.Value:
        # three more rounds, whatever their words, move it to h, the highest lane
        return builder.extract_element(self._efgh(builder, state, words), ir.Constant(I32, 3))

    def partial(self, builder: ir.IRBuilder, oldest: ir.Value, following: ir.Value) -> ir.Value:
        return _call(builder, "llvm.aarch64.crypto.sha256su0", oldest, following)

    def complete(self, builder: ir.IRBuilder, partial: ir.Value, before: ir.Value, latest: ir.Value) -> ir.Value:
        return _call(builder, "llvm.aarch64.crypto.sha256su1", partial, before, latest)

    def _efgh(self, builder: ir.IRBuilder, state: State, words: ir.Value) -> ir.Value:
        abcd, efgh = state
        return _call(builder, "llvm.aarch64.crypto.sha256h2", efgh, abcd, words)


def _instructions(variant: Variant) -> Sha:
    return _Arm() if variant.arm else _X86()


def emit_sha_expand(
    builder: ir.IRBuilder, variant: Variant, nonce: ir.Value, job: ir.Value, schedule: ir.Value
) -> None:
    """Write sixteen vectors for each of nonce .. nonce + width - 1 to `schedule`: W + K by fours, but instead of the
    first, whose rounds the host has done, W3 as `after_round_3` takes it."""
    sha = _instructions(variant)
    head = ir.Constant(QUAD, ir.Undefined)
    for lane, name in enumerate(("w0", "w1", "w2")):
        word = builder.load(builder.gep(job, [ir.Constant(I32, SCHEDULE[name])]))
        head = builder.insert_element(head, word, ir.Constant(I32, lane))
    swap = builder.module.declare_intrinsic("llvm.bswap", [I32])
    for number in range(variant.width):
        w3 = builder.call(swap, [builder.add(nonce, ir.Constant(I32, number))])
        linear = _quad([0, 0, 0, 0])
        for lane in sha.nonce_lanes():
            linear = builder.insert_element(linear, w3, ir.Constant(I32, lane))
        builder.store(linear, _quad_pointer(builder, schedule, number * _GROUPS), align=16)
        words: list[Words] = [builder.insert_element(head, w3, ir.Constant(I32, 3))]
        words += [PADDING_WORDS_80[at : at + 4] for at in (0, 4, 8)]
        for group in range(1, _GROUPS):
            if group >= 4:
                words.append(_next_words(builder, sha, words))
            value = _plus_constants(builder, words[group], group)
            builder.store(value, _quad_pointer(builder, schedule, number * _GROUPS + group), align=16)


def emit_sha_compress(
    builder: ir.IRBuilder, variant: Variant, job: ir.Value, midstate: ir.Value, schedule: ir.Value
) -> ir.Value:
    """i32 mask of the hashes whose top 32 bits are at most the target's; see generator.emit_compress."""
    sha = _instructions(variant)

    def from_midstate(*names: str) -> State:
        at = [_quad_pointer(builder, midstate, MIDSTATE[name] // 4) for name in names]
        return sha.state(builder, *(builder.load(pointer, align=16) for pointer in at))

    def from_schedule(number: int, group: int) -> ir.Value:
        return builder.load(_quad_pointer(builder, schedule, number * _GROUPS + group), align=16)

    numbers = range(variant.width)
    feed, job_state = from_midstate("feed0", "feed4"), from_midstate("a4", "e4")
    states = [sha.after_round_3(builder, job_state, from_schedule(number, 0)) for number in numbers]
    for group in range(1, _GROUPS):
        padding = from_schedule(0, group) if group < 4 else None  # the same for every nonce
        for number in numbers:
            words_and_constants = padding or from_schedule(number, group)
            states[number] = sha.four_rounds(builder, states[number], words_and_constants)

    messages: list[list[Words]] = []
    for state in states:
        first, second = sha.digest(builder, (builder.add(state[0], feed[0]), builder.add(state[1], feed[1])))
        messages.append([first, second, PADDING_WORDS_32[:4], PADDING_WORDS_32[4:]])
    states = [sha.state(builder, _quad(IV[:4]), _quad(IV[4:]))] * variant.width
    for group in range(_LAST):
        for number in numbers:
            words = _second_words(builder, sha, messages[number], group)
            states[number] = sha.four_rounds(builder, states[number], words)
    # the hash's last word is IV[7] + e after round 60
    last = ir.Constant(ir.VectorType(I32, variant.width), ir.Undefined)
    for number in numbers:
        words = _second_words(builder, sha, messages[number], _LAST)
        e = sha.e_after_one_round(builder, states[number], words)
        last = builder.insert_element(last, e, ir.Constant(I32, number))
    return _not_above(builder, variant.width, last, job)


def _not_above(builder: ir.IRBuilder, width: int, last: ir.Value, job: ir.Value) -> ir.Value:
    """i32 with bit n set where lane n of `last`, with IV[7] added and its bytes reversed, is at most the limit."""
    limit = builder.load(builder.gep(job, [ir.Constant(I32, LIMIT)]))
    limits = ir.Constant(last.type, ir.Undefined)
    for lane in range(width):
        limits = builder.insert_element(limits, limit, ir.Constant(I32, lane))
    swap = builder.module.declare_intrinsic(f"llvm.bswap.v{width}i32", fnty=ir.FunctionType(last.type, [last.type]))
    top = builder.call(swap, [builder.add(last, ir.Constant(last.type, [IV[7]] * width))])
    below = builder.icmp_unsigned("<=", top, limits)
    return builder.zext(builder.bitcast(below, ir.IntType(width)), I32)


def _second_words(builder: ir.IRBuilder, sha: Sha, words: list[Words], group: int) -> ir.Value:
    """W + K of a group of the second hash; appends its W to `words`."""
    if group >= 4:
        words.append(_next_words(builder, sha, words))
    return _plus_constants(builder, words[group], group)


def _plus_constants(builder: ir.IRBuilder, words: Words, group: int) -> ir.Value:
    constants = K[4 * group : 4 * group + 4]
    if isinstance(words, ir.Value):
        return builder.add(words, _quad(constants))
    return _quad([word + constant & MASK for word, constant in zip(words, constants, strict=True)])


def _next_words(builder: ir.IRBuilder, sha: Sha, words: list[Words]) -> ir.Value:
    """The next four schedule words, from the last sixteen."""
    oldest, following, before, latest = words[-4:]
    if isinstance(oldest, ir.Value) or isinstance(following, ir.Value):
        partial = sha.partial(builder, _value(oldest), _value(following))
    else:
        neighbours = [*oldest[1:], following[0]]
        partial = _quad([a + sigma0(b) & MASK for a, b in zip(oldest, neighbours, strict=True)])
    return sha.complete(builder, partial, _value(before), _value(latest))


def _value(words: Words) -> ir.Value:
    return words if isinstance(words, ir.Value) else _quad(words)


def _quad(words: Sequence[int]) -> ir.Constant:
    return ir.Constant(QUAD, list(words))


def _quad_pointer(builder: ir.IRBuilder, base: ir.Value, index: int) -> ir.Value:
    return builder.gep(builder.bitcast(base, QUAD.as_pointer()), [ir.Constant(I32, index)], inbounds=True)


def _shuffle(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, lanes: tuple[int, int, int, int]) -> ir.Value:
    """Lanes by number, 0..3 from `low`, 4..7 from `high`."""
    return builder.shuffle_vector(low, high, _quad(lanes))


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    module = builder.module
    known = cast(Any, module).globals.get(name)
    function = known or ir.Function(module, ir.FunctionType(QUAD, [QUAD] * len(arguments)), name)
    return builder.call(function, arguments)
