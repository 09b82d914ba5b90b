"""Handing transactions to a node."""

from __future__ import annotations

from chain.primitives.errors import UserError
from chain.primitives.types import Txid, hash_to_hex
from wallet.ledger import Entry, TxState
from wallet.sync.rpc import NodeError, RpcClient, RpcError
from wallet.wallet import Wallet

RPC_VERIFY_ERROR = -25
RPC_VERIFY_REJECTED = -26
RPC_ALREADY_IN_CHAIN = -27
FALLBACK_FEE_RATE_SAT_PER_KVB = 1_000


class Refused(UserError):
    """The node will not take the transaction. It was marked as given up, its coins are free again."""


async def broadcast(wallet: Wallet, rpc: RpcClient, txid: Txid) -> None:
    """Send a recorded transaction. Refused when the node rejects it; NodeError when it cannot be reached (it stays on
    record)."""
    entry = wallet.entries[txid]
    try:
        await rpc.call("sendrawtransaction", entry.tx.raw.hex())
    except NodeError as error:
        raise NodeError(
            f"{error}; the transaction {hash_to_hex(txid)} is signed and recorded: "
            "send it later with `pickaxe wallet rebroadcast`"
        ) from error
    except RpcError as error:
        if error.code == RPC_ALREADY_IN_CHAIN or "already" in error.message.lower():
            return
        if error.code not in (RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED):
            raise NodeError(
                f"the node could not take the transaction ({error.message}); it is recorded: "
                "send it later with `pickaxe wallet rebroadcast`"
            ) from error
        wallet.set_state(txid, TxState.ABANDONED)
        raise Refused(
            f"the node refused the transaction ({error.message}): nothing was sent, the coins are free again"
        ) from error
    wallet.set_state(txid, TxState.PENDING, in_mempool=True)


async def rebroadcast(wallet: Wallet, rpc: RpcClient) -> list[Txid]:
    """Send every pending transaction of ours that the node lacks; those sent."""
    sent = []
    for entry in unsent(wallet):
        await broadcast(wallet, rpc, entry.tx.txid)
        sent.append(entry.tx.txid)
    return sent


def unsent(wallet: Wallet) -> list[Entry]:
    """Payments of ours that are on record and not at the node, in the order they were made."""
    waiting = [e for e in wallet.entries.values() if e.is_own and e.state is TxState.PENDING and not e.in_mempool]
    return sorted(waiting, key=lambda entry: entry.order)


async def suggest_fee_rate(wallet: Wallet, rpc: RpcClient, target_blocks: int = 6) -> int:
    """The node's estimate in satoshi per 1,000 virtual bytes. Where a test network has none, 1 sat/vB; UserError
    elsewhere."""
    try:
        answer = await rpc.call("estimatesmartfee", target_blocks)
        estimate = answer.get("feerate") if isinstance(answer, dict) else None
    except RpcError:
        estimate = None
    if estimate is not None:
        try:
            return max(round(float(estimate) * 100_000_000), FALLBACK_FEE_RATE_SAT_PER_KVB)
        except (TypeError, ValueError, OverflowError) as error:
            raise NodeError(f"{rpc.address.url} does not answer estimatesmartfee like a node") from error
    if wallet.params.name == "bitcoin":
        raise UserError("the node has no fee estimate: give one with --fee-rate, in sat/vB")
    try:
        info = await rpc.call("getmempoolinfo")
        minimum = round(float(info["mempoolminfee"]) * 100_000_000)
    except (RpcError, KeyError, TypeError, ValueError):
        minimum = 0
    return max(minimum, FALLBACK_FEE_RATE_SAT_PER_KVB)
