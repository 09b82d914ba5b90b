"""Rules for headers and blocks, in Core's order, so that the first error found is the one that Core reports.

The way of a block through them (validation.cpp): check_header, contextual_check_header, check_block,
contextual_check_block when it arrives; check_block again and a ConnectChecks over its transactions when it is
connected. All raise ConsensusError and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from chain.consensus import bip54
from chain.consensus.constants import (
    BIP34_IMPLIES_BIP30_LIMIT,
    BIP54_MAX_TX_SIGOPS,
    MAX_BASE_SIZE,
    MAX_BLOCK_SIGOPS_COST,
    MAX_BLOCK_WEIGHT,
    MAX_TIMEWARP_S,
    MIN_WITNESS_COMMITMENT_SIZE,
    WITNESS_COMMITMENT_HEADER,
)
from chain.consensus.deployments import block_script_flags
from chain.consensus.errors import BlockResult, ConsensusError, RejectReason
from chain.consensus.pow import check_proof_of_work, next_nbits
from chain.consensus.signet import check_signet_solution
from chain.consensus.subsidy import block_subsidy
from chain.consensus.tx import check_inputs, check_transaction, is_final, missing_inputs, sequence_locks_met
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.amount import MAX_MONEY
from chain.primitives.block import Block, block_merkle_root, witness_merkle_root
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import WITNESS_SCALE_FACTOR, Transaction
from chain.primitives.types import BlockHash, hash_to_hex
from chain.script.script import legacy_sigop_count, push_int, sigop_cost

if TYPE_CHECKING:
    from chain.primitives.native.tables import BlockTables


def _mutated(reason: RejectReason, debug: str) -> ConsensusError:
    return ConsensusError(reason, debug, BlockResult.MUTATED)


def _bad_header(reason: str, debug: str) -> ConsensusError:
    return ConsensusError(reason, debug, BlockResult.INVALID_HEADER)


# Headers


def check_header(header: BlockHeader, params: NetworkParams) -> None:
    """Proof of work (Core's CheckBlockHeader)."""
    if not check_proof_of_work(header.hash, header.nbits, params):
        raise _bad_header(RejectReason.HIGH_HASH, "proof of work failed")


def contextual_check_header(header: BlockHeader, prev: BlockIndexEntry, params: NetworkParams, now: float) -> None:
    """The header against the chain before it and the clock, `now` in seconds since 1970 (Core's
    ContextualCheckBlockHeader).
    """
    height = prev.height + 1
    time = header.time
    if header.nbits != next_nbits(prev, time, params):
        raise _bad_header(RejectReason.BAD_DIFFBITS, "incorrect proof of work")
    if time <= prev.median_time_past():
        raise _bad_header(RejectReason.TIME_TOO_OLD, "block's timestamp is too early")
    if params.enforce_bip94 and height % params.retarget_interval == 0 and time < prev.time - MAX_TIMEWARP_S:
        raise _bad_header(RejectReason.TIME_TIMEWARP_ATTACK, "block's timestamp is too early on diff adjustment block")
    if bip54.is_bip54_active(height, params):
        bip54.check_timestamp(time, prev)
    if time > now + params.max_future_drift_s:
        raise ConsensusError(
            RejectReason.TIME_TOO_NEW, "block timestamp too far in the future", BlockResult.TIME_FUTURE
        )
    version = header.version
    if version < 4 and (
        (version < 2 and height >= params.bip34_height)
        or (version < 3 and height >= params.bip66_height)
        or height >= params.bip65_height
    ):
        shown = f"0x{version & 0xFFFFFFFF:08x}"
        raise _bad_header(f"bad-version({shown})", f"rejected nVersion={shown} block")


def accept_header(
    header: BlockHeader, entries: dict[BlockHash, BlockIndexEntry], params: NetworkParams, now: float
) -> BlockIndexEntry:
    """All checks of a header that is not yet known, in the order of Core's AcceptBlockHeader; its parent's entry.

    ConsensusError with MISSING_PREV or INVALID_PREV where the parent is unknown or invalid.
    """
    check_header(header, params)
    prev = entries.get(header.prev_hash)
    if prev is None:
        raise ConsensusError(RejectReason.PREV_BLK_NOT_FOUND, "", BlockResult.MISSING_PREV)
    if prev.failed:
        raise ConsensusError(RejectReason.BAD_PREVBLK, "", BlockResult.INVALID_PREV)
    contextual_check_header(header, prev, params, now)
    return prev


def duplicate_invalid(block_hash: bytes) -> ConsensusError:
    """The block is known and was found invalid before."""
    return ConsensusError(
        RejectReason.DUPLICATE_INVALID,
        f"block {hash_to_hex(block_hash)} was previously marked invalid",
        BlockResult.CACHED_INVALID,
    )


# Whole blocks, without context


def check_merkle_root(block: Block) -> None:
    """The header commits to these transactions, and the list is not one with a repetition that has the same root
    (CVE-2012-2459).
    """
    root, mutated = block_merkle_root(block)
    if root != block.header.merkle_root:
        raise _mutated(RejectReason.BAD_TXNMRKLROOT, "hashMerkleRoot mismatch")
    if mutated:
        raise _mutated(RejectReason.BAD_TXNS_DUPLICATE, "duplicate transaction")


def check_block(block: Block, params: NetworkParams, *, check_pow: bool = True, check_merkle: bool = True) -> None:
    """What needs no context (Core's CheckBlock). Templates and proposals are checked without proof of work (and signet
    solution) and merkle root. A block that has passed in full is not checked again.
    """
    if block.checked_for is params:
        return
    if check_pow:
        check_header(block.header, params)
        if params.signet_challenge is not None and not check_signet_solution(block, params):
            raise ConsensusError(RejectReason.BAD_SIGNET_BLKSIG, "signet block signature validation failure")
    if check_merkle:
        check_merkle_root(block)
    count = block.transaction_count
    if not count or count > MAX_BASE_SIZE or block.base_size > MAX_BASE_SIZE:
        raise ConsensusError(RejectReason.BAD_BLK_LENGTH, "size limits failed")
    if not block.coinbase.is_coinbase:
        raise ConsensusError(RejectReason.BAD_CB_MISSING, "first tx is not coinbase")
    if _legacy_sigops_of_all(block) * WITNESS_SCALE_FACTOR > MAX_BLOCK_SIGOPS_COST:
        raise ConsensusError(RejectReason.BAD_BLK_SIGOPS, "out-of-bounds SigOpCount")
    if check_pow and check_merkle:
        block.checked_for = params


def _legacy_sigops_of_all(block: Block) -> int:
    """The rules for each transaction, and what they count together."""
    tables = block.tables
    suspects: Sequence[int] = range(block.transaction_count)
    if tables is not None:
        from chain.consensus import native

        suspects = native.examine(tables)
    for number in suspects:
        if number and block.transactions[number].is_coinbase:
            raise ConsensusError(RejectReason.BAD_CB_MULTIPLE, "more than one coinbase")
    for number in suspects:
        tx = block.transactions[number]
        try:
            check_transaction(tx)
        except ConsensusError as error:
            raise ConsensusError(
                error.reason, f"Transaction check failed (tx hash {hash_to_hex(tx.txid)}) {error.debug}"
            ) from None
    if tables is None:
        return sum(map(legacy_sigop_count, block.transactions))
    tables.unproven = []
    return native.total_legacy_sigops(tables)


# Whole blocks, with the headers before them


def witness_commitment_index(coinbase: Transaction) -> int | None:
    """Which output holds the witness commitment: the last that looks like one (BIP141)."""
    found = None
    for index, script in enumerate(coinbase.scripts):
        if script[:6] == WITNESS_COMMITMENT_HEADER and len(script) >= MIN_WITNESS_COMMITMENT_SIZE:
            found = index
    return found


def witness_commitment(witness_root: bytes, reserved: bytes = bytes(32)) -> bytes:
    """The commitment hash over the root of the wtxids and the coinbase's witness reserved value."""
    return sha256(sha256(witness_root + reserved).digest()).digest()


def check_witness_malleation(block: Block, expect_commitment: bool) -> None:
    """The witnesses are those that the coinbase commits to, or there are none (Core's CheckWitnessMalleation)."""
    if expect_commitment and block.transaction_count:
        coinbase = block.coinbase
        index = witness_commitment_index(coinbase)
        if index is not None:
            stack = coinbase.witnesses[0]
            if len(stack) != 1 or len(stack[0]) != 32:
                raise _mutated(
                    RejectReason.BAD_WITNESS_NONCE_SIZE, "CheckWitnessMalleation : invalid witness reserved value size"
                )
            if witness_commitment(witness_merkle_root(block), stack[0]) != coinbase.scripts[index][6:38]:
                raise _mutated(
                    RejectReason.BAD_WITNESS_MERKLE_MATCH, "CheckWitnessMalleation : witness merkle commitment mismatch"
                )
            return
    for tx in block.transactions:
        if tx.has_witness:
            raise _mutated(RejectReason.UNEXPECTED_WITNESS, "CheckWitnessMalleation : unexpected witness data found")


def contextual_check_block(block: Block, prev: BlockIndexEntry | None, params: NetworkParams) -> None:
    """The block against the headers before it (Core's ContextualCheckBlock). It has passed check_block; `prev` is None
    for genesis.
    """
    height = 0 if prev is None else prev.height + 1
    time = block.header.time
    if prev is not None and height >= params.csv_height:  # BIP113
        time = prev.median_time_past()
    if not _all_final(block, height, time):
        raise ConsensusError(RejectReason.BAD_TXNS_NONFINAL, "non-final transaction")
    coinbase = block.coinbase
    if height >= params.bip34_height:
        expected = push_int(height)
        if coinbase.script_sigs[0][: len(expected)] != expected:
            raise ConsensusError(RejectReason.BAD_CB_HEIGHT, "block height mismatch in coinbase")
    if bip54.is_bip54_active(height, params):
        bip54.check_coinbase(coinbase, height)
        for tx in block.transactions:
            bip54.check_size(tx)
    check_witness_malleation(block, height >= params.segwit_height)
    if block.weight > MAX_BLOCK_WEIGHT:
        raise ConsensusError(RejectReason.BAD_BLK_WEIGHT, "ContextualCheckBlock : weight limit failed")


def _all_final(block: Block, height: int, time: int) -> bool:
    tables = block.tables
    if tables is not None:
        from chain.consensus import native

        return native.all_final(tables, height, time)
    return all(is_final(tx, height, time) for tx in block.transactions)


# Connecting


def bip30_lookups_needed(block_hash: bytes, prev: BlockIndexEntry, params: NetworkParams) -> bool:
    """Whether the block's outputs must be looked up among the unspent coins, lest it overwrites some (BIP30).

    Not for the two blocks that do, not on the chain on which BIP34 is known to have made repetition impossible (until
    old coinbases come of age), and not where every coinbase but genesis' unspendable one states its height: equal
    txids need equal coinbases.
    """
    height = prev.height + 1
    if params.bip34_height <= 1:
        return False
    if height >= BIP34_IMPLIES_BIP30_LIMIT:
        return True
    if params.bip30_exceptions.get(block_hash) == height:  # type: ignore[call-overload]
        return False
    known = prev.ancestor(params.bip34_height)
    return known is None or known.hash != params.bip34_hash


def bip30_violation() -> ConsensusError:
    """A transaction of the block has outputs that are still unspent from before."""
    return ConsensusError(RejectReason.BAD_TXNS_BIP30, "tried to overwrite transaction")


class ConnectChecks:
    """The checks of Core's ConnectBlock on one block's transactions, all but the scripts themselves.

    Call `coinbase`, then `transaction` for each other one in order with the coins that it spends, then `finish`. Core's
    verdict on scripts: those of a transaction run after its `transaction` passed; with worker threads (its default) a
    script failure counts only if all else, `finish` included, passed.
    """

    __slots__ = ("_bip54", "_bip68", "fees", "flags", "height", "params", "prev", "sigop_cost")

    def __init__(self, block_hash: bytes, prev: BlockIndexEntry, params: NetworkParams) -> None:
        self.prev = prev
        self.params = params
        self.height = prev.height + 1
        self.flags = block_script_flags(block_hash, self.height, params)
        self.fees = 0
        self.sigop_cost = 0
        self._bip68 = self.height >= params.csv_height
        self._bip54 = bip54.is_bip54_active(self.height, params)

    def coinbase(self, tx: Transaction) -> None:
        """The first transaction."""
        self._count_sigops(tx, ())

    def missing_inputs(self, tx: Transaction) -> ConsensusError:
        """What to raise instead of calling `transaction` where a coin that it spends does not exist."""
        return _in_transaction(missing_inputs(), tx)

    def transaction(self, tx: Transaction, spent: Sequence[bytes]) -> int:
        """Any other; `spent` holds the packed coin of each input, those made earlier in this block with its height. The
        fee.
        """
        try:
            fee = check_inputs(tx, spent, self.height)
            if self._bip54:
                bip54.check_sigops(tx, spent)
        except ConsensusError as error:
            raise _in_transaction(error, tx) from None
        self.fees += fee
        if self.fees > MAX_MONEY:
            raise ConsensusError(
                RejectReason.BAD_TXNS_ACCUMULATED_FEE_OUTOFRANGE, "accumulated fee in the block out of range"
            )
        if self._bip68 and not sequence_locks_met(tx, spent, self.prev):
            raise ConsensusError(
                RejectReason.BAD_TXNS_NONFINAL, f"contains a non-BIP68-final transaction {hash_to_hex(tx.txid)}"
            )
        self._count_sigops(tx, spent)
        return fee

    def _count_sigops(self, tx: Transaction, spent: Sequence[bytes]) -> None:
        self.sigop_cost += sigop_cost(tx, spent, self.flags)
        if self.sigop_cost > MAX_BLOCK_SIGOPS_COST:
            raise ConsensusError(RejectReason.BAD_BLK_SIGOPS, "too many sigops")

    def all_at_once(self, block: Block, tables: BlockTables, spent: Sequence[bytes]) -> bool:
        """Instead of `transaction` for each: whether all are found right, by compiled code but for a few. False leaves
        it to `transaction`; nothing has been counted then. `spent` are the coins of all inputs, which `tables` name.
        """
        from chain.consensus import native

        spending = native.check_spending(tables, self.height, self.flags, bip54=self._bip54)
        if spending is None or self.sigop_cost + spending.sigop_cost > MAX_BLOCK_SIGOPS_COST:
            return False
        for number in spending.unproven:
            tx, coins = block.transactions[number], spent[tables.inputs_of(number)]
            if self._bip68 and not sequence_locks_met(tx, coins, self.prev):
                return False
            if self._bip54 and bip54.legacy_sigops(tx, coins) > BIP54_MAX_TX_SIGOPS:
                return False
        self.fees += spending.fees
        self.sigop_cost += spending.sigop_cost
        return True

    def finish(self, coinbase: Transaction) -> None:
        """The coinbase takes no more than subsidy and fees."""
        paid = sum(coinbase.values)
        limit = self.fees + block_subsidy(self.height, self.params)
        if paid > limit:
            raise ConsensusError(RejectReason.BAD_CB_AMOUNT, f"coinbase pays too much (actual={paid} vs limit={limit})")


def _in_transaction(error: ConsensusError, tx: Transaction) -> ConsensusError:
    return ConsensusError(error.reason, f"{error.debug} in transaction {hash_to_hex(tx.txid)}", error.result)
