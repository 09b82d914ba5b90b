"""BIP54's bounds on both sides, beyond its published vectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chain.consensus import bip54
from chain.consensus.block import ConnectChecks, contextual_check_block, contextual_check_header
from chain.consensus.errors import BlockResult, ConsensusError
from chain.index import HeaderIndex
from chain.params import BITCOIN, DEV, PICKAXE
from chain.primitives.coin import pack_coin
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, make_outpoint
from chain.script.script import push_data
from tests.support.blocks import add_header, add_headers, coinbase, make_block

CHECKSIG = b"\xac"
P2SH = b"\xa9\x14" + bytes(20) + b"\x87"


def reason(check: Callable[[], object]) -> str:
    with pytest.raises(ConsensusError) as caught:
        check()
    return caught.value.reason


def spend(script_sigs: list[bytes], outputs: bytes = b"\x51") -> Transaction:
    return Transaction.build(
        2,
        [TxIn(make_outpoint(n.to_bytes(32, "little"), 0), script) for n, script in enumerate(script_sigs)],
        [TxOut(Amount(1), outputs)],
        0,
    )


def coin(script: bytes) -> bytes:
    return pack_coin(1, script, 1, False)


def test_it_binds_our_networks_only() -> None:
    assert bip54.is_bip54_active(1, PICKAXE)
    assert bip54.is_bip54_active(1, DEV)
    assert not bip54.is_bip54_active(0, DEV)
    assert not bip54.is_bip54_active(10**7, BITCOIN)


def test_sigops_are_counted_where_they_run() -> None:
    assert bip54.legacy_sigops(spend([CHECKSIG * 3, b""]), [coin(CHECKSIG * 5), coin(b"\x51")]) == 8
    assert bip54.legacy_sigops(spend([b""], CHECKSIG * 100), [coin(b"\x51")]) == 0  # outputs run when they are spent
    assert bip54.legacy_sigops(spend([b""]), [coin(b"\x53\xae")]) == 3  # as many keys as stand before
    assert bip54.legacy_sigops(spend([b""]), [coin(b"\xae")]) == 20
    redeem = CHECKSIG * 7
    assert bip54.legacy_sigops(spend([push_data(redeem)]), [coin(P2SH)]) == 7
    assert (
        bip54.legacy_sigops(spend([push_data(redeem) + b"\x61"]), [coin(P2SH)]) == 0
    )  # not only pushes: no redeem script
    assert bip54.legacy_sigops(spend([b"\xac" + push_data(b"\x51")]), [coin(P2SH)]) == 1


def test_two_thousand_five_hundred_are_allowed() -> None:
    bip54.check_sigops(spend([b""]), [coin(CHECKSIG * 2_500)])
    assert reason(lambda: bip54.check_sigops(spend([b""]), [coin(CHECKSIG * 2_501)])) == "bad-txns-legacy-sigops"
    bip54.check_sigops(spend([b""] * 125), [coin(b"\xae")] * 125)
    assert reason(lambda: bip54.check_sigops(spend([b""] * 126), [coin(b"\xae")] * 126)) == "bad-txns-legacy-sigops"


def test_a_block_with_too_many_is_refused_when_connected() -> None:
    index = HeaderIndex(DEV)
    tx = spend([b""])
    rules = ConnectChecks(bytes(32), index.genesis, DEV)
    with pytest.raises(ConsensusError) as caught:
        rules.transaction(tx, [coin(CHECKSIG * 2_501)])
    shown = f"bad-txns-legacy-sigops, non-witness sigops exceed bip54 limit in transaction {tx.txid[::-1].hex()}"
    assert str(caught.value) == shown


def test_timestamps_at_both_ends_of_a_period() -> None:
    index = HeaderIndex(DEV)
    tip = add_headers(index, index.genesis, 2_013)
    first_time = index.genesis.time
    tip = add_header(index, tip)
    assert tip.height == 2_014
    # block 2,015 ends the period that genesis begins; its median time past alone would allow much less
    bip54.check_timestamp(first_time, tip)
    assert reason(lambda: bip54.check_timestamp(first_time - 1, tip)) == "time-murch-zawy-attack"
    tip = add_header(index, tip, time=tip.time + 100_000)
    bip54.check_timestamp(tip.time - 7_200, tip)
    assert reason(lambda: bip54.check_timestamp(tip.time - 7_201, tip)) == "time-timewarp-attack"
    header = BlockHeader.build(4, tip.hash, bytes(32), tip.time - 7_201, 0x207FFFFF, 0)
    with pytest.raises(ConsensusError) as caught:
        contextual_check_header(header, tip, DEV, tip.time)
    assert caught.value.result is BlockResult.INVALID_HEADER
    tip = add_header(index, tip)
    bip54.check_timestamp(tip.time - 10**6, tip)  # elsewhere only the median counts


def test_coinbases_and_sizes_in_a_block() -> None:
    index = HeaderIndex(DEV)
    prev = add_headers(index, index.genesis, 4)

    def judge(cb: Transaction, *others: Transaction) -> None:
        contextual_check_block(make_block(prev, DEV, [cb, *others]), prev, DEV)

    judge(coinbase(5))
    assert reason(lambda: judge(coinbase(5, locktime=3))) == "bad-cb-locktime"
    assert reason(lambda: judge(coinbase(5, locktime=0))) == "bad-cb-locktime"
    assert reason(lambda: judge(coinbase(5, locktime=5))) == "bad-txns-nonfinal"
    assert reason(lambda: judge(coinbase(5, sequence=0xFFFFFFFF))) == "bad-cb-sequence"
    for size, ok in ((3, True), (4, False), (5, True)):
        tx = spend([b""], b"\x51" * size)
        assert tx.base_size == 60 + size
        if ok:
            judge(coinbase(5), tx)
        else:
            assert reason(lambda: judge(coinbase(5), tx)) == "bad-txns-size-64"  # noqa: B023
