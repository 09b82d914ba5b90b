"""What compiled code says of whole blocks, held against the rules and parsers in Python that it repeats.

PICKAXE_DIFFERENTIAL_NATIVE multiplies how much is tried (1 by default: some seconds).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.connect import outputs_as_coins
from chain.consensus.bip54 import legacy_sigops
from chain.consensus.block import check_block
from chain.consensus.constants import BIP54_MAX_TX_SIGOPS, MAX_BLOCK_SIGOPS_COST
from chain.consensus.errors import ConsensusError
from chain.consensus.tx import check_inputs, check_transaction, is_final
from chain.events import BlockRejected
from chain.params import REGTEST
from chain.primitives.amount import MAX_MONEY
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from chain.script.errors import ScriptError
from chain.script.flags import MANDATORY_FLAGS, ScriptFlags
from chain.script.script import legacy_sigop_count, push_data, sigop_cost
from chain.script.spends import BlockSpends, Spend, SpendBatch
from chain.storage.undo import encode_undo
from tests.property.test_kernel_rules import damaged, made_up
from tests.property.test_script_checks import random_script
from tests.support.block_generator import BlockGenerator
from tests.support.blocks import coinbase
from tests.support.compiled import reading
from tests.support.spends import SpendGenerator, damage

native = pytest.importorskip("chain.consensus.native")
pack_outputs = pytest.importorskip("chain.primitives.native.coins").pack_outputs
encode_natively = pytest.importorskip("chain.storage.undo_native").encode_undo

TIMES = int(os.environ.get("PICKAXE_DIFFERENTIAL_NATIVE", "1"))
FIELDS = (
    "version",
    "prevouts",
    "script_sigs",
    "sequences",
    "witnesses",
    "values",
    "scripts",
    "locktime",
    "has_witness",
)
HEADER = BlockHeader.build(4, bytes(32), bytes(32), 0, 0x207FFFFF, 0)


@pytest.fixture(autouse=True)
def compiled() -> Iterator[None]:
    with reading("compiled"):
        yield


def read(raw: bytes) -> Block | str:
    """The block, or why it is none."""
    try:
        return Block.parse(raw)
    except DecodeError as error:
        return str(error)


def in_python(raw: bytes) -> Block | str:
    with reading("python"):
        return read(raw)


def same_block(raw: bytes) -> Block | None:
    """What both readers make of it; None if both refuse it in the same words."""
    expected, block = in_python(raw), read(raw)
    if isinstance(expected, str) or isinstance(block, str):
        assert block == expected
        return None
    assert (block.raw, block.weight, len(block.transactions)) == (raw, expected.weight, len(expected.transactions))
    for ours, theirs in zip(block.transactions, expected.transactions, strict=True):
        assert (ours.raw, ours.txid, ours.wtxid) == (theirs.raw, theirs.txid, theirs.wtxid)
        assert (ours.stripped, ours.base_size) == (theirs.stripped, theirs.base_size)
        assert ours.serialized_outputs == theirs.serialized_outputs
        assert [getattr(ours, name) for name in FIELDS] == [getattr(theirs, name) for name in FIELDS]
    return block


def test_blocks_are_read_alike(rng: random.Random, vectors: Path) -> None:
    readable = tabled = 0
    for _ in range(700 * TIMES):
        raw = made_up(rng).raw
        block = same_block(damaged(rng, raw) if rng.random() < 0.7 else raw)
        readable += block is not None
        tabled += block is not None and block.tables is not None
    assert readable > 100
    assert tabled > 50
    for name in ("mainnet/block413567", "mainnet/block482683", "testnet3/block928816"):
        block = same_block((vectors / "blocks" / f"{name}.raw").read_bytes())
        assert block is not None
        assert block.tables is not None


def test_a_field_that_no_transaction_has_is_missing_from_one_that_is_unread(rng: random.Random) -> None:
    block = Block.parse(Block.build(HEADER, [coinbase(7)]).raw)
    with pytest.raises(AttributeError, match="'Transaction' object has no attribute 'colour'"):
        _ = block.transactions[0].colour  # type: ignore[attr-defined]
    assert block.transactions[0].is_coinbase


def passes(tx: Transaction, first: bool) -> bool:
    try:
        check_transaction(tx)
    except ConsensusError:
        return False
    return first or bytes(32) + b"\xff" * 4 not in tx.prevouts


def test_no_broken_rule_goes_unnoticed(rng: random.Random) -> None:
    seen: Counter[bool] = Counter()
    for _ in range(1500 * TIMES):
        block = Block.parse(made_up(rng).raw)
        if block.tables is None:
            continue
        right = [passes(tx, number == 0) for number, tx in enumerate(block.transactions)]
        assert native.examine(block.tables) == [number for number, fine in enumerate(right) if not fine]
        assert native.total_legacy_sigops(block.tables) == sum(map(legacy_sigop_count, block.transactions))
        height, time = rng.choice([(0, 0), (7, 5), (8, 5), (1000, 2**31)])
        assert native.all_final(block.tables, height, time) == all(
            is_final(tx, height, time) for tx in block.transactions
        )
        seen.update(right)
    assert min(seen[True], seen[False]) > 300


def test_a_transaction_of_many_inputs_is_left_to_python() -> None:
    inputs = [TxIn(OutPoint(n.to_bytes(36, "little"))) for n in range(1, 202)]
    outputs = [TxOut(Amount(1), b"")]
    for count, repeat, unproven in ((200, False, []), (201, False, [1]), (150, True, [1])):
        chosen = inputs[:count] + inputs[:1] * repeat
        block = Block.build(HEADER, [coinbase(1), Transaction.build(2, chosen, outputs)])
        block = Block.parse(block.raw)
        assert native.examine(block.tables) == unproven
        if repeat:
            with pytest.raises(ConsensusError, match="bad-txns-inputs-duplicate"):
                check_block(block, REGTEST, check_pow=False, check_merkle=False)
        else:
            check_block(block, REGTEST, check_pow=False, check_merkle=False)
            assert native.examine(block.tables) == [], "and is proven then"


def spending_block(rng: random.Random) -> tuple[Block, list[list[bytes]]]:
    """Transactions as of a block, some of them damaged or of random scripts, and the coins of each."""
    generator = SpendGenerator(rng)
    transactions, coins = [coinbase(7)], list[list[bytes]]()
    while len(transactions) < 12:
        if rng.random() < 0.6:
            tx, spent = generator.transaction()
            if rng.random() < 0.3:
                tx, spent = damage(rng, tx, spent)
        else:
            tx, spent = random_spend(rng)
        if tx.prevouts and len(spent) == len(tx.prevouts):
            transactions.append(tx)
            coins.append(spent)
    return Block.parse(Block.build(HEADER, transactions).raw), coins


def random_spend(rng: random.Random) -> tuple[Transaction, list[bytes]]:
    """Scripts of no sense, in all the places where signature operations are counted, and amounts near the bounds."""
    inputs, spent = [], []
    for _ in range(rng.randrange(1, 4)):
        programs = [b"\0\x14" + bytes(20), b"\0\x20" + bytes(32), b"\x51\x02\1\2"]
        redeem = rng.choice([random_script(rng)[:75], *programs, b""])
        cut = random_script(rng)[: rng.randrange(60)]
        script_sig = rng.choice([b"", push_data(redeem), b"\x51" + push_data(redeem), b"\xac" + push_data(redeem), cut])
        script = rng.choice(
            [
                b"\xa9\x14" + bytes(20) + b"\x87",
                *programs,
                random_script(rng),
                b"",
            ]
        )
        witness = rng.choice([(), (b"x",), (b"", random_script(rng)), (random_script(rng),)])
        inputs.append(TxIn(OutPoint(rng.randbytes(36)), script_sig, rng.choice([0, 5, 0xFFFFFFFF]), witness))
        value = rng.choice([0, 1, 700, 10**6, MAX_MONEY, MAX_MONEY + 1]) if rng.random() < 0.1 else 10**6
        spent.append(pack_coin(value, script, rng.choice([0, 1, 100, 101, 500]), rng.random() < 0.05))
    outputs = [TxOut(Amount(rng.choice([0, 5, 10**5])), random_script(rng)) for _ in range(rng.randrange(1, 3))]
    return Transaction.build(rng.choice([1, 2, 0xFFFFFFFF]), inputs, outputs), spent


def expected_spending(
    block: Block, coins: list[list[bytes]], height: int, flags: ScriptFlags
) -> tuple[int, int] | None:
    fees = cost = 0
    for tx, spent in zip(block.transactions[1:], coins, strict=True):
        try:
            check_transaction(tx)
            fees += check_inputs(tx, spent, height)
        except ConsensusError:
            return None
        cost += sigop_cost(tx, spent, flags)
    return (fees, cost) if cost <= MAX_BLOCK_SIGOPS_COST and fees <= MAX_MONEY else None


def test_spending_is_judged_alike(rng: random.Random) -> None:
    seen: Counter[str] = Counter()
    for _ in range(150 * TIMES):
        block, coins = spending_block(rng)
        if block.tables is None:
            continue
        flat = [coin for spent in coins for coin in spent]
        tables = block.tables.with_coins(flat)
        for number, spent in enumerate(coins, 1):
            assert flat[tables.inputs_of(number)] == spent
        for flags in (MANDATORY_FLAGS, ScriptFlags.P2SH, ScriptFlags.NONE):
            found = native.check_spending(tables, 201, flags, bip54=True)
            expected = expected_spending(block, coins, 201, flags)
            assert (None if found is None else (found.fees, found.sigop_cost)) == expected
            if found is None:
                seen["refused"] += 1
                continue
            seen["right"] += 1
            for number, (tx, spent) in enumerate(zip(block.transactions[1:], coins, strict=True), 1):
                locked = tx.version >= 2 and min(tx.sequences) < 1 << 31
                unproven = locked or legacy_sigops(tx, spent) > BIP54_MAX_TX_SIGOPS
                assert (number in found.unproven) == unproven
                seen["locked"] += locked
        undo = encode_natively(tables)
        assert undo == encode_undo(coins) or (undo is None and any(len(coin) == 12 + 67 for coin in flat))
        created = dict[bytes, bytes]()
        for number, tx in enumerate(block.transactions):
            created.update(outputs_as_coins(tx, 201, number == 0))
        assert pack_outputs(block.tables, 201) == created
    assert min(seen["right"], seen["refused"], seen["locked"]) > 20, seen


def test_operations_beyond_bip54_are_noticed() -> None:
    many = b"\xac" * 2501
    for size, unproven in ((2500, []), (2501, [1])):
        tx = Transaction.build(1, [TxIn(OutPoint(b"\1" * 36))], [TxOut(Amount(1), b"")])
        tables = Block.parse(Block.build(HEADER, [coinbase(1), tx]).raw).tables
        assert tables is not None
        tables = tables.with_coins([pack_coin(9, many[:size], 1, False)])
        assert native.check_spending(tables, 200, MANDATORY_FLAGS, bip54=True).unproven == unproven
        assert native.check_spending(tables, 200, MANDATORY_FLAGS, bip54=False).unproven == []


def test_undo_data_of_every_kind_of_coin(rng: random.Random) -> None:
    key = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    scripts = [
        b"\x76\xa9\x14" + key[:20] + b"\x88\xac",
        b"\x76\xa9\x14" + key[:20] + b"\x88\xad",
        b"\xa9\x14" + key[:20] + b"\x87",
        b"\xa9\x14" + key[:20] + b"\x88",
        b"\x21\x02" + key + b"\xac",
        b"\x21\x04" + key + b"\xac",
        *(rng.randbytes(size) for size in (0, 1, 22, 34, 121, 122, 300, 9999, 10_000)),
    ]
    uncompressed = b"\x41\x04" + key + rng.randbytes(32) + b"\xac"
    amounts = [0, 1, 9, 10, 10**8, 10**9, 10**10, 21 * 10**14, *(rng.randrange(21 * 10**14) for _ in range(20))]
    coins = [
        pack_coin(amount, script, height, cb)
        for script in scripts
        for amount, height, cb in zip(amounts, [0, 0, 1, 63, 64, 8255, 8256] * 4, [False, True] * 14, strict=True)
    ]
    inputs = [TxIn(OutPoint(n.to_bytes(36, "little"))) for n in range(1, len(coins) + 1)]
    tx = Transaction.build(2, inputs, [TxOut(Amount(1), b"")])
    tables = Block.parse(Block.build(HEADER, [coinbase(1), tx]).raw).tables
    assert tables is not None
    assert encode_natively(tables.with_coins(coins)) == encode_undo([coins])
    assert encode_natively(tables.with_coins([pack_coin(5, uncompressed, 3, False), *coins[1:]])) is None


def test_scripts_of_a_block_are_judged_as_those_of_its_transactions(rng: random.Random) -> None:
    valid = invalid = 0
    for _ in range(30 * TIMES):
        block, coins = spending_block(rng)
        if block.tables is None:
            continue
        transactions = block.transactions
        tables = block.tables.with_coins([coin for spent in coins for coin in spent])
        spends = list(map(Spend, transactions, [[], *coins], range(len(transactions))))
        known = bytearray(rng.random() < 0.2 for _ in spends)
        for first, last in ((1, len(spends)), *tables.ranges(3, 1)):
            batch = SpendBatch(MANDATORY_FLAGS)
            for spend in spends[first:last]:
                if not known[spend.position]:
                    batch.add(*spend)
            failure = BlockSpends(tables, spends.__getitem__, MANDATORY_FLAGS, known, first, last).verify()
            assert failure == batch.verify()
            valid += failure is None
            invalid += failure is not None and failure.error is not ScriptError.OK
    assert min(valid, invalid) > 10


def test_ranges_cover_a_block_once(rng: random.Random) -> None:
    for _ in range(20):
        inputs = [rng.choice([1, 1, 2, 5]) for _ in range(rng.randrange(30))]
        txs = [
            Transaction.build(2, [TxIn(OutPoint(rng.randbytes(36))) for _ in range(count)], [TxOut(Amount(1), b"")])
            for count in inputs
        ]
        tables = Block.parse(Block.build(HEADER, [coinbase(1), *txs]).raw).tables
        assert tables is not None
        for most, fewest in ((1, 1), (4, 1), (5, 3), (1000, 2), (1000, 1000)):
            ranges = tables.ranges(most, fewest)
            assert all(sum(inputs[first - 1 : last - 1]) <= most + 4 for first, last in ranges)
            assert [n for first, last in ranges for n in range(first, last)] == list(range(1, len(txs) + 1))


def test_what_has_passed_is_judged_once(rng: random.Random) -> None:
    """check_block finds the same whichever way a block was read, and leaves nothing behind in the block."""
    for _ in range(300 * TIMES):
        raw = made_up(rng).raw
        found = []
        for block in (Block.parse(raw), in_python(raw)):
            assert isinstance(block, Block)
            try:
                check_block(block, REGTEST, check_pow=False, check_merkle=False)
                found.append("")
            except ConsensusError as error:
                found.append(str(error))
        assert found[0] == found[1]


def submitted(chain: Chainstate, raw: bytes, how: str) -> str | list[tuple[str, ...]]:
    """What became of it, in full words."""
    with reading(how):
        try:
            events = chain.process_block(Block.parse(raw))
        except (DecodeError, ConsensusError) as error:
            chain.drain_events()
            return str(error)
    errors = [event.error if isinstance(event, BlockRejected) else None for event in events]
    return [(type(event).__name__, str(event.entry), str(error)) for event, error in zip(events, errors, strict=True)]


def test_whole_blocks_meet_the_same_fate(tmp_path: Path, rng: random.Random) -> None:
    """Damaged in some fifty ways or not at all: the same words, and after them the same coins and the same files."""
    generator = BlockGenerator(rng)
    by_python, by_compiled = tmp_path / "python", tmp_path / "compiled"
    fates: Counter[bool] = Counter()
    with (
        Chainstate(REGTEST, by_python, script_threads=0) as theirs,
        Chainstate(REGTEST, by_compiled, script_threads=1) as ours,
    ):
        for number in range(105 + 25 * TIMES):
            draft = generator.draft(0 if number < 95 else 5)
            tried = [generator.damaged(draft)[1].raw for _ in range(8 if number >= 105 else 0)]
            before = theirs.tip
            for raw in [*tried, draft.build().raw]:
                fate = submitted(theirs, raw, "python")
                assert submitted(ours, raw, "compiled") == fate
                fates[isinstance(fate, str)] += 1
                if theirs.tip is not before:  # not damaged enough
                    generator.adopt(theirs.read_block(theirs.tip))
                    break
        assert list(ours.iterate_coins()) == list(theirs.iterate_coins())
    assert min(fates.values()) > 50
    for path in by_python.glob("blocks/???*.dat"):
        assert path.read_bytes() == (by_compiled / "blocks" / path.name).read_bytes(), path.name
