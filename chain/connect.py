"""Connecting a block to the coins before it, and taking it off again (Core: ConnectBlock, DisconnectBlock).

Both compute an effect and change nothing: whoever calls applies it to the view once it is known to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain as chained
from itertools import repeat
from typing import TYPE_CHECKING

from chain.coins import CoinsView
from chain.consensus.block import ConnectChecks, bip30_lookups_needed, bip30_violation
from chain.consensus.errors import ConsensusError, input_debug, script_failure
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.coin import MAX_SCRIPT_SIZE
from chain.primitives.errors import LocalFault
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, PackedCoin, Wtxid, hash_to_hex, split_outpoint
from chain.script.spends import InputFailure, Spend
from chain.script_queue import ScriptCache, ScriptQueue
from chain.storage.undo import encode_undo

if TYPE_CHECKING:
    from chain.primitives.native.tables import BlockTables

_OP_RETURN = 0x6A
_INDEXES = [n.to_bytes(4, "little") for n in range(4096)]  # the second half of an outpoint


@dataclass(slots=True)
class BlockEffect:
    """What connecting a block does to the coins."""

    spent: list[OutPoint]  # that existed before the block
    created: dict[OutPoint, PackedCoin]  # that exist after it
    encode_undo: Callable[[], bytes]  # what a block's undo file keeps of it; none that has been disconnected has any
    fees: int  # satoshi


def _indexes(count: int) -> list[bytes]:
    """The indexes of at least `count` outputs as outpoints hold them."""
    return _INDEXES if count <= len(_INDEXES) else [n.to_bytes(4, "little") for n in range(count)]


def outputs_as_coins(tx: Transaction, height: int, coinbase: bool) -> dict[OutPoint, PackedCoin]:
    """The spendable outputs of a transaction as coins."""
    code = (height << 1 | coinbase).to_bytes(4, "little")
    txid = tx.txid
    coins: dict[OutPoint, PackedCoin] = {}
    for value, script, index in zip(tx.values, tx.scripts, _indexes(len(tx.values)), strict=False):
        if (not script or script[0] != _OP_RETURN) and len(script) <= MAX_SCRIPT_SIZE:
            # Naming the types, OutPoint and PackedCoin, would cost a call each.
            coins[txid + index] = value.to_bytes(8, "little") + code + script  # type: ignore[index,assignment]
    return coins


def connect_block(
    block: Block,
    prev: BlockIndexEntry,
    coins: CoinsView,
    params: NetworkParams,
    *,
    check_scripts: bool = True,
    pool: ThreadPoolExecutor | None = None,
    script_cache: ScriptCache | None = None,
    meanwhile: Callable[[BlockEffect], None] | None = None,
) -> BlockEffect:
    """The effect of `block`, which passed check_block and contextual_check_block, on `coins`, the state at `prev`,
    its parent.

    ConsensusError if it breaks a rule. As in Core a failing script is reported only if nothing else is wrong.
    `meanwhile` is told the effect while the pool is at the scripts: it is what it will be unless one of them fails.
    """
    checks = ConnectChecks(block.hash, prev, params)
    if bip30_lookups_needed(block.hash, prev, params) and _overwrites(block, checks.height, coins):
        raise bip30_violation()
    checks.coinbase(block.coinbase)
    queue = ScriptQueue(pool, checks.flags)
    known = (script_cache or None) if check_scripts else _EverythingKnown()  # an empty cache need not be asked
    effect = _connect_at_once(block, checks, coins, queue, known) or _connect_each(block, checks, coins, queue, known)
    checks.finish(block.coinbase)
    if meanwhile is not None:
        meanwhile(effect)
    failure = queue.finish()
    if failure is not None:
        raise _script_error(block.transactions[failure.position], failure)
    return effect


class _EverythingKnown:
    """A script cache for a block whose scripts need not run."""

    def contains(self, wtxid: Wtxid, flags: int) -> bool:
        return True


def _connect_each(
    block: Block,
    checks: ConnectChecks,
    coins: CoinsView,
    queue: ScriptQueue,
    known: ScriptCache | _EverythingKnown | None,
) -> BlockEffect:
    """One transaction after the other."""
    transactions = block.transactions
    height, flags = checks.height, checks.flags
    own = {tx.txid for tx in transactions}
    outpoints = [op for tx in transactions[1:] for op in tx.prevouts if op[:32] not in own]
    available = coins.fetch(outpoints)
    created = outputs_as_coins(transactions[0], height, True)
    take_available, take_created = available.pop, created.pop
    check_transaction = checks.transaction
    undo: list[list[PackedCoin]] = []
    for position in range(1, len(transactions)):
        tx = transactions[position]
        spent: list[PackedCoin] = []
        for outpoint in tx.prevouts:
            coin = take_available(outpoint, None) or take_created(outpoint, None)
            if coin is None:
                raise checks.missing_inputs(tx)
            spent.append(coin)
        undo.append(spent)
        check_transaction(tx, spent)
        if known is None or not known.contains(tx.wtxid, flags):
            queue.add(tx, spent, position)
        created.update(outputs_as_coins(tx, height, False))
    return BlockEffect(outpoints, created, partial(encode_undo, undo), checks.fees)


def _connect_at_once(
    block: Block,
    checks: ConnectChecks,
    coins: CoinsView,
    queue: ScriptQueue,
    known: ScriptCache | _EverythingKnown | None,
) -> BlockEffect | None:
    """All of them in a few compiled calls. None where those are not to be had, or cannot tell that all is right."""
    tables = block.tables
    if tables is None:
        return None
    outpoints, counts = _outpoints(block)
    created = _outputs(block, checks.height)
    numbers = {txid: number for number, txid in enumerate(tables.txids())}
    from_before = [op for op in outpoints if op[:32] not in numbers]
    available = coins.fetch(from_before)
    if len(available) != len(from_before):
        return None  # missing, or spent twice
    if len(from_before) == len(outpoints):
        spent = list(map(available.__getitem__, outpoints))
    else:
        spent = list[PackedCoin]()
        spenders = chained.from_iterable(map(repeat, range(1, len(counts) + 1), counts))
        for outpoint, number in zip(outpoints, spenders, strict=True):
            coin = available.pop(outpoint, None)
            if coin is None and numbers.get(outpoint[:32], number) < number:
                coin = created.pop(outpoint, None)
            if coin is None:
                return None
            spent.append(coin)
    tables = tables.with_coins(spent)
    if not checks.all_at_once(block, tables, spent):
        return None

    def spend(number: int) -> Spend:
        return Spend(block.transactions[number], spent[tables.inputs_of(number)], number)

    flags = checks.flags
    skip = bytearray(block.transaction_count)
    if known is not None:
        skip = bytearray([known.contains(tx.wtxid, flags) for tx in block.transactions])
    queue.add_block(tables, spend, skip)
    undo = partial(_encode_undo, tables, spent)
    return BlockEffect(from_before, created, undo, checks.fees)


def _encode_undo(tables: BlockTables, spent: Sequence[PackedCoin]) -> bytes:
    from chain.storage.undo_native import encode_undo as encode_natively

    whole = range(1, len(tables.transactions))
    return encode_natively(tables) or encode_undo([spent[tables.inputs_of(number)] for number in whole])


def disconnect_block(
    block: Block, entry: BlockIndexEntry, undo: Sequence[Sequence[PackedCoin]], coins: CoinsView, params: NetworkParams
) -> BlockEffect:
    """The effect of taking `block`, the last one connected, off `coins`: `spent` are its outputs, `created` the
    coins it had spent.

    LocalFault if coins or undo data do not fit the block: the store is damaged.
    """
    outpoints, counts = _outpoints(block)
    if [len(spent) for spent in undo] != counts:
        raise _damaged(entry, "its undo data are of another block")
    outputs = _outputs(block, entry.height)
    restored: dict[OutPoint, PackedCoin] = {}
    for outpoint, coin in zip(outpoints, chained.from_iterable(undo), strict=True):
        # A coin made and spent within the block leaves no trace.
        if outputs.pop(outpoint, None) is None:
            restored[outpoint] = coin
    present = coins.fetch(list(outputs))
    if present != outputs and params.bip30_unspendable.get(entry.hash) != entry.height:
        raise _damaged(entry, "the coins that it created are not all there")
    return BlockEffect(list(present), restored, bytes, 0)


def _overwrites(block: Block, height: int, coins: CoinsView) -> bool:
    """Whether an output of the block is there already, unspent (BIP30)."""
    return bool(coins.fetch(_outputs(block, height)))


def _outputs(block: Block, height: int) -> dict[OutPoint, PackedCoin]:
    """The spendable outputs of all transactions as coins."""
    if block.tables is not None:
        from chain.primitives.native.coins import pack_outputs

        return pack_outputs(block.tables, height)
    outputs: dict[OutPoint, PackedCoin] = {}
    for position, tx in enumerate(block.transactions):
        outputs.update(outputs_as_coins(tx, height, position == 0))
    return outputs


def _outpoints(block: Block) -> tuple[list[OutPoint], list[int]]:
    """Those that all transactions but the coinbase spend, and how many each of them does."""
    if block.tables is not None:
        return block.tables.outpoints(block.raw), block.tables.input_counts()
    rest = block.transactions[1:]
    return [outpoint for tx in rest for outpoint in tx.prevouts], [len(tx.prevouts) for tx in rest]


def _script_error(tx: Transaction, failure: InputFailure) -> ConsensusError:
    prev_txid, prev_index = split_outpoint(tx.prevouts[failure.input])
    where = input_debug(failure.input, hash_to_hex(tx.txid), hash_to_hex(tx.wtxid), hash_to_hex(prev_txid), prev_index)
    return script_failure(failure.error.message, where)


def _damaged(entry: BlockIndexEntry, what: str) -> LocalFault:
    return LocalFault(
        f"Block {hash_to_hex(entry.hash)} at height {entry.height} cannot be disconnected: {what}; "
        "start with --reindex-chainstate to rebuild the coins"
    )
