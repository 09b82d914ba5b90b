"""The kernel over x86's SHA extensions: for processors that have them but no AVX-512 (AMD Zen to Zen 3, for one).

Same division as the vector kernels: `expand` writes a nonce's message schedule once, `compress` uses it for every
midstate. sha256rnds2 does two rounds on a state held as two vectors, ABEF and CDGH (highest lane first); sha256msg1
and sha256msg2 compute four schedule words (Intel SDM, SHA extensions). `width` hashes are interleaved, because one
sha256rnds2 must wait four cycles for the last while the unit takes a new one every two.
"""

from __future__ import annotations

from typing import Any, cast

from llvmlite import ir

from miner.kernels.layout import LIMIT, MIDSTATE, SCHEDULE
from miner.kernels.sha256_constants import IV, PADDING_WORDS_32, PADDING_WORDS_80, K

I32 = ir.IntType(32)
QUAD = ir.VectorType(I32, 4)
_GROUPS = 16  #: of four rounds
_LAST_GROUP_NEEDED = 15  #: of the second hash; of its rounds 60..63 only the first two


def emit_sha_expand(builder: ir.IRBuilder, width: int, nonce: ir.Value, job: ir.Value, schedule: ir.Value) -> None:
    """Write W + K, sixteen vectors of four words, for each of nonce .. nonce + width - 1 to `schedule`."""
    head = ir.Constant(QUAD, ir.Undefined)
    for lane, name in enumerate(("w0", "w1", "w2")):
        word = builder.load(builder.gep(job, [ir.Constant(I32, SCHEDULE[name])]))
        head = builder.insert_element(head, word, ir.Constant(I32, lane))
    swap = builder.module.declare_intrinsic("llvm.bswap", [I32])
    for hash_number in range(width):
        swapped = builder.call(swap, [builder.add(nonce, ir.Constant(I32, hash_number))])
        words = [builder.insert_element(head, swapped, ir.Constant(I32, 3))]
        words += [_quad(PADDING_WORDS_80[at : at + 4]) for at in (0, 4, 8)]
        for group in range(_GROUPS):
            if group >= 4:
                words.append(_next_words(builder, words))
            value = builder.add(words[group], _quad(K[4 * group : 4 * group + 4]))
            builder.store(value, _quad_pointer(builder, schedule, hash_number * _GROUPS + group), align=16)


def emit_sha_compress(
    builder: ir.IRBuilder, width: int, job: ir.Value, midstate: ir.Value, schedule: ir.Value
) -> ir.Value:
    """i32 mask of the hashes whose top 32 bits are at most the target's; see generator.emit_compress."""
    first = MIDSTATE["feed0"] // 4
    abcd, efgh = (builder.load(_quad_pointer(builder, midstate, first + half), align=16) for half in (0, 1))
    abef = _shuffle(builder, abcd, efgh, (5, 4, 1, 0))
    cdgh = _shuffle(builder, abcd, efgh, (7, 6, 3, 2))
    states = [(abef, cdgh)] * width
    for group in range(_GROUPS):
        for number in range(width):
            words = builder.load(_quad_pointer(builder, schedule, number * _GROUPS + group), align=16)
            states[number] = _four_rounds(builder, states[number], words)

    messages: list[list[ir.Value]] = []
    for state in states:
        low, high = builder.add(state[0], abef), builder.add(state[1], cdgh)
        messages.append(
            [
                _shuffle(builder, low, high, (3, 2, 7, 6)),
                _shuffle(builder, low, high, (1, 0, 5, 4)),
                _quad(PADDING_WORDS_32[:4]),
                _quad(PADDING_WORDS_32[4:]),
            ]
        )
    initial = _quad([IV[5], IV[4], IV[1], IV[0]]), _quad([IV[7], IV[6], IV[3], IV[2]])
    states = [initial] * width
    for group in range(_LAST_GROUP_NEEDED + 1):
        for number, words_of in enumerate(messages):
            if group >= 4:
                words_of.append(_next_words(builder, words_of))
            words = builder.add(words_of[group], _quad(K[4 * group : 4 * group + 4]))
            if group < _LAST_GROUP_NEEDED:
                states[number] = _four_rounds(builder, states[number], words)
            else:
                states[number] = _two_rounds(builder, states[number], words)

    limit = builder.load(builder.gep(job, [ir.Constant(I32, LIMIT)]))
    swap = builder.module.declare_intrinsic("llvm.bswap", [I32])
    mask: ir.Value = ir.Constant(I32, 0)
    for number, (abef_after, _) in enumerate(states):
        # e after round 60 is the hash's last word less IV[7]; round 61 has moved it to f, the lowest lane
        last = builder.add(builder.extract_element(abef_after, ir.Constant(I32, 0)), ir.Constant(I32, IV[7]))
        candidate = builder.zext(builder.icmp_unsigned("<=", builder.call(swap, [last]), limit), I32)
        mask = builder.or_(mask, builder.shl(candidate, ir.Constant(I32, number)))
    return mask


def _four_rounds(builder: ir.IRBuilder, state: tuple[ir.Value, ir.Value], words: ir.Value) -> tuple[ir.Value, ir.Value]:
    after_two = _two_rounds(builder, state, words)
    return _two_rounds(builder, after_two, _shuffle(builder, words, words, (2, 3, 2, 3)))


def _two_rounds(builder: ir.IRBuilder, state: tuple[ir.Value, ir.Value], words: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(ABEF, CDGH) two rounds on, with W + K in the lower two lanes: the old ABEF becomes CDGH."""
    abef, cdgh = state
    return _call(builder, "llvm.x86.sha256rnds2", cdgh, abef, words), abef


def _next_words(builder: ir.IRBuilder, words: list[ir.Value]) -> ir.Value:
    """The next four schedule words, from the last sixteen."""
    partial = _call(builder, "llvm.x86.sha256msg1", words[-4], words[-3])
    seven_back = _shuffle(builder, words[-2], words[-1], (1, 2, 3, 4))
    return _call(builder, "llvm.x86.sha256msg2", builder.add(partial, seven_back), words[-1])


def _quad(words: list[int]) -> ir.Constant:
    return ir.Constant(QUAD, words)


def _quad_pointer(builder: ir.IRBuilder, base: ir.Value, index: int) -> ir.Value:
    return builder.gep(builder.bitcast(base, QUAD.as_pointer()), [ir.Constant(I32, index)], inbounds=True)


def _shuffle(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, lanes: tuple[int, int, int, int]) -> ir.Value:
    """Lanes by number, 0..3 from `low`, 4..7 from `high`."""
    return builder.shuffle_vector(low, high, _quad(list(lanes)))


def _call(builder: ir.IRBuilder, name: str, *arguments: ir.Value) -> ir.Value:
    module = builder.module
    known = cast(Any, module).globals.get(name)
    function = known or ir.Function(module, ir.FunctionType(QUAD, [QUAD] * len(arguments)), name)
    return builder.call(function, arguments)
