"""getblockstats: what a block's transactions add up to (Core: rpc/blockchain.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

from chain.consensus.subsidy import block_subsidy
from chain.index import BlockIndexEntry
from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.coin import coin_value
from chain.primitives.types import PackedCoin, hash_to_hex
from chain.script.script import is_unspendable
from node.rpc.jsonio import JSON

_PERCENTILES = (10, 25, 50, 75, 90)
_PER_UTXO_OVERHEAD = 36 + 4  #: outpoint; height and coinbase flag


def block_statistics(
    block: Block, entry: BlockIndexEntry, undo: Sequence[Sequence[PackedCoin]], params: NetworkParams
) -> dict[str, JSON]:
    """Every statistic by Core's name; fees in satoshi, rates in satoshi per virtual byte."""
    fees: list[int] = []
    rates: list[tuple[int, int]] = []
    sizes: list[int] = []
    inputs = outputs = total_out = total_size = total_weight = 0
    swtxs = swtotal_size = swtotal_weight = 0
    utxos = utxo_size = utxos_actual = utxo_size_actual = 0
    for position, tx in enumerate(block.transactions):
        outputs += len(tx.values)
        for script in tx.scripts:
            size = 8 + _compact_size(len(script)) + len(script) + _PER_UTXO_OVERHEAD
            utxo_size += size
            utxos += 1
            if entry.height and not is_unspendable(script):
                utxo_size_actual += size
                utxos_actual += 1
        if position == 0:
            continue
        inputs += len(tx.prevouts)
        total_out += sum(tx.values)
        sizes.append(tx.total_size)
        total_size += tx.total_size
        total_weight += tx.weight
        if tx.has_witness:
            swtxs += 1
            swtotal_size += tx.total_size
            swtotal_weight += tx.weight
        paid = 0
        for coin in undo[position - 1]:
            paid += coin_value(coin)
            size = 8 + _compact_size(len(coin) - 12) + len(coin) - 12 + _PER_UTXO_OVERHEAD
            utxo_size -= size
            utxo_size_actual -= size
        fee = paid - sum(tx.values)
        fees.append(fee)
        rates.append((fee * 4 // tx.weight, tx.weight))
    count = len(block.transactions)
    others = max(count - 1, 1)
    return {
        "avgfee": sum(fees) // others,
        "avgfeerate": sum(fees) * 4 // total_weight if total_weight else 0,
        "avgtxsize": total_size // others,
        "blockhash": hash_to_hex(entry.hash),
        "feerate_percentiles": _weighted_percentiles(rates, total_weight),
        "height": entry.height,
        "ins": inputs,
        "maxfee": max(fees, default=0),
        "maxfeerate": max((rate for rate, _ in rates), default=0),
        "maxtxsize": max(sizes, default=0),
        "medianfee": _median(fees),
        "mediantime": entry.median_time_past(),
        "mediantxsize": _median(sizes),
        "minfee": min(fees, default=0),
        "minfeerate": min((rate for rate, _ in rates), default=0),
        "mintxsize": min(sizes, default=0),
        "outs": outputs,
        "subsidy": block_subsidy(entry.height, params),
        "swtotal_size": swtotal_size,
        "swtotal_weight": swtotal_weight,
        "swtxs": swtxs,
        "time": entry.time,
        "total_out": total_out,
        "total_size": total_size,
        "total_weight": total_weight,
        "totalfee": sum(fees),
        "txs": count,
        "utxo_increase": utxos - inputs,
        "utxo_size_inc": utxo_size,
        "utxo_increase_actual": utxos_actual - inputs,
        "utxo_size_inc_actual": utxo_size_actual,
    }


def _compact_size(value: int) -> int:
    return 1 if value < 253 else 3 if value < 0x10000 else 5


def _median(values: list[int]) -> int:
    ordered = sorted(values)
    if not ordered:
        return 0
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _weighted_percentiles(rates: list[tuple[int, int]], total_weight: int) -> list[int]:
    if not rates:
        return [0] * len(_PERCENTILES)
    ordered = sorted(rates)
    found: list[int] = []
    cumulative = 0
    for rate, weight in ordered:
        cumulative += weight
        while len(found) < len(_PERCENTILES) and cumulative >= total_weight * _PERCENTILES[len(found)] / 100:
            found.append(rate)
    while len(found) < len(_PERCENTILES):
        found.append(ordered[-1][0])
    return found
