"""Proof of work: does a hash meet its target, and which target comes next.

`next_nbits` is Core's GetNextWorkRequired (pow.cpp) for Bitcoin's networks and aserti3-2d for ours.
"""

from __future__ import annotations

from functools import lru_cache

from chain.index import BlockIndexEntry
from chain.params import NetworkParams, Retargeting
from chain.primitives.target import decode_nbits, nbits_from_target, target_from_nbits
from chain.primitives.types import Nbits

# The cubic that approximates 2**x - 1 on [0, 1) in 16-bit fixed point (aserti3-2d)
_ASERT_RADIX_BITS = 16
_ASERT_LINEAR = 195_766_423_245_049
_ASERT_SQUARE = 971_821_376
_ASERT_CUBE = 5_127
_ASERT_SHIFT = 48


_target = lru_cache(maxsize=1024)(target_from_nbits)  # a chain repeats its nBits


def check_proof_of_work(block_hash: bytes, nbits: int, params: NetworkParams) -> bool:
    """Whether the hash (internal order) meets the target that `nbits` stands for and that target is one the network
    allows.
    """
    target = _target(nbits)
    return target is not None and target <= params.pow_limit and int.from_bytes(block_hash, "little") <= target


def next_nbits(prev: BlockIndexEntry, time: int, params: NetworkParams) -> Nbits:
    """The nBits that a block after `prev` with this timestamp must carry."""
    if params.retargeting is Retargeting.ASERT:
        return _next_asert(prev, params)
    interval = params.retarget_interval
    if (prev.height + 1) % interval:
        if not params.allow_min_difficulty:
            return Nbits(prev.nbits)
        if time > prev.time + 2 * params.block_interval_s:
            return params.pow_limit_nbits
        # Core walks back to the last block that did not use the exception. Within a period every such block has the
        # nBits of the period's first
        # one, which cannot use it; and where that is itself the limit, so is the answer.
        first = prev.ancestor(prev.height - prev.height % interval)
        return Nbits(prev.nbits if first is None else first.nbits)
    if params.retargeting is Retargeting.NONE:
        return Nbits(prev.nbits)
    first = prev.ancestor(prev.height + 1 - interval)
    if first is None:
        return Nbits(prev.nbits)
    # BIP94: the period's first block keeps the real difficulty when the last one used the exception
    nbits = first.nbits if params.enforce_bip94 else prev.nbits
    return retarget(nbits, prev.time - first.time, params)


def retarget(nbits: int, actual_timespan_s: int, params: NetworkParams) -> Nbits:
    """Bitcoin's new target from the old one and the seconds between the first and the last block of a period."""
    timespan = params.retarget_timespan_s
    actual = min(max(actual_timespan_s, timespan // 4), timespan * 4)
    target = decode_nbits(nbits)[0] * actual  # Core's product wraps at 256 bits; on Bitcoin's networks it stays within
    return nbits_from_target(min(target // timespan, params.pow_limit))


def _next_asert(prev: BlockIndexEntry, params: NetworkParams) -> Nbits:
    genesis = params.genesis.header
    # The schedule puts block h at genesis.time + h * interval: aserti3-2d with the genesis block as anchor, whose
    # parent would lie one interval earlier.
    anchor_target = decode_nbits(genesis.nbits)[0]
    return nbits_from_target(
        asert_target(
            anchor_target,
            prev.time - genesis.time + params.block_interval_s,
            prev.height,
            params.block_interval_s,
            params.asert_half_life_s,
            params.pow_limit,
        )
    )


def asert_target(
    anchor_target: int, time_diff_s: int, height_diff: int, interval_s: int, half_life_s: int, pow_limit: int
) -> int:
    """aserti3-2d: anchor_target * 2**((time_diff - interval * (height_diff + 1)) / half_life), in integers.

    `time_diff_s` is the last block's time less that of the anchor's parent, `height_diff` the last block's height less
    the anchor's. The result lies between 1 and `pow_limit`.
    """
    numerator = (time_diff_s - interval_s * (height_diff + 1)) << _ASERT_RADIX_BITS
    exponent = (
        numerator // half_life_s if numerator >= 0 else -(-numerator // half_life_s)
    )  # C++ division: towards zero
    shifts = exponent >> _ASERT_RADIX_BITS
    fraction = exponent & 0xFFFF
    factor = 65536 + (
        (
            _ASERT_LINEAR * fraction
            + _ASERT_SQUARE * fraction * fraction
            + _ASERT_CUBE * fraction * fraction * fraction
            + (1 << (_ASERT_SHIFT - 1))
        )
        >> _ASERT_SHIFT
    )
    if shifts > 256:
        return pow_limit
    shifts -= _ASERT_RADIX_BITS
    target = anchor_target * factor
    target = target << shifts if shifts >= 0 else target >> -shifts
    return min(max(target, 1), pow_limit)
