"""Commands that receive and look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from chain.primitives.amount import format_amount
from chain.primitives.types import hash_to_hex
from wallet.cli.options import common_options, emit, note, run, settings, synchronize, synchronize_or_note
from wallet.ledger import HistoryItem
from wallet.sync import RpcClient
from wallet.wallet import ACCOUNT_KINDS, DEFAULT_ACCOUNT, Wallet


@click.command()
@click.option("--type", "kind", type=click.Choice(list(ACCOUNT_KINDS)), default=DEFAULT_ACCOUNT, show_default=True)
@common_options
def address(kind: str) -> None:
    """Print a fresh address to receive on. Each is given out once."""
    options = settings()
    with options.open_wallet() as opened:
        text = opened.new_address(kind)
    if options.as_json:
        emit({"address": text, "type": kind})
    else:
        click.echo(text)


@click.command()
@click.option("--offline", is_flag=True, help="Do not ask the node.")
@common_options
def balance(offline: bool) -> None:
    """Show what the wallet holds: confirmed, pending and immature."""
    options = settings()
    with options.open_wallet() as opened:
        synced = not offline and synchronize_or_note(options, opened)
        held = opened.balance()
        if options.as_json:
            emit(
                {
                    "confirmed": format_amount(held.confirmed),
                    "pending": format_amount(held.pending),
                    "immature": format_amount(held.immature),
                    "total": format_amount(held.total),
                    "height": opened.tip_height,
                    "synchronized": synced,
                }
            )
            return
    click.echo(f"confirmed  {format_amount(held.confirmed):>20}")
    click.echo(f"pending    {format_amount(held.pending):>20}")
    click.echo(f"immature   {format_amount(held.immature):>20}")


@click.command()
@click.option("--offline", is_flag=True, help="Do not ask the node.")
@click.option("--limit", type=click.IntRange(1), help="Only the last so many.")
@common_options
def history(offline: bool, limit: int | None) -> None:
    """List the wallet's transactions, oldest first."""
    options = settings()
    with options.open_wallet() as opened:
        if not offline:
            synchronize_or_note(options, opened)
        items = opened.history()
        if limit is not None:
            items = items[-limit:]
        if options.as_json:
            emit([_as_json(opened, item) for item in items])
            return
        for item in items:
            click.echo(_as_line(opened, item))
        if not items:
            note("No transactions yet.")


@click.command()
@common_options
def sync() -> None:
    """Read the chain up to the node's tip, and its mempool."""
    options = settings()
    with options.open_wallet() as opened:
        _sync(opened)


@click.command()
@click.option(
    "--from-height", type=click.IntRange(0), help="Read from this block if it is below the wallet's birthday."
)
@common_options
def rescan(from_height: int | None) -> None:
    """Forget what was read of the chain and read it again."""
    options = settings()
    with options.open_wallet() as opened:
        opened.forget_chain(from_height)
        _sync(opened)


def _sync(opened: Wallet) -> None:
    options = settings()

    async def work() -> None:
        async with RpcClient(options.node_address()) as rpc:
            report = await synchronize(opened, rpc)
        if options.as_json:
            emit({"height": report.tip_height, "blocks": report.blocks, "transactions": report.transactions})
        else:
            ours = f"{report.transactions} transactions of ours"
            click.echo(f"At block {report.tip_height}: {report.blocks} blocks read, {ours}.")

    run(work())


def _confirmations(opened: Wallet, item: HistoryItem) -> int:
    return opened.tip_height - item.entry.height + 1 if item.entry.height is not None else 0


def _as_json(opened: Wallet, item: HistoryItem) -> dict[str, Any]:
    entry = item.entry
    return {
        "txid": hash_to_hex(item.txid),
        "kind": item.kind,
        "state": entry.state.value,
        "net": format_amount(item.net),
        "fee": format_amount(item.fee) if item.fee is not None and not entry.tx.is_coinbase else None,
        "confirmations": _confirmations(opened, item),
        "height": entry.height,
        "time": entry.block_time if entry.block_time is not None else entry.first_seen,
        "outputs": [{"address": opened.address_of(s), "amount": format_amount(v)} for s, v in item.recipients],
    }


def _as_line(opened: Wallet, item: HistoryItem) -> str:
    entry = item.entry
    when = datetime.fromtimestamp(entry.block_time or entry.first_seen, UTC).strftime("%Y-%m-%d %H:%M")
    depth = _confirmations(opened, item)
    state = (
        f"{depth} conf" if depth else entry.state.value + ("" if entry.in_mempool or not entry.is_own else ", not sent")
    )
    sign = "+" if item.net > 0 else ""
    return f"{when}  {item.kind:<8} {sign + format_amount(item.net):>20}  {state:<20} {hash_to_hex(item.txid)}"
