"""Ten thousand real headers each of mainnet and testnet3: all accepted from genesis, and every altered one refused for
the right reason.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chain.consensus.block import accept_header, check_header, contextual_check_header
from chain.consensus.errors import BlockResult, ConsensusError, RejectReason
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import BITCOIN, TESTNET3, NetworkParams
from chain.primitives.header import BlockHeader
from chain.primitives.types import hash_to_hex

NOW = 1_800_000_000
CHAINS = {
    "mainnet": (BITCOIN, "00000000fbc97cc6c599ce9c24dd4a2243e2bfd518eda56e1d5e47d29e29c3a7"),
    "testnet3": (TESTNET3, "000000001655e2a7293f28383a2965b2f0add77fd6ac383986e90971a07467d4"),
}


def read_headers(vectors: Path, name: str) -> list[BlockHeader]:
    data = (vectors / "headers" / f"{name}-0-9999.bin").read_bytes()
    return [BlockHeader.parse(data[i : i + 80]) for i in range(0, len(data), 80)]


def grow(headers: list[BlockHeader], params: NetworkParams) -> HeaderIndex:
    index = HeaderIndex(params)
    for header in headers[1:]:
        accept_header(header, index.entries, params, NOW)
        index.add(header)
    return index


@pytest.fixture(scope="module", params=list(CHAINS))
def chain(request: pytest.FixtureRequest, vectors: Path) -> tuple[HeaderIndex, list[BlockHeader]]:
    params, _ = CHAINS[request.param]
    headers = read_headers(vectors, request.param)
    return grow(headers, params), headers


def refused(header: BlockHeader, prev: BlockIndexEntry, params: NetworkParams, now: float = NOW) -> ConsensusError:
    """The error of the contextual checks, which is what remains once a miner has found a hash for an altered header."""
    with pytest.raises(ConsensusError) as caught:
        contextual_check_header(header, prev, params, now)
    return caught.value


def altered(header: BlockHeader, **changes: int | bytes) -> BlockHeader:
    fields: dict[str, int | bytes] = {
        name: getattr(header, name) for name in ("version", "prev_hash", "merkle_root", "time", "nbits", "nonce")
    }
    fields.update(changes)
    return BlockHeader.build(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(CHAINS))
def test_the_whole_chain_is_accepted_from_genesis(name: str, vectors: Path) -> None:
    params, tip_hex = CHAINS[name]
    headers = read_headers(vectors, name)
    assert headers[0].raw == params.genesis.header.raw
    index = grow(headers, params)
    assert index.best_header.height == 9_999
    assert hash_to_hex(index.best_header.hash) == tip_hex
    assert len(index) == 10_000


def test_chains_are_not_interchangeable(vectors: Path) -> None:
    index = HeaderIndex(BITCOIN)
    with pytest.raises(ConsensusError) as caught:
        accept_header(read_headers(vectors, "testnet3")[1], index.entries, BITCOIN, NOW)
    assert (caught.value.reason, caught.value.result) == (RejectReason.PREV_BLK_NOT_FOUND, BlockResult.MISSING_PREV)


def test_any_flipped_bit_is_refused(chain: tuple[HeaderIndex, list[BlockHeader]], rng: random.Random) -> None:
    """Without new work every altered header fails on its hash, or names a parent or target that it must not."""
    index, headers = chain
    reasons = set()
    for bit in range(640):
        header = headers[rng.randrange(1, len(headers))]
        raw = bytearray(header.raw)
        raw[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ConsensusError) as caught:
            accept_header(BlockHeader.parse(bytes(raw)), index.entries, index.params, NOW)
        reasons.add(caught.value.reason)
        assert caught.value.result is BlockResult.INVALID_HEADER
    assert reasons == {RejectReason.HIGH_HASH}


def test_altered_nbits_with_new_work_are_refused(
    chain: tuple[HeaderIndex, list[BlockHeader]], rng: random.Random
) -> None:
    index, headers = chain
    for _ in range(300):
        header = headers[rng.randrange(1, len(headers))]
        bad = altered(header, nbits=header.nbits ^ 1 << rng.randrange(32))
        error = refused(bad, index.entries[header.prev_hash], index.params)
        assert str(error) == "bad-diffbits, incorrect proof of work"
        assert error.result is BlockResult.INVALID_HEADER


def test_altered_times_with_new_work_are_refused(
    chain: tuple[HeaderIndex, list[BlockHeader]], rng: random.Random
) -> None:
    index, headers = chain
    params = index.params
    for _ in range(100):
        header = headers[rng.randrange(12, len(headers))]
        prev = index.entries[header.prev_hash]
        median = sorted(h.time for h in headers[prev.height - 10 : prev.height + 1])[5]
        assert median == prev.median_time_past()
        error = refused(altered(header, time=median), prev, params)
        expected = "time-too-old, block's timestamp is too early"
        assert str(error) == (
            expected if error.reason == RejectReason.TIME_TOO_OLD else "bad-diffbits, incorrect proof of work"
        )
        if params is BITCOIN:  # on testnet3 a changed time may ask for other nBits first
            assert error.reason == RejectReason.TIME_TOO_OLD
            contextual_check_header(altered(header, time=median + 1), prev, params, NOW)
        now = header.time - params.max_future_drift_s
        contextual_check_header(header, prev, params, now)
        error = refused(header, prev, params, now - 1)
        assert str(error) == "time-too-new, block timestamp too far in the future"
        assert error.result is BlockResult.TIME_FUTURE


def test_a_hash_above_its_target_is_refused(chain: tuple[HeaderIndex, list[BlockHeader]], rng: random.Random) -> None:
    index, headers = chain
    for _ in range(200):
        header = headers[rng.randrange(1, len(headers))]
        with pytest.raises(ConsensusError) as caught:
            check_header(altered(header, nonce=rng.randrange(1 << 32)), index.params)
        assert str(caught.value) == "high-hash, proof of work failed"
    for nbits in (
        0,
        0x1D80FFFF,
        0x207FFFFF,
        0x1D010000,
        0xFF00FFFF,
    ):  # zero, negative, above the limit, just above it, overflow
        with pytest.raises(ConsensusError, match="high-hash"):
            check_header(altered(headers[1], nbits=nbits), index.params)


def test_unknown_and_failed_parents(chain: tuple[HeaderIndex, list[BlockHeader]]) -> None:
    index, headers = chain
    copy = grow(headers[:20], index.params)
    copy.mark_failed(copy.entries[headers[10].hash])
    for parent in (10, 15, 19):
        with pytest.raises(ConsensusError) as caught:
            accept_header(headers[parent + 1], copy.entries, index.params, NOW)
        assert (str(caught.value), caught.value.result) == ("bad-prevblk", BlockResult.INVALID_PREV)
    with pytest.raises(ConsensusError) as caught:
        accept_header(headers[30], copy.entries, index.params, NOW)
    assert (str(caught.value), caught.value.result) == ("prev-blk-not-found", BlockResult.MISSING_PREV)
