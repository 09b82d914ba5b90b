"""Everything about a job that no nonce changes, computed once on the host: midstates, first rounds and schedule
words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from miner.kernels.layout import JOB_WORDS, LIMIT, MAX_MIDSTATES, MIDSTATE, MIDSTATE_WORDS, SCHEDULE
from miner.kernels.midstate import midstate, portable_midstate
from miner.kernels.sha256_constants import IV, MASK, PADDING_WORDS_80, K, sigma0, sigma1

#: Up to here, one after the other beats all at once in NumPy: devices wait for this at a new job.
_FEW_VERSIONS = 8 if midstate is portable_midstate else MAX_MIDSTATES

Words: TypeAlias = npt.NDArray[np.uint32]


def aligned_words(count: int, alignment: int = 64) -> Words:
    """`count` zero words that begin on a cache line: vector loads and stores of the kernels rely on it."""
    buffer = np.zeros(count * 4 + alignment, dtype=np.uint8)
    offset = -buffer.ctypes.data % alignment
    return buffer[offset : offset + count * 4].view(np.uint32)


def prepare(header: bytes, versions: Sequence[int], target: int) -> Words:
    """The kernels' input for one 80-byte header (its version and nonce ignored) under each of 1..MAX_MIDSTATES
    versions.

    Shape (JOB_WORDS + MIDSTATE_WORDS * len(versions),), laid out as miner/kernels/layout.py says. `target` is compared
    by its top 32 bits.
    """
    if len(header) != 80:
        raise ValueError(f"a header has 80 bytes, not {len(header)}")
    if not 1 <= len(versions) <= MAX_MIDSTATES:
        raise ValueError(f"a job has 1 to {MAX_MIDSTATES} versions, not {len(versions)}")
    words = aligned_words(JOB_WORDS + MIDSTATE_WORDS * len(versions))
    header_words = [int.from_bytes(header[at : at + 4], "big") for at in range(0, 76, 4)]
    w0, w1, w2 = head = header_words[16:19]
    w4, w15 = PADDING_WORDS_80[0], PADDING_WORDS_80[-1]
    w16 = (w0 + sigma0(w1)) & MASK
    w17 = (w1 + sigma0(w2) + sigma1(w15)) & MASK
    schedule = {
        **{"w0": w0, "w1": w1, "w2": w2},
        "w16": w16,
        "w17": w17,
        "w18_without_nonce": sigma1(w16) + w2,
        "w19_without_nonce": sigma1(w17) + sigma0(w4),
        "w31_job_terms": sigma0(w16) + w15,
        "w32_job_terms": sigma0(w17) + w16,
    }
    for name, value in schedule.items():
        words[SCHEDULE[name]] = value & MASK
    words[LIMIT] = min(target, (1 << 256) - 1) >> 224

    if len(versions) <= _FEW_VERSIONS:
        rest = header[4:64]
        by_version = b"".join([midstate((version & MASK).to_bytes(4, "little") + rest) for version in versions])
        midstates = list(np.frombuffer(by_version, dtype=">u4").astype(np.uint32).reshape(-1, 8).T)
    else:
        swapped = np.array([version & MASK for version in versions], dtype=np.uint32).byteswap()
        midstates = _compress_first_block(
            [swapped, *(np.full(len(versions), word, np.uint32) for word in header_words[1:16])]
        )
    rows = words[JOB_WORDS:].reshape(len(versions), MIDSTATE_WORDS)
    for name, column in _midstate_columns(midstates, head, w16, w17).items():
        rows[:, MIDSTATE[name]] = column
    return words


def _midstate_columns(midstates: list[Words], head: list[int], w16: int, w17: int) -> dict[str, Words | int]:
    """Rounds 0..2, round 3 without its nonce, and the sums that rounds 4..6, 16 and 17 add to h; one entry per version
    in each array."""
    state = midstates
    for t in range(3):
        state = _round(state, _u32(head[t] + K[t]))
    a, b, c, _, e, f, g, _ = state
    after = _round(state, _u32(K[3]))
    return {
        "a4": after[0],
        "e4": after[4],
        **{"a3": a, "b3": b, "c3": c, "e3": e, "f3": f, "g3": g},
        "h4_w4_k4": g + _u32(PADDING_WORDS_80[0] + K[4]),
        "h5_w5_k5": f + _u32(PADDING_WORDS_80[1] + K[5]),
        "h6_w6_k6": e + _u32(PADDING_WORDS_80[2] + K[6]),
        "w16_k16": w16 + K[16] & MASK,
        "w17_k17": w17 + K[17] & MASK,
        **{f"feed{index}": word for index, word in enumerate(midstates)},
    }


def _compress_first_block(words: list[Words]) -> list[Words]:
    """SHA-256's compression of one block for many messages at once; each word is an array over the messages."""
    for t in range(16, 64):
        s0, s1 = words[t - 15], words[t - 2]
        words.append(
            (_rotr(s1, 17) ^ _rotr(s1, 19) ^ s1 >> np.uint32(10))
            + words[t - 7]
            + (_rotr(s0, 7) ^ _rotr(s0, 18) ^ s0 >> np.uint32(3))
            + words[t - 16]
        )
    start = [np.full_like(words[0], word) for word in IV]
    state = start
    for word, constant in zip(words, K, strict=True):
        state = _round(state, word + np.uint32(constant))
    return [before + after for before, after in zip(start, state, strict=True)]


def _round(state: list[Words], word_and_constant: Words | np.uint32) -> list[Words]:
    a, b, c, d, e, f, g, h = state
    t1 = h + (_rotr(e, 6) ^ _rotr(e, 11) ^ _rotr(e, 25)) + (e & f ^ ~e & g) + word_and_constant
    t2 = (_rotr(a, 2) ^ _rotr(a, 13) ^ _rotr(a, 22)) + (a & b ^ a & c ^ b & c)
    return [t1 + t2, a, b, c, d + t1, e, f, g]


def _rotr(word: Words, count: int) -> Words:
    return word >> np.uint32(count) | word << np.uint32(32 - count)


def _u32(value: int) -> np.uint32:
    return np.uint32(value & MASK)
