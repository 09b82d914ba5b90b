"""Targets: Bitcoin's retargeting with its edges, the test networks' exception, BIP94, and aserti3-2d against exact
rationals.
"""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest

from chain.consensus.pow import asert_target, check_proof_of_work, next_nbits, retarget
from chain.index import HeaderIndex
from chain.params import BITCOIN, DEV, NETWORKS, PICKAXE, REGTEST, TESTNET3, TESTNET4
from chain.primitives.target import nbits_from_target, target_from_nbits
from tests.support.blocks import add_header, add_headers

DAY = 24 * 60 * 60


@pytest.mark.parametrize(
    ("nbits", "first", "last", "expected"),
    [  # the cases of Core's pow_tests: blocks 30,240-32,255, 0-2,015, 66,528-68,543 and 46,368
        (0x1D00FFFF, 1261130161, 1262152739, 0x1D00D86A),
        (0x1D00FFFF, 1231006505, 1233061996, 0x1D00FFFF),
        (0x1C05A3F4, 1279008237, 1279297671, 0x1C0168FD),
        (0x1C387F6F, 1263163443, 1269211443, 0x1D00E1FD),
    ],
)
def test_bitcoin_retargets(nbits: int, first: int, last: int, expected: int) -> None:
    assert retarget(nbits, last - first, BITCOIN) == expected


@pytest.mark.parametrize("timespan", [-5, 0, 14 * DAY // 4 - 1, 14 * DAY // 4])
def test_a_period_counts_for_a_quarter_at_least(timespan: int) -> None:
    target = target_from_nbits(0x1B0404CB)
    assert target is not None
    assert retarget(0x1B0404CB, timespan, BITCOIN) == nbits_from_target(target // 4)


@pytest.mark.parametrize("timespan", [4 * 14 * DAY, 4 * 14 * DAY + 1, 1 << 40])
def test_a_period_counts_for_four_at_most(timespan: int) -> None:
    target = target_from_nbits(0x1B0404CB)
    assert target is not None
    assert retarget(0x1B0404CB, timespan, BITCOIN) == nbits_from_target(target * 4)


def test_retargeting_is_off_by_one_as_bitcoins_is() -> None:
    """A period's time is that of 2,015 intervals, so blocks exactly on time make it a little harder."""
    index = HeaderIndex(BITCOIN)
    tip = add_headers(index, index.genesis, 2_014)
    tip = add_header(index, tip, nbits=0x1C05A3F4)
    assert tip.height == 2_015
    target = target_from_nbits(0x1C05A3F4)
    assert target is not None
    assert next_nbits(tip, tip.time + 600, BITCOIN) == nbits_from_target(target * 2015 // 2016)
    assert next_nbits(index.genesis, 0, BITCOIN) == 0x1D00FFFF


def test_a_late_block_on_testnet3_may_be_easy_and_the_next_is_not() -> None:
    index = HeaderIndex(TESTNET3)
    hard = 0x1C05A3F4
    tip = add_headers(index, index.genesis, 2_015)
    tip = add_header(index, tip, nbits=hard)  # the first of the second period
    assert next_nbits(tip, tip.time + 1_200, TESTNET3) == hard
    assert next_nbits(tip, tip.time + 1_201, TESTNET3) == TESTNET3.pow_limit_nbits
    for _ in range(30):
        tip = add_header(index, tip, time=tip.time + 1_201, nbits=0x1D00FFFF)
    assert next_nbits(tip, tip.time + 600, TESTNET3) == hard
    assert next_nbits(tip, tip.time + 1_201, TESTNET3) == TESTNET3.pow_limit_nbits


def test_the_exception_is_found_as_cores_walk_finds_it(rng: random.Random) -> None:
    """The shortcut through the period's first block against Core's walk back, on chains that follow the rule."""
    for start in (0x1C05A3F4, 0x1D00FFFF):
        index = HeaderIndex(TESTNET3)
        tip = add_headers(index, index.genesis, 2_015)
        tip = add_header(index, tip, nbits=start)
        for _ in range(400):
            time = tip.time + rng.choice([1, 600, 1_200, 1_201, 5_000])
            walk = tip
            if time > tip.time + 1_200:
                expected: int = TESTNET3.pow_limit_nbits
            else:
                while walk.prev is not None and walk.height % 2016 and walk.nbits == TESTNET3.pow_limit_nbits:
                    walk = walk.prev
                expected = walk.nbits
            assert next_nbits(tip, time, TESTNET3) == expected
            tip = add_header(index, tip, time=time, nbits=expected)


def test_bip94_retargets_from_the_first_block_of_a_period() -> None:
    for params, expected in ((TESTNET4, 0x1C05A3F4), (TESTNET3, 0x1D00FFFF)):
        index = HeaderIndex(params)
        tip = add_headers(index, index.genesis, 2_015)
        tip = add_header(index, tip, nbits=0x1C05A3F4)
        first = tip
        for _ in range(2_014):
            tip = add_header(index, tip, nbits=0x1C05A3F4)
        tip = add_header(index, tip, time=first.time + 14 * DAY, nbits=0x1D00FFFF)  # the last one used the exception
        assert tip.height == 4_031
        assert next_nbits(tip, tip.time + 600, params) == expected


def test_regtest_never_retargets() -> None:
    index = HeaderIndex(REGTEST)
    tip = add_headers(index, index.genesis, 143)
    for _ in range(3):
        assert next_nbits(tip, tip.time + 1, REGTEST) == 0x207FFFFF
        tip = add_header(index, tip, time=tip.time + 1)


def test_dev_stays_at_its_limit() -> None:
    index = HeaderIndex(DEV)
    tip = add_headers(index, index.genesis, 20)
    assert next_nbits(tip, tip.time + 99_999, DEV) == DEV.pow_limit_nbits == 0x207FFFFF


def test_proof_of_work_bounds() -> None:
    limit = BITCOIN.pow_limit
    target = target_from_nbits(0x1D00FFFF)
    assert target is not None
    assert target <= limit
    assert check_proof_of_work(target.to_bytes(32, "little"), 0x1D00FFFF, BITCOIN)
    assert not check_proof_of_work((target + 1).to_bytes(32, "little"), 0x1D00FFFF, BITCOIN)
    assert not check_proof_of_work(bytes(32), 0, BITCOIN)  # no target
    assert not check_proof_of_work(bytes(32), 0x01FEDCBA, BITCOIN)  # negative
    assert not check_proof_of_work(bytes(32), 0xFF123456, BITCOIN)  # overflow
    assert not check_proof_of_work(bytes(32), 0x1D01FFFF, BITCOIN)  # easier than the limit
    assert check_proof_of_work(bytes(32), 0x01010000, BITCOIN)  # target 1
    for params in NETWORKS.values():
        assert check_proof_of_work(params.genesis.hash, params.genesis.header.nbits, params), params.name


def exact_asert(anchor: int, time_diff: int, height_diff: int, interval: int, half_life: int, limit: int) -> int:
    """aserti3-2d from its definition, with rationals and floors instead of shifts."""
    ratio = Fraction((time_diff - interval * (height_diff + 1)) * 65536, half_life)
    exponent = int(ratio)  # towards zero
    whole, fraction = exponent // 65536, exponent % 65536
    x = Fraction(fraction)
    polynomial = (195766423245049 * x + 971821376 * x**2 + 5127 * x**3) / 2**48 + Fraction(1, 2)
    factor = 65536 + polynomial.numerator // polynomial.denominator
    scaled = Fraction(anchor * factor) * Fraction(2) ** (whole - 16)
    return min(max(scaled.numerator // scaled.denominator, 1), limit)


def test_asert_equals_its_definition(rng: random.Random) -> None:
    for _ in range(3_000):
        bits = rng.randrange(1, 224)
        anchor = rng.getrandbits(bits) | 1 << (bits - 1)
        interval = rng.choice([120, 600])
        half_life = rng.choice([34_560, 172_800])
        height = rng.randrange(200_000)
        drift = rng.randrange(-60, 60) * half_life + rng.randrange(-half_life, half_life)
        args = (anchor, interval * (height + 1) + drift, height, interval, half_life, PICKAXE.pow_limit)
        assert asert_target(*args) == exact_asert(*args)


def test_asert_is_within_a_hundredth_of_a_percent_of_the_exponential(rng: random.Random) -> None:
    anchor = 0x1802AEE8
    target = target_from_nbits(anchor)
    assert target is not None
    for _ in range(2_000):
        drift = rng.randrange(-10 * 172_800, 10 * 172_800)
        got = asert_target(target, 600 + drift, 0, 600, 172_800, BITCOIN.pow_limit)
        assert got / (target * 2 ** (drift / 172_800)) == pytest.approx(1, abs=0.00013)


def test_asert_on_schedule_keeps_the_target_and_one_half_life_doubles_or_halves_it() -> None:
    target = target_from_nbits(0x1A2B3C4D)
    assert target is not None
    limit = BITCOIN.pow_limit
    for height in (0, 1, 2, 1000):
        on_time = 600 * (height + 1)
        assert asert_target(target, on_time, height, 600, 172_800, limit) == target
        assert asert_target(target, on_time + 172_800, height, 600, 172_800, limit) == 2 * target
        assert asert_target(target, on_time - 172_800, height, 600, 172_800, limit) == target // 2
    # C++ division rounds towards zero: a second early is already a different exponent, one 65,536th of a half-life
    assert asert_target(target, 599, 0, 600, 172_800, limit) == target
    assert asert_target(target, 597, 0, 600, 172_800, limit) < target


def test_asert_stays_between_one_and_the_limit() -> None:
    assert asert_target(1 << 223, 1 << 62, 0, 600, 172_800, BITCOIN.pow_limit) == BITCOIN.pow_limit
    assert asert_target(1 << 223, -(1 << 62), 0, 600, 172_800, BITCOIN.pow_limit) == 1
    # heights and times beyond 32 and 64 bits (the published runs 9 and 10 go there)
    target = target_from_nbits(0x1802AEE8)
    assert target is not None
    anchor_height, anchor_time = 9223372036854775802, 2147483047
    got = asert_target(
        target, 2147484547 - anchor_time, 9223372036854775803 - anchor_height, 600, 172_800, BITCOIN.pow_limit
    )
    assert nbits_from_target(got) == 0x1802AFBB


def test_pickaxe_targets_follow_the_schedule_from_genesis() -> None:
    params = replace(PICKAXE, pow_limit=DEV.pow_limit)
    index = HeaderIndex(params)
    interval = params.block_interval_s
    tip = index.genesis
    assert next_nbits(tip, 0, params) == params.genesis.header.nbits == 0x1E00FFFF
    for _ in range(300):
        tip = add_header(index, tip)
    assert tip.time == index.genesis.time + 300 * interval
    assert next_nbits(tip, 0, params) == 0x1E00FFFF  # whatever the new block's own time says
    late = add_header(index, tip, time=tip.time + interval + params.asert_half_life_s)
    early = add_header(index, tip, time=tip.time + interval - params.asert_half_life_s)
    assert next_nbits(late, 0, params) == nbits_from_target(2 * (0xFFFF << 216))
    assert next_nbits(early, 0, params) == nbits_from_target((0xFFFF << 216) // 2)
    late = add_header(HeaderIndex(PICKAXE), HeaderIndex(PICKAXE).genesis, time=index.genesis.time + 10**8)
    assert next_nbits(late, 0, PICKAXE) == PICKAXE.pow_limit_nbits
