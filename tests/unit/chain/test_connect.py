"""Rules of connecting that the differential test cannot reach: repeated coinbases, assumed-valid scripts, the cache."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.consensus.deployments import block_script_flags
from chain.consensus.errors import ConsensusError
from chain.index import BlockIndexEntry
from chain.params import network, with_test_activation_heights
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.errors import LocalFault
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, hash_to_hex
from chain.script.standard import p2wpkh
from tests.support import signing
from tests.support.blocks import OP_TRUE, add_header, coinbase, commit, make_block

pytestmark = pytest.mark.usefixtures("both_readings")

REGTEST = network("regtest")


def test_a_repeated_coinbase_may_not_overwrite_a_coin(tmp_path: Path) -> None:
    """BIP30, on a chain where coinbases need not state their height for a while."""
    params = with_test_activation_heights(REGTEST, ["bip34@1000"])
    twin = coinbase(7, [TxOut(Amount(5), OP_TRUE)], locktime=0)
    with Chainstate(params, tmp_path, script_threads=0) as chain:
        chain.process_block(make_block(chain.tip, params, [twin]))
        assert chain.get_coin(twin.outpoint(0)) is not None
        chain.flush()
        for later in (1, 2):
            with pytest.raises(ConsensusError, match="bad-txns-BIP30, tried to overwrite transaction"):
                chain.process_block(make_block(chain.tip, params, [twin], time=chain.tip.time + later))
        unspendable = coinbase(8, [TxOut(Amount(5), b"\x6a")], locktime=0)
        chain.process_block(make_block(chain.tip, params, [unspendable]))
        chain.process_block(make_block(chain.tip, params, [unspendable]))  # nothing there that it could overwrite
        assert chain.tip.height == 3


@pytest.mark.parametrize("listed", [True, False])
def test_the_first_of_two_equal_coinbases_is_disconnected_without_its_coin(tmp_path: Path, listed: bool) -> None:
    """The second, exempt from BIP30, has overwritten it, and took it along when it was disconnected."""
    params = with_test_activation_heights(REGTEST, ["bip34@1000"])
    twin = coinbase(7, [TxOut(Amount(5), OP_TRUE)], locktime=0)
    with Chainstate(params, tmp_path / "made", script_threads=0) as chain:
        first = make_block(chain.tip, params, [twin])
        chain.process_block(first)
        second = make_block(chain.tip, params, [twin])
    unspendable = {first.hash: 1} if listed else {}
    params = replace(params, bip30_exceptions={second.hash: 2}, bip30_unspendable=unspendable)
    with Chainstate(params, tmp_path / "chain", script_threads=0) as chain:
        chain.process_block(first)
        chain.process_block(second)
        assert chain.get_coin(twin.outpoint(0)) is not None
        if listed:
            chain.invalidate_block(first.hash)
            assert chain.tip.height == 0
        else:
            with pytest.raises(LocalFault, match="the coins that it created are not all there"):
                chain.invalidate_block(first.hash)


def bad_spend_chain(chain: Chainstate, count: int = 101) -> Block:
    """`count` blocks on the chain, and a next one whose only fault is a missing signature."""
    funding = coinbase(1, [TxOut(Amount(10**9), p2wpkh(bytes(20)))], locktime=0)
    chain.process_block(make_block(chain.tip, REGTEST, [funding]))
    for _ in range(count - 1):
        chain.process_block(make_block(chain.tip, REGTEST, [coinbase(chain.tip.height + 1, locktime=0)]))
    spend = Transaction.build(2, [TxIn(funding.outpoint(0), b"", 0xFFFFFFFF, (b"", b""))], [TxOut(Amount(1), OP_TRUE)])
    return with_commitment(chain.tip, [spend])


def with_commitment(prev: BlockIndexEntry, transactions: list[Transaction]) -> Block:
    blank = coinbase(prev.height + 1, [], witness=(bytes(32),), locktime=0)
    outputs = [TxOut(Amount(0), OP_TRUE), commit([blank, *transactions])]
    full = coinbase(prev.height + 1, outputs, witness=(bytes(32),), locktime=0)
    return make_block(prev, REGTEST, [full, *transactions])


@pytest.mark.parametrize(
    ("buried", "named", "accepted"), [(2100, True, True), (500, True, False), (2100, False, False)]
)
def test_scripts_below_an_assumed_valid_block_are_not_run(
    tmp_path: Path, buried: int, named: bool, accepted: bool
) -> None:
    with Chainstate(REGTEST, tmp_path / "probe", script_threads=0) as probe:
        block = bad_spend_chain(probe)
    assumed = block.hash if named else bytes(32)
    with Chainstate(REGTEST, tmp_path / "chain", script_threads=1, assumevalid=assumed) as chain:
        again = bad_spend_chain(chain)
        assert again.hash == block.hash
        entry = chain.accept_headers([block.header])
        for _ in range(buried):
            entry = add_header(chain.index, entry)
        if accepted:
            chain.process_block(block)
            assert chain.tip.hash == block.hash
        else:
            with pytest.raises(
                ConsensusError, match=r"block-script-verify-flag-failed \(.*\), input 0 of [0-9a-f]{64}"
            ):
                chain.process_block(block)


def test_transactions_that_the_mempool_verified_are_not_verified_again(tmp_path: Path) -> None:
    """Shown with a transaction that is wrong: only what was put into the cache lets it pass."""
    with Chainstate(REGTEST, tmp_path, script_threads=0) as chain:
        block = bad_spend_chain(chain)
        with pytest.raises(ConsensusError, match="block-script-verify-flag-failed"):
            chain.test_block_validity(block)
        flags = block_script_flags(block.hash, chain.tip.height + 1, REGTEST)
        chain.script_cache.add(block.transactions[1].wtxid, flags ^ 1)
        with pytest.raises(ConsensusError, match="block-script-verify-flag-failed"):
            chain.test_block_validity(block)
        chain.script_cache.add(block.transactions[1].wtxid, flags)
        chain.test_block_validity(block)


def test_the_first_bad_input_of_a_block_is_named(tmp_path: Path, rng: random.Random) -> None:
    """Among many good signatures, in whatever batch; and amounts come before scripts."""
    owner = signing.p2wpkh(b"owner")
    with Chainstate(REGTEST, tmp_path, script_threads=2) as chain:
        funding = coinbase(1, [TxOut(Amount(1000), owner.script)] * 900, locktime=0)
        chain.process_block(make_block(chain.tip, REGTEST, [funding]))
        for _ in range(100):
            chain.process_block(make_block(chain.tip, REGTEST, [coinbase(chain.tip.height + 1, locktime=0)]))
        coins = [
            signing.Spendable(funding.outpoint(n), pack_coin(1000, owner.script, 1, True), owner) for n in range(900)
        ]
        txs = [signing.spend(coins[n : n + 3], [TxOut(Amount(3000), OP_TRUE)]) for n in range(0, 900, 3)]
        good = with_commitment(chain.tip, txs)
        chain.test_block_validity(good)
        bad_at = sorted(rng.sample(range(300), 2))
        for at in bad_at:
            inputs = list(txs[at].inputs)
            der = bytearray(inputs[1].witness[0])
            der[20] ^= 1
            inputs[1] = inputs[1]._replace(witness=(bytes(der), inputs[1].witness[1]))
            txs[at] = Transaction.build(2, inputs, txs[at].outputs)
        block = with_commitment(chain.tip, txs)
        with pytest.raises(ConsensusError) as caught:
            chain.process_block(block)
        first = txs[bad_at[0]]
        assert str(caught.value) == (
            "block-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack "
            f"element), input 1 of {hash_to_hex(first.txid)} (wtxid {hash_to_hex(first.wtxid)}), "
            f"spending {hash_to_hex(funding.txid)}:{bad_at[0] * 3 + 1}"
        )
        chain.drain_events()
        greedy = Transaction.build(2, txs[299].inputs, [TxOut(Amount(3001), OP_TRUE)])
        with pytest.raises(ConsensusError, match="bad-txns-in-belowout"):
            chain.process_block(with_commitment(chain.tip, [*txs[:299], greedy]))
        chain.process_block(good)
        assert chain.tip.hash == good.hash
