"""Commands that spend, sign and send."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from chain.primitives.amount import format_amount, parse_amount
from chain.primitives.errors import DecodeError, UserError
from chain.primitives.types import Txid, hash_from_hex, hash_to_hex
from wallet import spend
from wallet.cli.options import common_options, confirm, emit, note, run, settings, synchronize
from wallet.ledger import TxState
from wallet.psbt import Psbt
from wallet.psbt.psbt import MAGIC, MAX_PSBT_SIZE
from wallet.signer import MasterKeySource, finalize_psbt, sign_psbt, verify_signed
from wallet.sync import RpcClient, RpcError, broadcast, rebroadcast, suggest_fee_rate
from wallet.wallet import Wallet


@click.command()
@click.argument("address")
@click.argument("amount")
@click.option("--fee-rate", metavar="SAT/VB", help="Satoshi per virtual byte [default: the node's estimate].")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--allow-high-fee", is_flag=True, help="Do not refuse an unusually high fee.")
@click.option("--unsigned", is_flag=True, help="Print an unsigned PSBT instead of signing and sending.")
@common_options
def send(address: str, amount: str, fee_rate: str | None, yes: bool, allow_high_fee: bool, unsigned: bool) -> None:
    """Send AMOUNT coins, or 'all', to ADDRESS."""
    options = settings()
    rate = spend.parse_fee_rate(fee_rate) if fee_rate is not None else None
    value = None if amount.strip().lower() == "all" else _amount(amount)
    with options.open_wallet() as opened:
        script = spend.parse_destination(address, opened)
        if not unsigned:
            _require_keys(opened)

        async def work() -> None:
            async with RpcClient(options.node_address()) as rpc:
                await synchronize(opened, rpc)
                chosen = rate if rate is not None else await suggest_fee_rate(opened, rpc)
                if value is None:
                    draft = spend.draft_sweep(opened, script, chosen, allow_high_fee=allow_high_fee)
                else:
                    draft = spend.draft_payment(opened, [(script, value)], chosen, allow_high_fee=allow_high_fee)
                if unsigned:
                    if draft.change is not None:
                        opened.use_index(draft.change[0])  # the next draft gets another change address
                    click.echo(draft.psbt.to_base64())
                    return
                await _finish(opened, rpc, draft, yes)

        run(work())


@click.command()
@click.argument("txid")
@click.option("--fee-rate", metavar="SAT/VB", required=True, help="The new rate, in satoshi per virtual byte.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.option("--allow-high-fee", is_flag=True, help="Do not refuse an unusually high fee.")
@common_options
def bumpfee(txid: str, fee_rate: str, yes: bool, allow_high_fee: bool) -> None:
    """Replace a pending transaction of this wallet by one with a higher fee (BIP125)."""
    options = settings()
    rate = spend.parse_fee_rate(fee_rate)
    wanted = _txid(txid)
    with options.open_wallet() as opened:
        _require_keys(opened)

        async def work() -> None:
            async with RpcClient(options.node_address()) as rpc:
                await synchronize(opened, rpc)
                await _finish(opened, rpc, spend.draft_bump(opened, wanted, rate, allow_high_fee=allow_high_fee), yes)

        run(work())


@click.command("rebroadcast")
@common_options
def rebroadcast_command() -> None:
    """Send again what the node does not have: payments made while it was away, or that it dropped."""
    options = settings()
    with options.open_wallet() as opened:

        async def work() -> list[Txid]:
            async with RpcClient(options.node_address()) as rpc:
                await synchronize(opened, rpc)
                return await rebroadcast(opened, rpc)

        sent = [hash_to_hex(txid) for txid in run(work())]
    if options.as_json:
        emit(sent)
        return
    for txid_hex in sent:
        click.echo(txid_hex)
    if not sent:
        note("Nothing is waiting to be sent.")


@click.command()
@click.argument("txid")
@common_options
def abandon(txid: str) -> None:
    """Give up a payment that was never sent, or that the node dropped; its coins are free again."""
    options = settings()
    wanted = _txid(txid)
    with options.open_wallet() as opened:

        async def work() -> None:
            async with RpcClient(options.node_address()) as rpc:
                await synchronize(opened, rpc)

        run(work())
        entry = opened.entries.get(wanted)
        if entry is None:
            raise UserError(f"this wallet has no transaction {txid}")
        if entry.in_mempool or entry.state is TxState.CONFIRMED:
            raise UserError(
                "this transaction is at the node or confirmed: it can be replaced with `bumpfee`, not given up"
            )
        opened.set_state(wanted, TxState.ABANDONED)
    note("Given up. If someone kept a copy of it, it could still confirm until its coins are spent elsewhere.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--trust-amounts", is_flag=True, help="Sign segwit inputs that lack their previous transaction.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@common_options
def sign(file: Path, trust_amounts: bool, yes: bool) -> None:
    """Sign a PSBT from FILE ('-' for standard input), offline. Prints it signed, or the transaction when all inputs
    are."""
    options = settings()
    psbt = _read_psbt(file)
    with options.open_wallet() as opened:
        for line in _summary(opened, psbt):
            note(line)
        if not yes:
            confirm("Sign this?")
        count = sign_psbt(psbt, MasterKeySource(opened.master_key()), trust_amounts=trust_amounts)
        if not count:
            raise UserError("no input of this PSBT belongs to this wallet, or all are signed already")
        complete = finalize_psbt(psbt)
    tx = verify_signed(psbt) if complete else None
    if options.as_json:
        emit({"psbt": psbt.to_base64(), "signed": count, "complete": complete, "hex": tx.raw.hex() if tx else None})
    else:
        click.echo(tx.raw.hex() if tx else psbt.to_base64())
    note(
        f"{count} inputs signed"
        + ("; this is the finished transaction." if complete else "; others still have to sign.")
    )


@click.command("broadcast")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@common_options
def broadcast_command(file: Path) -> None:
    """Send a finished transaction (hex or PSBT) from FILE ('-' for standard input)."""
    options = settings()
    raw = _read_input(file)
    try:
        text = raw.decode("ascii").strip()
        hex_text = text if _is_hex(text) else Psbt.from_base64(text).extract().raw.hex()
    except UnicodeDecodeError:
        hex_text = Psbt.parse(raw).extract().raw.hex()

    async def work() -> str:
        async with RpcClient(options.node_address()) as rpc:
            try:
                return str(await rpc.call("sendrawtransaction", hex_text))
            except RpcError as error:
                raise UserError(f"the node refused the transaction: {error.message}") from error

    txid_hex = run(work())
    if options.as_json:
        emit({"txid": txid_hex})
    else:
        click.echo(txid_hex)


def _require_keys(opened: Wallet) -> None:
    if not opened.can_sign:
        raise UserError("this wallet watches and holds no keys: draft with --unsigned, sign where the keys are")


async def _finish(opened: Wallet, rpc: RpcClient, draft: spend.Draft, yes: bool) -> None:
    for line in spend.describe(opened, draft):
        note(line)
    if not yes:
        confirm("Send this?")
    tx = spend.sign_draft(opened, draft)
    spend.record(opened, draft, tx)
    await broadcast(opened, rpc, tx.txid)
    if settings().as_json:
        emit(
            {
                "txid": hash_to_hex(tx.txid),
                "amount": format_amount(draft.amount),
                "fee": format_amount(draft.fee),
                "vsize": tx.vsize,
                "replaces": hash_to_hex(draft.replaces) if draft.replaces else None,
            }
        )
    else:
        click.echo(hash_to_hex(tx.txid))


def _summary(opened: Wallet, psbt: Psbt) -> list[str]:
    """What signing a PSBT means for the owner."""
    spent = [psbt.spent_output(i) for i in range(len(psbt.inputs))]
    lines = []
    for out in psbt.tx.outputs:
        mine = " (ours)" if out.script_pubkey in opened.owners else ""
        lines.append(f"Send {format_amount(out.value)} to {opened.address_of(out.script_pubkey)}{mine}")
    if all(spent):
        fee = sum(out.value for out in spent if out is not None) - sum(psbt.tx.values)
        lines.append(f"Fee  {format_amount(fee)}")
    else:
        lines.append("Fee  unknown: the PSBT does not carry all spent outputs")
    return lines


def _amount(text: str) -> int:
    try:
        value = parse_amount(text)
    except DecodeError as error:
        raise UserError(str(error)) from error
    if not value:
        raise UserError("an amount of zero cannot be sent")
    return value


def _txid(text: str) -> Txid:
    try:
        return Txid(hash_from_hex(text.strip()))
    except ValueError as error:
        raise UserError(f"'{text[:80]}' is not a transaction id: it has 64 hexadecimal digits") from error


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return bool(text)


def _read_input(file: Path) -> bytes:
    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(MAX_PSBT_SIZE + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(MAX_PSBT_SIZE + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if len(raw) > MAX_PSBT_SIZE:
        raise UserError(f"{file} is too large")
    return raw


def _read_psbt(file: Path) -> Psbt:
    raw = _read_input(file)
    if raw.startswith(MAGIC):
        return Psbt.parse(raw)
    return Psbt.from_base64(raw.decode("ascii", "replace"))
