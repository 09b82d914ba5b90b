"""Notifies and difficulties, and the jobs that they become."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.params import NETWORKS
from chain.primitives.block import Block
from chain.primitives.merkle import merkle_branch
from chain.primitives.target import DIFFICULTY_1_TARGET, target_from_nbits
from miner.device import Candidate
from miner.share import Finding, check_candidate
from miner.work.job import UnitSequence
from miner.work.stratum.jobs import (
    BadJob,
    Work,
    build_job,
    check_work,
    coinbase_height,
    parse_difficulty,
    parse_notify,
    swap_words,
    target_of_share,
)
from tests.support.pool_server import example_job

ANY_TARGET = (1 << 256) - 1


def params() -> list[Any]:
    return example_job(1).notify(clean=True)


def work(**changes: Any) -> Work:
    base = Work(parse_notify(params()), b"\x01\x02\x03\x04", 4, 1.0, target_of_share(1.0), 0x1FFFE000)
    return replace(base, **changes)


def test_prevhash_order_is_the_reference_documents() -> None:
    """The worked example of mujina's test data (256foundation/mujina, bm13xx/test_data.rs)."""
    stratum = bytes.fromhex("6b6455fd6db962c101f2d4fc0d67f4a3bc96391d000152960000000000000000")
    internal = bytes.fromhex("fd55646bc162b96dfcd4f201a3f4670d1d3996bc965201000000000000000000")
    assert swap_words(stratum) == internal
    assert swap_words(internal) == stratum
    fields = params()
    fields[1] = stratum.hex()
    assert parse_notify(fields).prev_hash == internal


def test_genesis_as_a_pool_would_have_sent_it() -> None:
    """Bitcoin's genesis block cut into a notify: its own nonce must be a share and a block."""
    genesis = NETWORKS["bitcoin"].genesis
    raw = genesis.transactions[0].raw
    place = raw.index(b"The Times") + 4
    fields: list[Any] = ["g", swap_words(genesis.header.prev_hash).hex(), raw[:place].hex(), raw[place + 8 :].hex(), []]
    fields += [f"{genesis.header.version:08x}", "1d00ffff", f"{genesis.header.time:08x}", True]
    whole = Work(parse_notify(fields), raw[place : place + 4], 4, 1.0, target_of_share(1.0), 0)
    check_work(whole, DIFFICULTY_1_TARGET)
    job = build_job(whole)
    extranonce2 = int.from_bytes(raw[place + 4 : place + 8], "little")
    assert job.header(extranonce2, job.time)[:76] == genesis.header.raw[:76]
    unit = UnitSequence(job).take(1)
    assert unit is not None
    exact = replace(unit, hash_job=replace(unit.hash_job, header=job.header(extranonce2, job.time)))
    share = check_candidate(exact, Candidate(genesis.header.version, genesis.header.nonce))
    assert (share.finding, share.hash) == (Finding.BLOCK, genesis.hash)


def test_a_real_block_as_a_pool_would_have_sent_it(vectors: Path) -> None:
    """Block 300025: branch and prevhash lead back to its header."""
    block = Block.parse((vectors / "blocks" / "mainnet" / "block300025.raw").read_bytes())
    raw, header = block.transactions[0].raw, block.header
    branch = merkle_branch([transaction.txid for transaction in block.transactions], 0)
    place = 4 + 1 + 36 + 1 + 4  # after the height
    fields: list[Any] = ["b", swap_words(header.prev_hash).hex(), raw[:place].hex(), raw[place + 8 :].hex()]
    fields += [[entry.hex() for entry in branch], f"{header.version:08x}", f"{header.nbits:08x}", f"{header.time:08x}"]
    whole = Work(parse_notify([*fields, True]), raw[place : place + 4], 4, 1.0, target_of_share(1.0), 0)
    check_work(whole, DIFFICULTY_1_TARGET)
    job = build_job(whole)
    assert job.height == 300025
    extranonce2 = int.from_bytes(raw[place + 4 : place + 8], "little")
    assert job.header(extranonce2, job.time)[:76] == header.raw[:76]


@pytest.mark.parametrize(
    ("index", "value", "error"),
    [
        (0, 5, "number is not text"),
        (0, "", "number is not text"),
        (0, "x" * 129, "number is not text"),
        (1, "00" * 31, "64 hexadecimal digits"),
        (1, "zz" * 32, "not hexadecimal"),
        (1, None, "64 hexadecimal digits"),
        (2, "0", "not hexadecimal"),
        (2, "00 00 ", "not hexadecimal"),
        (3, [], "not hexadecimal"),
        (4, "00", "not a list"),
        (4, ["00"], "64 hexadecimal digits"),
        (4, ["00" * 32] * 25, "not a list that fits"),
        (5, 536870912, "8 hexadecimal digits"),
        (5, "2000000", "8 hexadecimal digits"),
        (6, "٣" * 8, "8 hexadecimal digits"),
        (7, None, "8 hexadecimal digits"),
        (8, 1, "neither true nor false"),
    ],
)
def test_malformed_notifies_are_refused(index: int, value: object, error: str) -> None:
    fields = params()
    fields[index] = value
    with pytest.raises(BadJob, match=error):
        parse_notify(fields)


def test_short_notifies_are_refused_and_long_ones_taken() -> None:
    with pytest.raises(BadJob, match="8 fields"):
        parse_notify(params()[:8])
    assert parse_notify([*params(), "extra"]).clean


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
        max_size=10,
    ),
    st.integers(0, 9),
)
def test_garbage_in_a_notify_is_a_bad_job_and_nothing_else(values: list[Any], start: int) -> None:
    for fields in (values, params()[:start] + values, params()[:start] + values[:1] + params()[start + 1 :]):
        try:
            notify = parse_notify(fields)
            check_work(work(notify=notify), ANY_TARGET)
        except BadJob:
            continue
        assert notify.job_id


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"nbits": 0}, "impossible"),
        ({"nbits": 0x01800001}, "impossible"),
        ({"nbits": 0xFF7FFFFF}, "impossible"),
        ({"nbits": 0x207FFFFF}, "easier than this network"),
        ({"coinbase1": b""}, "no transaction"),
        ({"coinbase2": b""}, "no transaction"),
        ({"coinbase1": b"\x01\0\0\0\x01" + b"\x11" * 36 + b"\x08"}, "not a coinbase"),
    ],
)
def test_unminable_work_is_refused(changes: dict[str, Any], error: str) -> None:
    if len(changes.get("coinbase1", b"")) > 5:
        changes["coinbase2"] = bytes.fromhex("ffffffff010000000000000000015100000000")
    with pytest.raises(BadJob, match=error):
        check_work(work(notify=replace(work().notify, **changes)), DIFFICULTY_1_TARGET)


def test_example_work_is_good() -> None:
    check_work(work(), DIFFICULTY_1_TARGET)
    job = build_job(work(), b"\x07\x08")
    assert job.height == 101
    assert not job.single_solution
    assert job.target == target_from_nbits(0x1B00FFFF)
    assert job.share_target == DIFFICULTY_1_TARGET
    assert job.extranonce(5) == b"\x01\x02\x03\x04\x07\x08\x05\x00"
    assert job.max_time - job.time == 60


def test_a_block_is_a_share_too() -> None:
    """Where the network's target is easier than the pool's, only shares count."""
    easy = build_job(work(notify=replace(work().notify, nbits=0x207FFFFF)))
    assert easy.target == easy.share_target == DIFFICULTY_1_TARGET


def test_time_is_rolled_a_minute_and_never_past_its_field() -> None:
    assert build_job(work(notify=replace(work().notify, time=0xFFFFFFF0))).max_time == 0xFFFFFFFF
    sequence = UnitSequence(build_job(work(version_mask=0)))
    times = []
    for _ in range(62):
        unit = sequence.take(1)
        assert unit is not None
        times.append((unit.time - sequence.job.time, unit.extranonce2))
    assert times == [*((second, 0) for second in range(61)), (0, 1)]


@given(st.floats(1e-300, 1e60) | st.integers(1, 1 << 200))
def test_share_targets_are_exact(difficulty: float) -> None:
    target = target_of_share(parse_difficulty(difficulty))
    exact = Fraction(float(difficulty))
    assert target * exact <= DIFFICULTY_1_TARGET
    assert (target + 1) * exact > DIFFICULTY_1_TARGET or target == ANY_TARGET


def test_known_share_targets() -> None:
    assert target_of_share(1.0) == 0xFFFF << 208
    assert target_of_share(65536.0) == 0xFFFF << 192
    assert target_of_share(0.5) == 0x1FFFE << 208
    assert target_of_share(512.0) == int("00000000007fff80" + "0" * 48, 16)
    assert target_of_share(1e-30) == ANY_TARGET


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, -0.5, float("inf"), float("nan"), 10**400, 1e300, "8", None, True, [], {}, json.loads("1e999")],
)
def test_absurd_difficulties_are_refused(value: object) -> None:
    with pytest.raises(BadJob):
        parse_difficulty(value)


@pytest.mark.parametrize(
    ("script", "height"),
    [("00", 0), ("51", 1), ("60", 16), ("0111", 17), ("03a0860c", 820896), ("04ffffff7f", 0x7FFFFFFF), ("", None)],
)
def test_heights_of_coinbases(script: str, height: int | None) -> None:
    assert coinbase_height(bytes(42) + bytes.fromhex(script)) == height
    assert coinbase_height(bytes(42) + b"\x03\x01") is None
    assert coinbase_height(bytes(42) + b"\x4c\x01\x01") is None
