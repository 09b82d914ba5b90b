"""Paying: from what the user asks to a signed, recorded and sent transaction.

The order never changes: draft, confirm, sign and verify, record on disk, send. A crash between the last two leaves a
recorded transaction that `rebroadcast` sends again; nothing is ever sent that is not on record.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chain.primitives.amount import COIN, MAX_MONEY, format_amount
from chain.primitives.errors import UserError
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint, Txid, hash_to_hex, make_outpoint, split_outpoint
from chain.script.addresses import AddressError, decode_address
from chain.script.standard import ScriptType, classify
from wallet.coin_selection import (
    INPUT_WEIGHTS,
    Candidate,
    InsufficientFunds,
    Request,
    Selection,
    TooManyInputs,
    dust_threshold,
    fee_for_weight,
    select_coins,
    sweep,
    transaction_weight,
)
from wallet.ledger import Coin, Entry, Owner, TxState
from wallet.psbt import In, Out, Psbt
from wallet.signer import MasterKeySource, SigningError, finalize_psbt, sign_psbt, verify_signed
from wallet.wallet import CHANGE, Wallet

SEQUENCE_REPLACEABLE = 0xFFFFFFFD  #: BIP125: may be replaced; also lets the lock time count
MAX_FEE = COIN // 10  #: refused above, unless allowed: Core's -maxtxfee
MAX_FEE_RATE_SAT_PER_KVB = 1_000_000  #: 1,000 sat/vB
MAX_FEE_SHARE = 4  #: a fee above a quarter of what arrives is refused...
SMALL_FEE = 20_000  #: ...unless it is this small in satoshi
MIN_FEE_RATE_SAT_PER_KVB = 100  #: Core's default -minrelaytxfee since version 30
INCREMENTAL_FEE_RATE_SAT_PER_KVB = 1_000  #: a replacement pays at least this more for its own size
RECENT_TIP_S = 8 * 3600  #: an older tip would tell how stale the wallet is, so no lock time then (as Core)


@dataclass(frozen=True)
class Draft:
    """A payment, chosen but not yet signed or recorded. Nothing changed in the wallet by making it."""

    psbt: Psbt
    payments: tuple[TxOut, ...]
    coins: tuple[Coin, ...]
    selection: Selection
    change: tuple[Owner, TxOut] | None
    replaces: Txid | None = None

    @property
    def fee(self) -> int:
        """Satoshi."""
        return self.selection.fee

    @property
    def amount(self) -> int:
        """What the payments sum to, satoshi."""
        return sum(out.value for out in self.payments)


def parse_fee_rate(text: str) -> int:
    """Satoshi per 1,000 virtual bytes from text in sat/vB with up to three decimals: '1.5' is 1500."""
    whole, dot, decimals = text.strip().partition(".")
    plain = whole.isascii() and whole.isdigit() and len(whole) <= 9
    if not plain or (dot and not (decimals.isascii() and decimals.isdigit() and len(decimals.rstrip("0")) <= 3)):
        raise UserError(f"'{text[:20]}' is not a fee rate: give satoshi per virtual byte, like 2 or 1.5")
    rate = int(whole) * 1000 + int((decimals.rstrip("0") or "0").ljust(3, "0"))
    if rate < MIN_FEE_RATE_SAT_PER_KVB:
        raise UserError("a fee rate below 0.1 sat/vB is not relayed by nodes: give more")
    return rate


def parse_destination(text: str, wallet: Wallet) -> bytes:
    """The output script of an address of the wallet's network."""
    try:
        return decode_address(text.strip(), wallet.params.addresses)
    except AddressError as error:
        raise UserError(f"'{text[:100]}' is not an address of the network '{wallet.params.name}': {error}") from error


def draft_payment(
    wallet: Wallet,
    payments: Sequence[tuple[bytes, int]],
    fee_rate_sat_per_kvb: int,
    *,
    rng: random.Random | None = None,
    allow_high_fee: bool = False,
) -> Draft:
    """Choose coins and change for payments of (script, satoshi). UserError says what cannot be done and why."""
    outputs = tuple(TxOut(Amount(value), script) for script, value in payments)
    _check_outputs(wallet, outputs)
    owner, change_script = wallet.peek_script(_change_kind(wallet, outputs), CHANGE)
    request = Request(outputs, fee_rate_sat_per_kvb, change_script, change_spend_weight=_input_weight(change_script))
    rng = rng or random.Random(secrets.randbits(64))
    selection, coins = _select(wallet, request, rng)
    _check_fee(selection.fee, sum(o.value for o in outputs), fee_rate_sat_per_kvb, allow_high_fee)
    return _draft(wallet, outputs, coins, selection, owner, change_script, rng)


def draft_sweep(wallet: Wallet, script: bytes, fee_rate_sat_per_kvb: int, *, allow_high_fee: bool = False) -> Draft:
    """Everything that can be spent to one output; the fee is taken from it, and no change is left."""
    coins = wallet.spendable()
    try:
        selection = sweep(map(_candidate, coins), script, fee_rate_sat_per_kvb)
    except TooManyInputs:
        raise _too_many() from None
    except InsufficientFunds as error:
        raise UserError(
            f"there is nothing to send: {format_amount(error.available)} can be spent, "
            f"the fee would be {format_amount(error.needed)}"
        ) from error
    payment = TxOut(Amount(selection.total - selection.fee), script)
    _check_outputs(wallet, (payment,))
    _check_fee(selection.fee, payment.value, fee_rate_sat_per_kvb, allow_high_fee)
    rng = random.Random(secrets.randbits(64))
    return _draft(wallet, (payment,), _coins_of(coins, selection), selection, None, b"", rng)


def draft_bump(wallet: Wallet, txid: Txid, fee_rate_sat_per_kvb: int, *, allow_high_fee: bool = False) -> Draft:
    """A replacement (BIP125) of our own pending transaction: same payments, higher fee, taken from the change or new
    coins."""
    entry = wallet.entries.get(txid)
    if entry is None:
        raise UserError(f"this wallet has no transaction {hash_to_hex(txid)}")
    if entry.state is not TxState.PENDING or not entry.is_own:
        raise UserError("only a pending transaction that this wallet sent can be replaced")
    if any(wallet.ledger.spender(OutPoint(txid + i.to_bytes(4, "little"))) for i in range(len(entry.tx.values))):
        raise UserError("a later transaction of this wallet already spends its change: bump that one instead")
    originals = _original_coins(wallet, entry)
    old_fee = sum(coin.value for coin in originals) - sum(entry.tx.values)
    change = next(((wallet.owners[s], s) for s in entry.tx.scripts if _is_change(wallet, s)), None)
    outputs = tuple(out for out in entry.tx.outputs if change is None or out.script_pubkey != change[1])
    if change is not None and not outputs:  # a payment to ourselves: keep the first output as the payment
        outputs, change = entry.tx.outputs[:1], None
    owner, change_script = change or wallet.peek_script(_change_kind(wallet, outputs), CHANGE)
    rng = random.Random(secrets.randbits(64))
    minimum = old_fee + fee_for_weight(entry.tx.weight, INCREMENTAL_FEE_RATE_SAT_PER_KVB)
    rate = fee_rate_sat_per_kvb
    if fee_for_weight(entry.tx.weight, rate) < minimum:
        needed = -(-minimum * 4000 // entry.tx.weight)
        raise UserError(
            f"to replace it the fee rate must be at least {needed / 1000:.3f} sat/vB: "
            f"it pays {format_amount(old_fee)} now"
        )
    request = Request(
        outputs,
        rate,
        change_script,
        change_spend_weight=_input_weight(change_script),
        must_spend=tuple(map(_candidate, originals)),
    )
    selection, coins = _select(wallet, request, rng, must=originals, confirmed_only=True)
    _check_fee(selection.fee, sum(o.value for o in outputs), rate, allow_high_fee)
    return replace(_draft(wallet, outputs, coins, selection, owner, change_script, rng), replaces=txid)


def sign_draft(wallet: Wallet, draft: Draft) -> Transaction:
    """Sign with the wallet's keys; every input has passed the script interpreter when this returns."""
    sign_psbt(draft.psbt, MasterKeySource(wallet.master_key()))
    if not finalize_psbt(draft.psbt):
        raise SigningError("some inputs could not be signed: this wallet does not hold their keys")
    tx = verify_signed(draft.psbt)
    if sum(tx.values) + draft.fee != draft.selection.total:
        raise SigningError("the signed transaction does not add up: nothing was sent")
    return tx


def record(wallet: Wallet, draft: Draft, tx: Transaction) -> None:
    """Put the signed transaction on record, take its coins and its change address. UserError if another process took
    them."""
    with wallet.changing():
        for coin in draft.coins:
            taken = wallet.ledger.spender(coin.outpoint)
            if taken is not None and taken != draft.replaces:
                raise UserError(
                    "another process of this wallet spent one of the coins meanwhile: nothing was sent, try again"
                )
        if draft.change is not None:
            wallet.use_index(draft.change[0])
        wallet.add_pending(tx, in_mempool=False)


def describe(wallet: Wallet, draft: Draft) -> list[str]:
    """What the user confirms, a line each."""
    vsize = draft_vsize(draft)
    rate = draft.fee / vsize
    lines = [f"Send {format_amount(out.value)} to {wallet.address_of(out.script_pubkey)}" for out in draft.payments]
    lines.append(f"Fee  {format_amount(draft.fee)} ({rate:.2f} sat/vB, {vsize} vB, {len(draft.coins)} inputs)")
    if draft.change is not None:
        lines.append(f"Back {format_amount(draft.change[1].value)} as change")
    lines.append(f"Cost {format_amount(draft.amount + draft.fee)} in all")
    return lines


def draft_vsize(draft: Draft) -> int:
    """Virtual size that the signed transaction will have at most."""
    return -(-transaction_weight(draft.selection.inputs, draft.psbt.tx.scripts) // 4)


# -- inside


def _check_outputs(wallet: Wallet, outputs: Sequence[TxOut]) -> None:
    if not outputs:
        raise UserError("there is no recipient")
    for out in outputs:
        limit = dust_threshold(out.script_pubkey)
        if out.value < limit:
            raise UserError(
                f"{format_amount(out.value)} is too little to send to {wallet.address_of(out.script_pubkey)}: "
                f"nodes do not relay less than {format_amount(limit)}"
            )
    if sum(out.value for out in outputs) > MAX_MONEY:
        raise UserError("the amounts sum to more than there can be")


def _check_fee(fee: int, amount: int, rate: int, allowed: bool) -> None:
    if allowed:
        return
    hint = "check the fee rate, or pass --allow-high-fee if you mean it"
    if rate > MAX_FEE_RATE_SAT_PER_KVB:
        raise UserError(f"{rate / 1000:g} sat/vB is an absurd fee rate: {hint}")
    if fee > MAX_FEE:
        raise UserError(f"the fee would be {format_amount(fee)}: {hint}")
    if fee > SMALL_FEE and fee * MAX_FEE_SHARE > amount:
        raise UserError(f"the fee of {format_amount(fee)} is more than a quarter of what arrives: {hint}")


def _change_kind(wallet: Wallet, outputs: Iterable[TxOut]) -> str:
    """The account for change: like the recipients, so that change does not stand out (as Core does)."""
    taproot = all(classify(out.script_pubkey)[0] is ScriptType.WITNESS_V1_TAPROOT for out in outputs)
    kinds = list(wallet.descriptors())
    wanted = "bip86" if taproot else "bip84"
    return wanted if wanted in kinds else kinds[0]


def _input_weight(script: bytes) -> int:
    kind, _ = classify(script)
    weight = INPUT_WEIGHTS.get(kind)
    if weight is None:
        raise UserError(f"outputs of type {kind.value} cannot be spent by this wallet")
    return weight


def _candidate(coin: Coin) -> Candidate:
    kind, _ = classify(coin.script_pubkey)
    return Candidate(coin.outpoint, coin.value, _input_weight(coin.script_pubkey), kind is not ScriptType.PUBKEYHASH)


def _coins_of(coins: Sequence[Coin], selection: Selection) -> tuple[Coin, ...]:
    by_outpoint = {coin.outpoint: coin for coin in coins}
    return tuple(by_outpoint[OutPoint(c.outpoint)] for c in selection.inputs)


def _select(
    wallet: Wallet, request: Request, rng: random.Random, *, must: Sequence[Coin] = (), confirmed_only: bool = False
) -> tuple[Selection, tuple[Coin, ...]]:
    """Confirmed coins first; our own unconfirmed change only if they do not suffice."""
    excluded = {coin.outpoint for coin in must}
    error: InsufficientFunds | None = None
    for unconfirmed in (False,) if confirmed_only else (False, True):
        coins = [c for c in wallet.spendable(unconfirmed_change=unconfirmed) if c.outpoint not in excluded]
        try:
            selection = select_coins(map(_candidate, coins), request, rng)
        except TooManyInputs:
            raise _too_many() from None
        except InsufficientFunds as failure:
            error = failure
            continue
        return selection, _coins_of([*coins, *must], selection)
    balance = wallet.balance()
    available = error.available if error is not None else 0
    needed = error.needed if error is not None else request.payment
    extra = ""
    if balance.immature:
        extra += f"; {format_amount(balance.immature)} is mined and not yet mature"
    if balance.pending:
        extra += f"; {format_amount(balance.pending)} is pending"
    raise UserError(
        f"not enough funds: {format_amount(needed)} is needed with the fee, "
        f"{format_amount(available)} can be spent{extra}"
    )


def _too_many() -> UserError:
    return UserError("so many coins do not fit one transaction: send it in several smaller payments")


def _draft(
    wallet: Wallet,
    payments: tuple[TxOut, ...],
    coins: tuple[Coin, ...],
    selection: Selection,
    change_owner: Owner | None,
    change_script: bytes,
    rng: random.Random,
) -> Draft:
    outputs = list(payments)
    change: tuple[Owner, TxOut] | None = None
    if selection.change is not None and change_owner is not None:
        change = (change_owner, TxOut(Amount(selection.change), change_script))
        outputs.insert(rng.randrange(len(outputs) + 1), change[1])  # its place must not give it away
    ordered = list(coins)
    rng.shuffle(ordered)
    tx = Transaction.build(
        2, [TxIn(coin.outpoint, b"", SEQUENCE_REPLACEABLE) for coin in ordered], outputs, _lock_time(wallet, rng)
    )
    psbt = Psbt.create(tx)
    for entry, coin in zip(psbt.inputs, ordered, strict=True):
        expansion = wallet.expand(coin.owner)
        (key,) = expansion.keys
        path = b"".join(step.to_bytes(4, "little") for step in key.path)
        previous = wallet.entries[split_outpoint(coin.outpoint)[0]].tx
        if expansion.internal_key is not None:
            entry.set_witness_utxo(TxOut(Amount(coin.value), coin.script_pubkey))
            entry.set(In.TAP_INTERNAL_KEY, expansion.internal_key)
            entry.set(In.TAP_BIP32_DERIVATION, b"\0" + key.fingerprint + path, expansion.internal_key)
        else:
            entry.set(In.NON_WITNESS_UTXO, previous.raw)
            entry.set_witness_utxo(TxOut(Amount(coin.value), coin.script_pubkey))
            entry.set(In.BIP32_DERIVATION, key.fingerprint + path, key.pubkey)
    for out_map, out in zip(psbt.outputs, outputs, strict=True):
        owner = wallet.owners.get(out.script_pubkey)
        if owner is None:
            continue
        expansion = wallet.expand(owner)
        (key,) = expansion.keys
        path = b"".join(step.to_bytes(4, "little") for step in key.path)
        if expansion.internal_key is not None:
            out_map.set(Out.TAP_INTERNAL_KEY, expansion.internal_key)
            out_map.set(Out.TAP_BIP32_DERIVATION, b"\0" + key.fingerprint + path, expansion.internal_key)
        else:
            out_map.set(Out.BIP32_DERIVATION, key.fingerprint + path, key.pubkey)
    return Draft(psbt, payments, tuple(ordered), selection, change)


def _lock_time(wallet: Wallet, rng: random.Random) -> int:
    """The current height, or now and then one a little lower: a miner gains nothing by rewriting the tip to take the
    fee (as Core)."""
    point = wallet.sync_point
    if point is None or wallet.now() - point.time > RECENT_TIP_S:
        return 0
    back = rng.randrange(100) if rng.randrange(10) == 0 else 0
    return max(0, point.height - back)


def _original_coins(wallet: Wallet, entry: Entry) -> list[Coin]:
    coins = []
    for prevout in entry.tx.prevouts:
        txid, index = split_outpoint(prevout)
        parent = wallet.entries.get(txid)
        owner = wallet.owners.get(parent.tx.scripts[index]) if parent is not None else None
        if parent is None or owner is None:
            raise UserError("one of its inputs is not this wallet's: it cannot be replaced here")
        out = parent.tx.outputs[index]
        coins.append(
            Coin(
                make_outpoint(txid, index),
                out.value,
                out.script_pubkey,
                owner,
                parent.height,
                parent.tx.is_coinbase,
                True,
            )
        )
    return coins


def _is_change(wallet: Wallet, script: bytes) -> bool:
    owner = wallet.owners.get(script)
    return owner is not None and owner.branch == CHANGE
