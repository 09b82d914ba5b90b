"""Rules for headers and blocks: every reject reason with its text and result, and the order in which they are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from chain.consensus.block import (
    ConnectChecks,
    bip30_lookups_needed,
    check_block,
    contextual_check_block,
    contextual_check_header,
    duplicate_invalid,
)
from chain.consensus.errors import BlockResult, ConsensusError, script_failure
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import BITCOIN, DEV, REGTEST, TESTNET4, NetworkParams
from chain.primitives.amount import COIN, MAX_MONEY
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, make_outpoint
from chain.script.flags import ScriptFlags
from tests.support.blocks import add_header, add_headers, coinbase, commit, make_block

FINAL = 0xFFFFFFFF


def spend(
    n: int, *, value: int = 1, witness: tuple[bytes, ...] = (), script: bytes = b"\x51", **options: int
) -> Transaction:
    """A transaction with one made-up input."""
    prevout = make_outpoint(n.to_bytes(32, "little"), 0)
    return Transaction.build(
        options.get("version", 2),
        [TxIn(prevout, b"", options.get("sequence", FINAL), witness)],
        [TxOut(Amount(value), script)],
        options.get("locktime", 0),
    )


def failure(check: Callable[[], object]) -> ConsensusError:
    with pytest.raises(ConsensusError) as caught:
        check()
    return caught.value


@pytest.fixture
def index() -> HeaderIndex:
    return HeaderIndex(REGTEST)


def block_of(index: HeaderIndex, transactions: Sequence[Transaction], **options: int | bytes) -> Block:
    return make_block(index.best_header, index.params, transactions, **options)  # type: ignore[arg-type]


def test_a_good_block_passes(index: HeaderIndex) -> None:
    txs = [coinbase(1), spend(1), spend(2, witness=(b"x",))]
    txs[0] = coinbase(1, [TxOut(Amount(50 * COIN), b"\x51"), commit(txs)], witness=(bytes(32),))
    block = block_of(index, txs)
    check_block(block, REGTEST)
    contextual_check_header(block.header, index.genesis, REGTEST, block.header.time)
    contextual_check_block(block, index.genesis, REGTEST)
    for params in (BITCOIN, REGTEST, DEV, TESTNET4):
        check_block(params.genesis, params)
        contextual_check_block(params.genesis, None, params)


# check_block


def test_merkle_root(index: HeaderIndex) -> None:
    block = block_of(index, [coinbase(1)], root=bytes(32))
    error = failure(lambda: check_block(block, REGTEST))
    assert (str(error), error.result) == ("bad-txnmrklroot, hashMerkleRoot mismatch", BlockResult.MUTATED)
    check_block(block, REGTEST, check_merkle=False)


def test_repeated_transactions_with_the_same_root(index: HeaderIndex) -> None:
    """CVE-2012-2459: three transactions and the same with the last one twice have one root."""
    txs = [coinbase(1), spend(1), spend(2)]
    block = block_of(index, txs)
    twin = Block.build(block.header, [*txs, txs[2]])
    check_block(block, REGTEST)
    error = failure(lambda: check_block(twin, REGTEST))
    assert (str(error), error.result) == ("bad-txns-duplicate, duplicate transaction", BlockResult.MUTATED)
    six = [coinbase(1), *[spend(n) for n in range(5)]]
    eight = Block.build(block_of(index, six).header, [*six, *six[4:]])
    assert failure(lambda: check_block(eight, REGTEST)).reason == "bad-txns-duplicate"


def test_proof_of_work_comes_first(index: HeaderIndex) -> None:
    block = block_of(index, [spend(1)], root=bytes(32))
    raw = bytearray(block.header.raw)
    raw[72:76] = (0x1D00FFFF).to_bytes(4, "little")
    hard = Block.build(BlockHeader.parse(bytes(raw)), block.transactions)
    error = failure(lambda: check_block(hard, REGTEST))
    assert (str(error), error.result) == ("high-hash, proof of work failed", BlockResult.INVALID_HEADER)
    assert failure(lambda: check_block(hard, REGTEST, check_pow=False)).reason == "bad-txnmrklroot"
    assert failure(lambda: check_block(hard, REGTEST, check_pow=False, check_merkle=False)).reason == "bad-cb-missing"


def test_sizes(index: HeaderIndex) -> None:
    """A million bytes without witnesses is the limit."""
    filler = spend(1, script=b"\x6a" * 990_000)
    base = block_of(index, [coinbase(1), filler, spend(2)]).base_size
    rest = 1_000_000 - base
    exact = block_of(
        index, [coinbase(1), filler, spend(2, script=b"\x6a" * (rest - 1))]
    )  # the length takes two bytes more
    assert exact.base_size == 1_000_000
    check_block(exact, REGTEST)
    over = block_of(index, [coinbase(1), filler, spend(2, script=b"\x6a" * rest)])
    error = failure(lambda: check_block(over, REGTEST))
    assert (str(error), error.result) == ("bad-blk-length, size limits failed", BlockResult.CONSENSUS)
    empty = Block(exact.header, [], exact.header.raw + b"\0")
    assert failure(lambda: check_block(empty, REGTEST, check_merkle=False)).reason == "bad-blk-length"


def test_coinbase_position(index: HeaderIndex) -> None:
    block = block_of(index, [spend(1), coinbase(1)])
    assert str(failure(lambda: check_block(block, REGTEST))) == "bad-cb-missing, first tx is not coinbase"
    block = block_of(index, [coinbase(1), spend(1), coinbase(2)])
    assert str(failure(lambda: check_block(block, REGTEST))) == "bad-cb-multiple, more than one coinbase"


def test_transaction_faults_name_the_transaction(index: HeaderIndex) -> None:
    bad = spend(1, value=-1)
    block = block_of(index, [coinbase(1), bad])
    error = failure(lambda: check_block(block, REGTEST))
    expected = f"bad-txns-vout-negative, Transaction check failed (tx hash {bad.txid[::-1].hex()}) "
    assert (str(error), error.result) == (expected, BlockResult.CONSENSUS)


def test_sigops_without_context(index: HeaderIndex) -> None:
    """20,000 legacy operations weigh 80,000."""
    check_block(block_of(index, [coinbase(1), spend(1, script=b"\xac" * 20_000)]), REGTEST)
    block = block_of(index, [coinbase(1), spend(1, script=b"\xac" * 20_001)])
    assert str(failure(lambda: check_block(block, REGTEST))) == "bad-blk-sigops, out-of-bounds SigOpCount"
    block = block_of(index, [coinbase(1), spend(1, script=b"\x51\xae" * 1_001)])  # 20 each, whatever stands before
    assert failure(lambda: check_block(block, REGTEST)).reason == "bad-blk-sigops"
    check_block(block_of(index, [coinbase(1), spend(1, script=b"\x51\xae" * 1_000)]), REGTEST)


# contextual_check_header


def header_on(
    prev: BlockIndexEntry, params: NetworkParams, *, time: int | None = None, version: int = 4
) -> BlockHeader:
    return make_block(prev, params, [coinbase(prev.height + 1)], time=time, version=version, solve=False).header


@pytest.mark.parametrize(
    ("version", "height", "shown"),
    [
        (1, 1, "0x00000001"),
        (2, 1, "0x00000002"),
        (3, 1, "0x00000003"),
        (0, 1, "0x00000000"),
        (-1, 1, "0xffffffff"),
        (-(2**31), 1, "0x80000000"),
    ],
)
def test_outdated_versions(index: HeaderIndex, version: int, height: int, shown: str) -> None:
    header = header_on(index.genesis, REGTEST, version=version)
    error = failure(lambda: contextual_check_header(header, index.genesis, REGTEST, header.time))
    assert str(error) == f"bad-version({shown}), rejected nVersion={shown} block"
    assert error.result is BlockResult.INVALID_HEADER


def test_versions_become_outdated_one_by_one() -> None:
    params = replace(REGTEST, bip34_height=5, bip66_height=10, bip65_height=15)
    index = HeaderIndex(params)
    for height in range(1, 20):
        prev = index.best_header
        for version in range(1, 5):
            header = header_on(prev, params, version=version)
            least = 4 if height >= 15 else 3 if height >= 10 else 2 if height >= 5 else 0
            if version >= least:
                contextual_check_header(header, prev, params, header.time)
            else:
                error = failure(lambda: contextual_check_header(header, prev, params, header.time))  # noqa: B023
                assert error.reason == f"bad-version(0x{version:08x})"
        add_header(index, prev)


def test_header_faults_come_in_cores_order(index: HeaderIndex) -> None:
    """bad-diffbits, then time-too-old, time-timewarp-attack, time-too-new, bad-version."""
    params = replace(REGTEST, enforce_bip94=True)
    prev = add_headers(index, index.genesis, 142)
    prev = add_header(index, prev, time=prev.time + 100_000)
    median = prev.median_time_past()
    header = header_on(prev, params, time=median, version=1)
    wrong_bits = BlockHeader.build(1, prev.hash, bytes(32), median, 0x1D00FFFF, 0)
    assert failure(lambda: contextual_check_header(wrong_bits, prev, params, 0)).reason == "bad-diffbits"
    assert failure(lambda: contextual_check_header(header, prev, params, 0)).reason == "time-too-old"
    header = header_on(prev, params, time=median + 1, version=1)
    error = failure(lambda: contextual_check_header(header, prev, params, 0))
    assert str(error) == "time-timewarp-attack, block's timestamp is too early on diff adjustment block"
    assert failure(lambda: contextual_check_header(header, prev, REGTEST, 0)).reason == "time-too-new"
    header = header_on(prev, params, time=prev.time - 600, version=1)
    assert failure(lambda: contextual_check_header(header, prev, params, 0)).reason == "time-too-new"
    assert failure(lambda: contextual_check_header(header, prev, params, 1 << 32)).reason == "bad-version(0x00000001)"


def test_our_networks_allow_less_drift() -> None:
    index = HeaderIndex(DEV)
    header = header_on(index.genesis, DEV)
    contextual_check_header(header, index.genesis, DEV, header.time - 600)
    assert (
        failure(lambda: contextual_check_header(header, index.genesis, DEV, header.time - 601)).reason == "time-too-new"
    )


# contextual_check_block


def test_final_by_height_and_by_median_time(index: HeaderIndex) -> None:
    prev = add_headers(index, index.genesis, 20)
    median = prev.median_time_past()
    for locktime, ok in ((20, True), (21, False), (median - 1, True), (median, False), (prev.time, False)):
        block = block_of(index, [coinbase(21), spend(1, locktime=locktime, sequence=0)])
        if ok:
            contextual_check_block(block, prev, REGTEST)
        else:
            error = failure(lambda: contextual_check_block(block, prev, REGTEST))  # noqa: B023
            assert str(error) == "bad-txns-nonfinal, non-final transaction"
    before_csv = replace(REGTEST, csv_height=1000)  # then the block's own time counts
    contextual_check_block(block_of(index, [coinbase(21), spend(1, locktime=prev.time, sequence=0)]), prev, before_csv)


@pytest.mark.parametrize("height", [1, 16, 17, 127, 128, 255, 256, 32767, 32768, 500_000])
def test_height_in_the_coinbase(height: int) -> None:
    index = HeaderIndex(REGTEST)
    prev = add_header(index, index.genesis)
    prev.height = height - 1  # nothing here looks below the tip but the times
    good = make_block(index.genesis, REGTEST, [coinbase(height)])
    contextual_check_block(good, prev, replace(REGTEST, csv_height=10**9))
    for other in (height + 1, height - 1):
        bad = make_block(index.genesis, REGTEST, [coinbase(other, extra=b"\0" * 6, locktime=0)])
        error = failure(lambda: contextual_check_block(bad, prev, replace(REGTEST, csv_height=10**9)))  # noqa: B023
        assert str(error) == "bad-cb-height, block height mismatch in coinbase"
    contextual_check_block(good, prev, replace(REGTEST, csv_height=10**9, bip34_height=height + 1))


def test_witness_commitments(index: HeaderIndex) -> None:
    txs = [coinbase(1), spend(1, witness=(b"x",))]
    good = TxOut(Amount(0), commit(txs).script_pubkey + b"anything")
    wrong = TxOut(Amount(0), commit(txs).script_pubkey[:-1] + bytes([commit(txs).script_pubkey[-1] ^ 1]))
    short = TxOut(Amount(0), commit(txs).script_pubkey[:-1])

    def error_of(outputs: list[TxOut], witness: tuple[bytes, ...] = (bytes(32),), **options: int) -> str:
        params = replace(REGTEST, **options)  # type: ignore[arg-type]
        block = block_of(index, [coinbase(1, outputs, witness=witness), txs[1]])
        return error_of_block(block, params)

    def error_of_block(block: Block, params: NetworkParams) -> str:
        check_block(block, params)
        try:
            contextual_check_block(block, index.genesis, params)
        except ConsensusError as error:
            return str(error) if error.result is BlockResult.MUTATED else f"{error.result}"
        return ""

    unexpected = "unexpected-witness, CheckWitnessMalleation : unexpected witness data found"
    mismatch = "bad-witness-merkle-match, CheckWitnessMalleation : witness merkle commitment mismatch"
    nonce = "bad-witness-nonce-size, CheckWitnessMalleation : invalid witness reserved value size"
    assert error_of([good]) == ""
    assert error_of([wrong, good]) == ""  # the last one counts
    assert error_of([good, wrong]) == mismatch
    assert error_of([good, short]) == ""
    assert error_of([short]) == unexpected
    assert error_of([TxOut(Amount(1), b"\x51")]) == unexpected
    assert error_of([good], ()) == nonce
    assert error_of([good], (bytes(31),)) == nonce
    assert error_of([good], (bytes(32), b"")) == nonce
    assert error_of([good], (bytes(31) + b"\1",)) == mismatch
    assert error_of([good], segwit_height=2) == unexpected
    plain = block_of(index, [coinbase(1), spend(1)])
    contextual_check_block(plain, index.genesis, REGTEST)


def test_weight(index: HeaderIndex) -> None:
    """Witness bytes weigh one: four million in all."""

    def block_with(size: int) -> Block:
        txs = [coinbase(1), spend(1, witness=(bytes(size),))]
        return block_of(index, [coinbase(1, [commit(txs)], witness=(bytes(32),)), txs[1]])

    size = 3_990_000
    size += 4_000_000 - block_with(size).weight
    exact = block_with(size)
    assert exact.weight == 4_000_000
    contextual_check_block(exact, index.genesis, REGTEST)
    error = failure(lambda: contextual_check_block(block_with(size + 1), index.genesis, REGTEST))
    assert (str(error), error.result) == (
        "bad-blk-weight, ContextualCheckBlock : weight limit failed",
        BlockResult.CONSENSUS,
    )


# Connecting


def checks(height: int = 1, params: NetworkParams = REGTEST) -> ConnectChecks:
    index = HeaderIndex(params)
    return ConnectChecks(bytes(32), add_headers(index, index.genesis, height - 1), params)


def coin(value: int, height: int = 0, coinbase: bool = False, script: bytes = b"\x51") -> bytes:
    return pack_coin(value, script, height, coinbase)


def test_fees_and_coinbase_amount() -> None:
    rules = checks(200)
    rules.coinbase(coinbase(200))
    assert rules.transaction(spend(1, value=7), [coin(10)]) == 3
    assert rules.transaction(spend(2, value=5), [coin(5)]) == 0
    limit = 25 * COIN + 3
    rules.finish(coinbase(200, [TxOut(Amount(limit), b"\x51")]))
    error = failure(lambda: rules.finish(coinbase(200, [TxOut(Amount(limit), b"\x51"), TxOut(Amount(1), b"\x51")])))
    assert str(error) == f"bad-cb-amount, coinbase pays too much (actual={limit + 1} vs limit={limit})"
    assert error.result is BlockResult.CONSENSUS


def test_input_faults_name_the_transaction() -> None:
    tx = spend(1, value=2)
    txid_hex = tx.txid[::-1].hex()
    error = failure(lambda: checks(150).transaction(tx, [coin(2, 100, True)]))
    expected = "bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 50 in transaction "
    assert str(error) == expected + txid_hex
    error = failure(lambda: checks(150).transaction(tx, [coin(1)]))
    assert (
        str(error) == f"bad-txns-in-belowout, value in (0.00000001) < value out (0.00000002) in transaction {txid_hex}"
    )
    error = failure(lambda: checks(150).transaction(tx, [coin(MAX_MONEY + 1)]))
    assert str(error) == f"bad-txns-inputvalues-outofrange,  in transaction {txid_hex}"
    error = checks().missing_inputs(tx)
    assert (
        str(error) == f"bad-txns-inputs-missingorspent, CheckTxInputs: inputs missing/spent in transaction {txid_hex}"
    )


def test_fees_out_of_range() -> None:
    rules = checks()
    rules.transaction(spend(1, value=0), [coin(MAX_MONEY)])
    error = failure(lambda: rules.transaction(spend(2, value=0), [coin(1)]))
    assert str(error) == "bad-txns-accumulated-fee-outofrange, accumulated fee in the block out of range"


def test_relative_locks_when_connecting() -> None:
    tx = spend(1, sequence=10)
    checks(110).transaction(tx, [coin(1, 100)])
    error = failure(lambda: checks(110).transaction(tx, [coin(1, 101)]))
    assert str(error) == f"bad-txns-nonfinal, contains a non-BIP68-final transaction {tx.txid[::-1].hex()}"
    checks(110, replace(REGTEST, csv_height=111)).transaction(tx, [coin(1, 101)])


def test_sigop_cost_of_a_block() -> None:
    rules = checks()
    rules.coinbase(coinbase(1, [TxOut(Amount(0), b"\xac" * 19_000)]))
    assert rules.sigop_cost == 76_000
    p2wsh = b"\0\x20" + bytes(32)
    heavy = spend(1, witness=(b"\xac" * 4_000,))
    rules.transaction(heavy, [coin(1, script=p2wsh)])
    assert rules.sigop_cost == 80_000
    error = failure(lambda: rules.transaction(spend(2, witness=(b"\xac",)), [coin(1, script=p2wsh)]))
    assert str(error) == "bad-blk-sigops, too many sigops"
    assert rules.flags & ScriptFlags.WITNESS


def test_bip30_lookups() -> None:
    regtest = HeaderIndex(REGTEST)
    tip = add_headers(regtest, regtest.genesis, 20)
    for params in (DEV, REGTEST):  # every coinbase says its height
        assert not bip30_lookups_needed(bytes(32), tip, params)
    params = replace(REGTEST, bip34_height=2)  # the first block's need not, and may be repeated
    assert bip30_lookups_needed(bytes(32), tip, params)
    assert bip30_lookups_needed(bytes(32), regtest.genesis, params)
    # on the chain with the known block at the BIP34 height they end
    params = replace(REGTEST, bip34_height=10)
    known = tip.ancestor(10)
    assert known is not None
    params = replace(params, bip34_hash=known.hash)
    assert not bip30_lookups_needed(bytes(32), tip, params)
    assert bip30_lookups_needed(bytes(32), known.prev or tip, params)
    other = add_headers(regtest, regtest.genesis, 20, salt=1)
    assert bip30_lookups_needed(bytes(32), other, params)
    late = add_header(regtest, tip)
    late.height = 1_983_701
    assert bip30_lookups_needed(bytes(32), late, params)
    # the two repetitions of 2010
    block_hash, height = next(iter(BITCOIN.bip30_exceptions.items()))
    late.height = height - 1
    assert not bip30_lookups_needed(block_hash, late, replace(BITCOIN, bip34_hash=None))
    assert bip30_lookups_needed(bytes(32), late, replace(BITCOIN, bip34_hash=None))


def test_texts_of_the_rest() -> None:
    shown = "11" * 32
    assert str(duplicate_invalid(b"\x11" * 32)) == f"duplicate-invalid, block {shown} was previously marked invalid"
    assert str(script_failure("Signature must be zero")) == "block-script-verify-flag-failed (Signature must be zero)"
    assert NULL_OUTPOINT[:32] == bytes(32)
