"""Chains of seeded random blocks with many kinds of spends, and ways to damage a block.

The generator follows the rules well enough to get on: it drops spends that its own interpreter refuses, and it is told
which block the judges took (`adopt`). Damaged blocks are often invalid, not always: it is for two judges to agree.
"""

from __future__ import annotations

import random
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chain.consensus.constants import COINBASE_MATURITY
from chain.consensus.deployments import block_script_flags
from chain.consensus.subsidy import block_subsidy
from chain.consensus.tx import sequence_locks_met
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import network
from chain.primitives.amount import COIN, MAX_MONEY
from chain.primitives.block import Block
from chain.primitives.coin import coin_value, pack_coin
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, BlockHash, OutPoint
from chain.script import standard
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.script import push_int
from chain.script.sighash import TxData
from tests.support.blocks import commit
from tests.support.spends import Output, SpendGenerator, damage

FINAL = 0xFFFFFFFF
MAX_COINS = 600  #: that the generator remembers
MAX_DEPTH = 40  #: blocks that it can go back


@dataclass(frozen=True)
class Owned:
    """A coin and how to spend it."""

    outpoint: OutPoint
    coin: bytes
    output: Output


@dataclass(frozen=True)
class Draft:
    """A block before it is serialized; a damage replaces some of it."""

    prev: BlockIndexEntry
    transactions: tuple[Transaction, ...]  #: without the coinbase
    time: int
    fees: int
    nbits: int
    payouts: tuple[TxOut, ...]
    version: int = 0x20000000
    prev_hash: bytes | None = None
    script_sig: bytes | None = None
    coinbase_inputs: int = 1
    coinbase_sequence: int = FINAL
    coinbase_locktime: int = 0
    reserved: tuple[bytes, ...] | None = (bytes(32),)  #: the coinbase's witness
    commitment: Callable[[TxOut], Sequence[TxOut]] = lambda output: (output,)  #: what becomes of the commitment
    leading: tuple[Transaction, ...] | None = None  #: instead of the coinbase
    root: bytes | None = None
    repeat: int = 0  #: transactions at the end that are repeated under the same root
    solved: bool = True
    extra: bytes = field(default=b"")

    @property
    def height(self) -> int:
        return self.prev.height + 1

    def coinbase(self) -> Transaction:
        """With a commitment that fits the transactions."""
        script_sig = push_int(self.height) + self.extra if self.script_sig is None else self.script_sig
        inputs = [TxIn(NULL_OUTPOINT, script_sig, self.coinbase_sequence, self.reserved or ())]
        inputs += [TxIn(OutPoint(bytes(31) + b"\1" + bytes(4)), b"\x51", FINAL)] * (self.coinbase_inputs - 1)
        blank = Transaction.build(2, inputs, [], 0)
        reserved = self.reserved[0] if self.reserved and len(self.reserved[0]) == 32 else bytes(32)
        outputs = [*self.payouts, *self.commitment(commit([blank, *self.transactions], reserved))]
        return Transaction.build(2, inputs, outputs, self.coinbase_locktime)

    def build(self) -> Block:
        """The block, its nonce found unless told otherwise."""
        leading = (self.coinbase(),) if self.leading is None else self.leading
        transactions = [*leading, *self.transactions]
        root = merkle_root([tx.txid for tx in transactions])[0] if self.root is None else self.root
        if self.repeat:
            transactions += transactions[-self.repeat :]
        prev_hash = self.prev.hash if self.prev_hash is None else self.prev_hash
        target = target_from_nbits(self.nbits) or 0
        target = target if target >> 250 else 1 << 254  # hopeless targets need not be met
        for nonce in range(1 << 32):
            header = BlockHeader.build(self.version, prev_hash, root, self.time, self.nbits, nonce)
            if (int.from_bytes(header.hash, "little") <= target) == self.solved:
                break
        return Block.build(header, transactions)


class BlockGenerator:
    """A regtest chain that grows by `draft` and `adopt`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.params = network("regtest")
        self.index = HeaderIndex(self.params)
        self.tip = self.index.genesis
        self.spends = SpendGenerator(rng)
        self.outputs: dict[bytes, Output] = {}  #: by script: every output that was ever made
        self.coins: dict[OutPoint, Owned] = {}  #: unspent at the tip
        self._states: dict[BlockHash, dict[OutPoint, Owned]] = {self.tip.hash: {}}

    # the valid part

    def output(self) -> Output:
        """A new one, remembered so that it can be spent."""
        output = self.spends.output()
        return self.outputs.setdefault(output.script, output)

    def draft(self, transactions: int = 5) -> Draft:
        """A block on the tip that should be valid."""
        rng = self.rng
        latest = int(clock.time()) - 3600  # a damaged time that passes may have put the tip into the future
        time = max(self.tip.median_time_past() + 1, min(latest, self.tip.time + rng.randrange(-200, 1200)))
        made: list[Transaction] = []
        fees = 0
        height = self.tip.height + 1
        available = {op: owned for op, owned in self.coins.items() if not self.is_immature(owned, height)}
        for _ in range(transactions):
            picked = rng.sample(list(available.values()), min(len(available), rng.choice((1, 1, 2, 3, 5))))
            if not picked:
                break
            tx, fee = self.spend(picked)
            if not self.passes(tx, picked):
                continue
            for owned in picked:
                del available[owned.outpoint]
            made.append(tx)
            fees += fee
            available.update((owned.outpoint, owned) for owned in self.owned(tx, height, False))
        parts = rng.choice((1, 2, 5, 10))
        reward = fees + block_subsidy(height, self.params) - rng.choice((0, 0, 1))
        payouts = tuple(TxOut(Amount(reward // parts), self.output().script) for _ in range(parts))
        return Draft(self.tip, tuple(made), time, fees, self.tip.nbits, payouts, extra=rng.randbytes(4))

    def spend(
        self, coins: Sequence[Owned], *, fee: int | None = None, outputs: Sequence[TxOut] | None = None
    ) -> tuple[Transaction, int]:
        """A signed transaction and its fee; what the signatures sign is right, locks and scripts may still refuse."""
        rng = self.rng
        total = sum(coin_value(owned.coin) for owned in coins)
        fee = rng.randrange(min(total, 10_000) + 1) if fee is None else fee
        if outputs is None:
            parts = rng.choice((1, 2, 2, 3))
            outputs = [TxOut(Amount((total - fee) // parts), self.output().script) for _ in range(parts)]
            if rng.random() < 0.1:
                outputs.append(TxOut(Amount(0), standard.nulldata(rng.randbytes(20))))
        version = rng.choice((1, 2, 2, 2, 3, 0xFFFFFFFF))
        locktime = rng.choice((0, 0, 0, self.tip.height, max(0, self.tip.median_time_past() - 1)))
        inputs = [TxIn(o.outpoint, b"", rng.choice((FINAL, FINAL - 1, 1 << 31, 0, 2, 1 << 22 | 1))) for o in coins]
        tx = self.sign(coins, inputs, outputs, version, locktime)
        return tx, total - sum(out.value for out in outputs)

    def sign(
        self, coins: Sequence[Owned], inputs: Sequence[TxIn], outputs: Sequence[TxOut], version: int, locktime: int
    ) -> Transaction:
        """Fill in scriptSigs and witnesses."""
        txdata = TxData(Transaction.build(version, inputs, outputs, locktime), [owned.coin for owned in coins])
        signed = []
        for n, (owned, empty) in enumerate(zip(coins, inputs, strict=True)):
            script_sig, witness = owned.output.spend(txdata, n, coin_value(owned.coin))
            signed.append(TxIn(empty.prevout, script_sig, empty.sequence, witness))
        return Transaction.build(version, signed, outputs, locktime)

    def passes(self, tx: Transaction, coins: Sequence[Owned]) -> bool:
        """Whether its relative locks and its scripts let it into the next block."""
        packed = [owned.coin for owned in coins]
        if not sequence_locks_met(tx, packed, self.tip):
            return False
        flags = block_script_flags(b"", self.tip.height + 1, self.params)
        txdata = TxData(tx, packed)
        return all(verify_input(tx, n, coin, flags, txdata) is ScriptError.OK for n, coin in enumerate(packed))

    def is_immature(self, owned: Owned, height: int) -> bool:
        code = int.from_bytes(owned.coin[8:12], "little")
        return bool(code & 1) and height - (code >> 1) < COINBASE_MATURITY

    def owned(self, tx: Transaction, height: int, coinbase: bool) -> list[Owned]:
        """The outputs of a transaction that the generator can spend."""
        return [
            Owned(tx.outpoint(n), pack_coin(value, script, height, coinbase), self.outputs[script])
            for n, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True))
            if script in self.outputs and 0 <= value <= MAX_MONEY
        ]

    def adopt(self, block: Block) -> None:
        """Go on from this block, whose parent was adopted before."""
        prev = self.index.entries[block.header.prev_hash]
        coins = dict(self._states[prev.hash])
        for position, tx in enumerate(block.transactions):
            for outpoint in tx.prevouts:
                coins.pop(outpoint, None)
            coins.update((owned.outpoint, owned) for owned in self.owned(tx, prev.height + 1, position == 0))
        for outpoint in list(coins)[: max(0, len(coins) - MAX_COINS)]:
            del coins[outpoint]  # still unspent, but forgotten: long runs must not slow down
        self.tip = self.index.add(block.header)
        self._states[self.tip.hash] = coins
        while len(self._states) > MAX_DEPTH:
            del self._states[next(iter(self._states))]
        self.coins = coins

    def go_back(self, blocks: int) -> None:
        """Continue from an earlier block, at most MAX_DEPTH back: what follows is a fork."""
        for _ in range(blocks):
            if self.tip.prev is not None:
                self.tip = self.tip.prev
        self.coins = self._states[self.tip.hash]

    def go_to(self, block_hash: bytes) -> None:
        """Continue from any adopted block that is not too far back."""
        self.tip = self.index.entries[BlockHash(block_hash)]
        self.coins = self._states[self.tip.hash]

    # damage

    def damaged(self, draft: Draft) -> tuple[str, Block]:
        """(what was done, the block)."""
        name = self.rng.choice(list(DAMAGES))
        return name, DAMAGES[name](self, draft)

    def replace_transaction(self, draft: Draft, change: Callable[[Transaction], Transaction]) -> Draft:
        """With one transaction changed."""
        if not draft.transactions:
            return draft
        at = self.rng.randrange(len(draft.transactions))
        changed = list(draft.transactions)
        changed[at] = change(changed[at])
        return replace(draft, transactions=tuple(changed))

    def add_transaction(self, draft: Draft, tx: Transaction, *, front: bool = False) -> Draft:
        """With one transaction more."""
        return replace(draft, transactions=(tx, *draft.transactions) if front else (*draft.transactions, tx))

    def free_coin(self, draft: Draft, *, immature: bool = False) -> Owned | None:
        """A coin that the draft does not spend."""
        used = {op for tx in draft.transactions for op in tx.prevouts}
        height = draft.height
        free = [o for o in self.coins.values() if o.outpoint not in used and self.is_immature(o, height) == immature]
        return self.rng.choice(free) if free else None


def _rebuild(
    tx: Transaction,
    *,
    inputs: Sequence[TxIn] | None = None,
    outputs: Sequence[TxOut] | None = None,
    version: int | None = None,
    locktime: int | None = None,
) -> Transaction:
    return Transaction.build(
        tx.version if version is None else version,
        tx.inputs if inputs is None else inputs,
        tx.outputs if outputs is None else outputs,
        tx.locktime if locktime is None else locktime,
    )


Damage = Callable[[BlockGenerator, Draft], Block]
DAMAGES: dict[str, Damage] = {}


def _damage(function: Damage) -> Damage:
    DAMAGES[function.__name__.strip("_").replace("_", " ")] = function
    return function


# headers


@_damage
def _time(generator: BlockGenerator, draft: Draft) -> Block:
    median = draft.prev.median_time_past()
    now = int(clock.time())
    times = (median, median - 1, median + 1, now + 7200 - 30, now + 7200 + 30, 0, 0xFFFFFFFF)
    return replace(draft, time=generator.rng.choice(times)).build()


@_damage
def _bits(generator: BlockGenerator, draft: Draft) -> Block:
    choices = (0x207FFFFE, 0x1F7FFFFF, 0x1D00FFFF, 0x20800000, 0x21007FFF, 0, 0x2100FFFF, 0x04923456)
    return replace(draft, nbits=generator.rng.choice(choices)).build()


@_damage
def _version(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, version=generator.rng.choice((0, 1, 2, 3, 4, -1, 0x7FFFFFFF, -(2**31)))).build()


@_damage
def _unsolved(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, solved=False).build()


@_damage
def _unknown_parent(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, prev_hash=generator.rng.randbytes(32)).build()


@_damage
def _wrong_root(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, root=generator.rng.randbytes(32)).build()


@_damage
def _repeated_tail(generator: BlockGenerator, draft: Draft) -> Block:
    count = len(draft.transactions) + 1
    return replace(draft, repeat=count & -count).build()


# coinbase


@_damage
def _coinbase_amount(generator: BlockGenerator, draft: Draft) -> Block:
    first = draft.payouts[0]
    more = generator.rng.choice((1, 2, -1, 10**9, -first.value, MAX_MONEY - first.value, MAX_MONEY))
    value = max(-(2**63), first.value + more)
    return replace(draft, payouts=(TxOut(Amount(value), first.script_pubkey), *draft.payouts[1:])).build()


@_damage
def _coinbase_exact_amount(generator: BlockGenerator, draft: Draft) -> Block:
    script = draft.payouts[0].script_pubkey
    reward = draft.fees + block_subsidy(draft.height, generator.params)
    return replace(draft, payouts=(TxOut(Amount(reward + generator.rng.choice((0, 0, 1))), script),)).build()


@_damage
def _coinbase_height(generator: BlockGenerator, draft: Draft) -> Block:
    height = draft.height
    scripts = (
        push_int(height + 1) + b"\0",
        push_int(height - 1) + b"\0",
        push_int(height),
        b"\x02" + height.to_bytes(2, "little"),
        b"\x03" + height.to_bytes(3, "little"),
        b"",
        b"\0\0",
    )
    return replace(draft, script_sig=generator.rng.choice(scripts)).build()


@_damage
def _coinbase_length(generator: BlockGenerator, draft: Draft) -> Block:
    size = generator.rng.choice((1, 2, 99, 100, 101, 200))
    return replace(draft, script_sig=(push_int(draft.height) + bytes(200))[:size]).build()


@_damage
def _coinbase_lock(generator: BlockGenerator, draft: Draft) -> Block:
    locktime = generator.rng.choice((0, draft.height - 1, draft.height, draft.prev.median_time_past(), 0xFFFFFFFF))
    sequence = generator.rng.choice((FINAL, FINAL - 1, 0))
    return replace(draft, coinbase_locktime=locktime, coinbase_sequence=sequence).build()


@_damage
def _coinbase_inputs(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, coinbase_inputs=2).build()


@_damage
def _no_coinbase(generator: BlockGenerator, draft: Draft) -> Block:
    return replace(draft, leading=()).build()


@_damage
def _two_coinbases(generator: BlockGenerator, draft: Draft) -> Block:
    coinbase = draft.coinbase()
    return replace(draft, leading=(coinbase, coinbase)).build()


@_damage
def _coinbase_last(generator: BlockGenerator, draft: Draft) -> Block:
    return generator.add_transaction(replace(draft, leading=()), draft.coinbase()).build()


@_damage
def _coinbase_outputs(generator: BlockGenerator, draft: Draft) -> Block:
    """None at all, or one that is not money."""
    outputs = generator.rng.choice(((), (TxOut(Amount(-1), b""),), (TxOut(Amount(2**63 - 1), b""),)))
    return replace(draft, payouts=outputs, commitment=lambda output: ()).build()


# witness commitment


@_damage
def _witness_reserved_value(generator: BlockGenerator, draft: Draft) -> Block:
    reserved = generator.rng.choice(
        (None, (b"",), (bytes(31),), (bytes(33),), (bytes(32), bytes(32)), (bytes(32), b""), (b"\1" * 32,))
    )
    return replace(draft, reserved=reserved).build()


@_damage
def _witness_commitment(generator: BlockGenerator, draft: Draft) -> Block:
    def none(output: TxOut) -> Sequence[TxOut]:
        return ()

    def wrong(output: TxOut) -> Sequence[TxOut]:
        return (TxOut(output.value, output.script_pubkey[:-1] + bytes((output.script_pubkey[-1] ^ 1,))),)

    def wrong_then_right(output: TxOut) -> Sequence[TxOut]:
        return (*wrong(output), output)

    def right_then_wrong(output: TxOut) -> Sequence[TxOut]:
        return (output, *wrong(output))

    def longer(output: TxOut) -> Sequence[TxOut]:
        return (TxOut(output.value, output.script_pubkey + b"more"),)

    def shorter(output: TxOut) -> Sequence[TxOut]:
        return (TxOut(output.value, output.script_pubkey[:-1]),)

    change = generator.rng.choice((none, none, wrong, wrong_then_right, right_then_wrong, longer, shorter))
    draft = replace(draft, commitment=change)
    if change is none and generator.rng.random() < 0.7:
        draft = replace(draft, reserved=None)
    return draft.build()


# transactions


@_damage
def _damaged_spend(generator: BlockGenerator, draft: Draft) -> Block:
    def change(tx: Transaction) -> Transaction:
        coins = [bytes(34)] * len(tx.prevouts)
        return damage(generator.rng, tx, list(coins))[0]

    return generator.replace_transaction(draft, change).build()


for _n in range(6):  # what is most of a block's checking gets most of the tries
    DAMAGES[f"damaged spend {_n}"] = _damaged_spend


@_damage
def _output_values(generator: BlockGenerator, draft: Draft) -> Block:
    value = generator.rng.choice((-1, -(2**63), 0, MAX_MONEY, MAX_MONEY + 1, 2**63 - 1, 21_000_001 * COIN))

    def change(tx: Transaction) -> Transaction:
        outputs = list(tx.outputs)
        outputs[generator.rng.randrange(len(outputs))] = TxOut(Amount(value), b"\x51")
        return _rebuild(tx, outputs=outputs)

    return generator.replace_transaction(draft, change).build()


@_damage
def _overspend(generator: BlockGenerator, draft: Draft) -> Block:
    """A well-signed transaction that pays out a little more, or exactly, what it takes in."""
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    paid = coin_value(coin.coin) + generator.rng.choice((0, 1, 5))
    tx, _ = generator.spend([coin], outputs=[TxOut(Amount(paid), b"\x51")])
    return generator.add_transaction(draft, tx).build()


@_damage
def _missing_coin(generator: BlockGenerator, draft: Draft) -> Block:
    outpoint = OutPoint(generator.rng.choice((generator.rng.randbytes(36), NULL_OUTPOINT, bytes(32) + b"\1\0\0\0")))

    def change(tx: Transaction) -> Transaction:
        return _rebuild(tx, inputs=[*tx.inputs, TxIn(outpoint, b"")])

    return generator.replace_transaction(draft, change).build()


@_damage
def _spent_before(generator: BlockGenerator, draft: Draft) -> Block:
    """A coin of the draft spent a second time."""
    used = [op for tx in draft.transactions for op in tx.prevouts if op in generator.coins]
    if not used:
        return draft.build()
    coin = generator.coins[generator.rng.choice(used)]
    tx, _ = generator.spend([coin])
    return generator.add_transaction(draft, tx, front=generator.rng.random() < 0.5).build()


@_damage
def _repeated_transaction(generator: BlockGenerator, draft: Draft) -> Block:
    if not draft.transactions:
        return draft.build()
    return generator.add_transaction(draft, generator.rng.choice(draft.transactions)).build()


@_damage
def _repeated_input(generator: BlockGenerator, draft: Draft) -> Block:
    return generator.replace_transaction(draft, lambda tx: _rebuild(tx, inputs=[*tx.inputs, tx.inputs[0]])).build()


@_damage
def _order(generator: BlockGenerator, draft: Draft) -> Block:
    shuffled = list(draft.transactions)
    generator.rng.shuffle(shuffled)
    return replace(draft, transactions=tuple(shuffled)).build()


@_damage
def _empty_sides(generator: BlockGenerator, draft: Draft) -> Block:
    if generator.rng.random() < 0.5:
        return generator.replace_transaction(draft, lambda tx: _rebuild(tx, outputs=())).build()
    return generator.replace_transaction(draft, lambda tx: _rebuild(tx, inputs=())).build()


@_damage
def _immature(generator: BlockGenerator, draft: Draft) -> Block:
    young = [o for o in generator.coins.values() if generator.is_immature(o, draft.height)]
    if not young:
        return draft.build()
    oldest = min(young, key=lambda o: int.from_bytes(o.coin[8:12], "little"))
    tx, _ = generator.spend([generator.rng.choice((oldest, generator.rng.choice(young)))])
    return generator.add_transaction(draft, tx).build()


def _locked(generator: BlockGenerator, draft: Draft, version: int, locktime: int, sequence: int) -> Block:
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    outputs = [TxOut(coin_value(coin.coin), generator.output().script)]
    tx = generator.sign([coin], [TxIn(coin.outpoint, b"", sequence)], outputs, version, locktime)
    return generator.add_transaction(draft, tx).build()


@_damage
def _lock_time(generator: BlockGenerator, draft: Draft) -> Block:
    median = draft.prev.median_time_past()
    height = draft.height
    rng = generator.rng
    locktime = rng.choice((height - 1, height, height + 1, median - 1, median, median + 1, 499_999_999, 500_000_000))
    return _locked(generator, draft, 2, locktime, rng.choice((FINAL, FINAL - 1, FINAL - 1)))


@_damage
def _relative_lock(generator: BlockGenerator, draft: Draft) -> Block:
    rng = generator.rng
    sequence = rng.choice((0, 1, 2, 5, 20, 100, 0xFFFF, 1 << 22, 1 << 22 | 1, 1 << 22 | 20, 1 << 31 | 50, 0x7FFFFFFF))
    return _locked(generator, draft, rng.choice((1, 2, 2, 2, 0xFFFFFFFF)), 0, sequence)


@_damage
def _locked_child(generator: BlockGenerator, draft: Draft) -> Block:
    """A relative lock on a coin of the same block."""
    made = [owned for tx in draft.transactions for owned in generator.owned(tx, draft.height, False)]
    spent = {op for tx in draft.transactions for op in tx.prevouts}
    made = [owned for owned in made if owned.outpoint not in spent]
    if not made:
        return draft.build()
    coin = generator.rng.choice(made)
    sequence = generator.rng.choice((0, 1, 1 << 22, 1 << 22 | 1, FINAL))
    outputs = [TxOut(coin_value(coin.coin), b"\x51")]
    tx = generator.sign([coin], [TxIn(coin.outpoint, b"", sequence)], outputs, 2, 0)
    return generator.add_transaction(draft, tx).build()


@_damage
def _unspendable(generator: BlockGenerator, draft: Draft) -> Block:
    """An output that is no coin, or just still is one, and its spend in the same block."""
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    script = generator.rng.choice(
        (b"\x6a", b"\x6a\x51", bytes(10_001), b"\x61" * 10_001, b"\x51" + b"\x61" * 9_999, b"\x51")
    )
    tx, _ = generator.spend([coin], outputs=[TxOut(coin_value(coin.coin), script)])
    child = Transaction.build(2, [TxIn(tx.outpoint(0), b"")], [TxOut(Amount(0), b"\x51")], 0)
    return generator.add_transaction(generator.add_transaction(draft, tx), child).build()


# sizes and counts


@_damage
def _sigops(generator: BlockGenerator, draft: Draft) -> Block:
    """Around 20,000 legacy signature operations, in outputs."""
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    count = generator.rng.choice((19_900, 19_980, 20_000, 20_001))
    scripts = [b"\xac" * min(5_000, count - start) for start in range(0, count, 5_000)]
    scripts = generator.rng.choice((scripts, [b"\xae" * 1_000, b"\xac" * generator.rng.choice((0, 1))]))
    tx, _ = generator.spend([coin], outputs=[TxOut(Amount(0), script) for script in scripts])
    return generator.add_transaction(draft, tx).build()


@_damage
def _counted_sigops(generator: BlockGenerator, draft: Draft) -> Block:
    """Signature operations that only the spent coins reveal: in redeem and witness scripts."""
    from chain.crypto.hashes import hash160, sha256

    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    rng = generator.rng
    script = b"\x51\x63\x51\x67" + b"\xae" * rng.choice((49, 50, 195, 196)) + b"\x68"  # in a branch not taken
    witness = rng.random() < 0.5
    copies = rng.choice((19, 20, 21))
    lock = standard.p2wsh(sha256(script)) if witness else standard.p2sh(hash160(script))
    parent, _ = generator.spend([coin], outputs=[TxOut(Amount(1), lock)] * copies)
    size = len(script).to_bytes(1, "little")
    inputs = [
        TxIn(parent.outpoint(n), b"" if witness else b"\x4c" + size + script, FINAL, (script,) if witness else ())
        for n in range(copies)
    ]
    child = Transaction.build(2, inputs, [TxOut(Amount(0), b"\x51")], 0)
    return generator.add_transaction(generator.add_transaction(draft, parent), child).build()


@_damage
def _weight(generator: BlockGenerator, draft: Draft) -> Block:
    """Filled up to the weight limit, or one unit beyond, with bytes of either kind."""
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    target = 4_000_000 + generator.rng.choice((-1, 0, 0, 1, 4))
    filler, _ = generator.spend([coin], outputs=[TxOut(Amount(0), b"\x6a")])
    full = generator.add_transaction(draft, filler)
    room = target - full.build().weight

    def padded(count: int) -> Block:
        big = _rebuild(filler, outputs=[TxOut(Amount(0), b"\x6a" + bytes(max(0, count)))])
        return replace(full, transactions=(*full.transactions[:-1], big)).build()

    base = room // 4 - 8
    block = padded(base)
    for _ in range(20):
        gap = target - block.weight
        if 0 <= gap < 4:
            break
        base += gap // 4
        block = padded(base)
    return block


@_damage
def _large_transaction(generator: BlockGenerator, draft: Draft) -> Block:
    coin = generator.free_coin(draft)
    if coin is None:
        return draft.build()
    size = generator.rng.choice((999_000, 1_000_001, 1_100_000))
    tx, _ = generator.spend([coin], outputs=[TxOut(Amount(0), b"\x6a" + bytes(size))])
    return generator.add_transaction(draft, tx).build()


@_damage
def _flipped_bit(generator: BlockGenerator, draft: Draft) -> Block:
    """A bit of the serialized block: mostly undecodable or off its root."""
    whole = draft.build().raw
    while True:
        raw = bytearray(whole)
        raw[generator.rng.randrange(80, len(raw))] ^= 1 << generator.rng.randrange(8)
        try:
            Block.parse(bytes(raw))
        except DecodeError as error:
            if "after the block" in str(error):  # which the kernel's parser does not mind: no rule is at stake
                continue
        return Unparsed(bytes(raw))


@_damage
def _cut_short(generator: BlockGenerator, draft: Draft) -> Block:
    raw = draft.build().raw
    return Unparsed(raw[: generator.rng.randrange(81, len(raw))])


class Unparsed(Block):
    """Bytes that may not be a block at all; only `raw` can be used."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(BlockHeader(raw[:80]), [], raw)
