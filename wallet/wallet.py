"""A wallet: accounts, addresses and transactions over its encrypted store."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chain.params import NetworkParams
from chain.primitives.block import Block
from chain.primitives.errors import UserError
from chain.primitives.transaction import Transaction
from chain.primitives.types import OutPoint, Txid, hash_from_hex, hash_to_hex
from chain.script.addresses import encode_address
from wallet.descriptors import Descriptor, Expansion, SingleKey, parse_descriptor
from wallet.keys import HARDENED, ExtendedPrivateKey, ExtendedPublicKey
from wallet.ledger import Balance, Coin, Entry, HistoryItem, Ledger, Owner, TxState, conflicts_of, is_immature, settle
from wallet.mnemonic import entropy_from_mnemonic, normalize, seed_from_mnemonic
from wallet.store import Value, WalletStore
from wallet.vault import KdfCost

GAP_LIMIT = (
    100  #: unused addresses watched ahead of the last one handed out or paid; BIP44's 20 and room for idle invoices
)
RECENT_BLOCKS = 144  #: block hashes kept one by one to find where a reorganisation began; beyond, one in SPARSE_STEP
SPARSE_STEP = 1_000
MAX_SPARSE = 5_000
RECEIVE, CHANGE = 0, 1

#: account kind -> (BIP43 purpose, descriptor function)
ACCOUNT_KINDS: dict[str, tuple[int, str]] = {"bip84": (84, "wpkh"), "bip86": (86, "tr")}
DEFAULT_ACCOUNT = "bip84"

#: SLIP-44 coin types: every test network shares 1; ours spells 'pick' so that one seed never has the same keys on both
#: chains.
COIN_TYPES = {"bitcoin": 0, "pickaxe": 0x7069636B}
TEST_COIN_TYPE = 1

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class SyncPoint:
    """The block up to which the wallet has seen the chain, and hashes of earlier ones, highest first."""

    height: int
    block_hash: bytes
    time: int
    trail: tuple[tuple[int, bytes], ...]


class OutOfStep(Exception):
    """The blocks do not follow the sync point: another process, or a reorganisation, moved it."""


class Wallet:
    """One open wallet. Use as a context manager; every change is on disk when the method that makes it returns."""

    def __init__(self, store: WalletStore, params: NetworkParams, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.params = params
        self._clock = clock
        meta = store.get("meta", "wallet")
        if meta is None:
            raise UserError(f"{store.path} is not a complete wallet: restore it from its words")
        if meta["network"] != params.name:
            raise UserError(
                f"this wallet belongs to the network '{meta['network']}', not '{params.name}': use --network"
            )
        self.meta: Value = meta
        self._descriptors: dict[tuple[str, int], Descriptor] = {}
        self._derived: dict[tuple[str, int], int] = {}
        self.owners: dict[bytes, Owner] = {}
        self.entries: dict[Txid, Entry] = {}
        self._owned: set[OutPoint] = set()
        self._ledger: Ledger | None = None
        self._seen_changes = -1
        self._load()

    # -- opening and making

    @classmethod
    def create(
        cls,
        path: Path,
        params: NetworkParams,
        password: str,
        words: str,
        *,
        passphrase: str = "",
        birthday_height: int = 0,
        gap_limit: int = GAP_LIMIT,
        cost: KdfCost | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Wallet:
        """A new wallet file from words (checked). Blocks below `birthday_height` are never scanned."""
        entropy_from_mnemonic(words)
        words = normalize(words)
        master = ExtendedPrivateKey.from_seed(seed_from_mnemonic(words, passphrase))
        accounts = {kind: account_descriptors(master, kind, params) for kind in ACCOUNT_KINDS}
        sealed: dict[str, Value] = {"mnemonic": {"words": words, "passphrase": passphrase}}
        records = _first_records(params, master.fingerprint, accounts, birthday_height, gap_limit, int(clock()))
        store = WalletStore.create(path, password, records=records, sealed=sealed, cost=cost)
        return cls(store, params, clock)

    @classmethod
    def create_watching(
        cls,
        path: Path,
        params: NetworkParams,
        password: str,
        exported: str,
        *,
        birthday_height: int = 0,
        gap_limit: int = GAP_LIMIT,
        cost: KdfCost | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Wallet:
        """A wallet without keys from what `export` prints: public descriptors, one a line. It sees everything and
        drafts payments, which the wallet with the keys signs."""
        fingerprint, accounts = parse_exported(exported, params)
        records = _first_records(params, fingerprint, accounts, birthday_height, gap_limit, int(clock()))
        store = WalletStore.create(path, password, records=records, sealed={}, cost=cost)
        return cls(store, params, clock)

    @classmethod
    def open(
        cls, path: Path, params: NetworkParams, password: str, *, clock: Callable[[], float] = time.time
    ) -> Wallet:
        """Open an existing wallet. WrongPassword, UserError or LocalFault say why not."""
        store = WalletStore.open(path, password)
        try:
            return cls(store, params, clock)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Release the file and forget the keys."""
        self.store.close()

    def __enter__(self) -> Wallet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> int:
        """Unix seconds, by the clock the wallet was given."""
        return int(self._clock())

    # -- keys and addresses

    @property
    def fingerprint(self) -> bytes:
        """Of the master key: tells wallets apart without telling anything else."""
        return bytes.fromhex(self.meta["fingerprint"])

    @property
    def can_sign(self) -> bool:
        """Whether it holds keys; False for one that watches."""
        return self.store.has_sealed("mnemonic")

    def words(self) -> str:
        """The backup. Show it to nobody but the owner."""
        return str(self.store.sealed("mnemonic")["words"])

    def master_key(self) -> ExtendedPrivateKey:
        """The root of all keys: for signing, then dropped."""
        secret = self.store.sealed("mnemonic")
        return ExtendedPrivateKey.from_seed(seed_from_mnemonic(secret["words"], secret["passphrase"]))

    def descriptors(self) -> dict[str, tuple[str, str]]:
        """Account kind to its public (receive, change) descriptors."""
        accounts = self.store.items("account")
        return {
            kind: (accounts[kind]["receive"], accounts[kind]["change"]) for kind in ACCOUNT_KINDS if kind in accounts
        }

    def new_address(self, kind: str = DEFAULT_ACCOUNT, branch: int = RECEIVE) -> str:
        """A fresh address, never given out before, on record before it is returned."""
        with self.changing():
            index = self._next(kind, branch)
            self.use_index(Owner(kind, branch, index))
            return self.address(Owner(kind, branch, index))

    def peek_script(self, kind: str, branch: int) -> tuple[Owner, bytes]:
        """The next unused script of a branch, without using it up."""
        owner = Owner(kind, branch, self._next(kind, branch))
        return owner, self.expand(owner).script_pubkey

    def use_index(self, owner: Owner) -> None:
        """Mark an index, and all before it, as handed out; watch further ahead."""
        account = self._account(owner.account)
        following = list(account["next"])
        if owner.index >= following[owner.branch]:
            following[owner.branch] = owner.index + 1
            with self.changing():
                self.store.put("account", owner.account, {**account, "next": following})
                self._extend(owner.account, owner.branch)

    def address(self, owner: Owner) -> str:
        """The address text of one of the wallet's scripts."""
        return self.address_of(self.expand(owner).script_pubkey)

    def address_of(self, script: bytes) -> str:
        """The address of any script, or its hex where it has none."""
        return encode_address(script, self.params.addresses) or script.hex()

    def expand(self, owner: Owner) -> Expansion:
        """Scripts and keys at an index."""
        return self._descriptors[(owner.account, owner.branch)].expand(owner.index)

    # -- money

    @property
    def ledger(self) -> Ledger:
        """Coins and history as of the last change."""
        if self._ledger is None:
            self._ledger = Ledger(self.entries, self.owners)
        return self._ledger

    def balance(self) -> Balance:
        """Confirmed, pending and immature satoshi as of the last synchronization."""
        return self.ledger.balance(self.tip_height)

    def spendable(self, *, unconfirmed_change: bool = True) -> list[Coin]:
        """Coins that the next transaction may spend: confirmed and mature, and our own unconfirmed change."""
        return [
            coin
            for coin in self.ledger.coins()
            if not is_immature(coin, self.tip_height)
            and (coin.height is not None or (unconfirmed_change and coin.is_trusted))
        ]

    def history(self) -> list[HistoryItem]:
        """Every transaction, oldest first."""
        return self.ledger.history()

    # -- the chain

    @property
    def sync_point(self) -> SyncPoint | None:
        """Where the wallet stands, None before the first synchronization."""
        value = self.store.get("sync", "tip")
        if value is None:
            return None
        trail = tuple((int(height), hash_from_hex(block)) for height, block in value["trail"])
        return SyncPoint(int(value["height"]), hash_from_hex(value["hash"]), int(value["time"]), trail)

    @property
    def tip_height(self) -> int:
        """Height of the last block seen; -1 before the first."""
        value = self.store.get("sync", "tip")
        return int(value["height"]) if value is not None else -1

    def is_relevant(self, tx: Transaction) -> bool:
        """Whether it pays to or spends from the wallet."""
        owners = self.owners
        for script in tx.scripts:
            if script in owners:
                return True
        owned = self._owned
        return any(prevout in owned for prevout in tx.prevouts)

    def connect_blocks(self, blocks: list[tuple[int, Block]]) -> int:
        """Take in consecutive blocks that follow the sync point, all or none; how many transactions concerned us.
        OutOfStep if they do not follow it."""
        found = 0
        with self.changing():
            point = self.sync_point
            if point is not None and (blocks[0][0], blocks[0][1].header.prev_hash) != (
                point.height + 1,
                point.block_hash,
            ):
                raise OutOfStep
            for height, block in blocks:
                for position, tx in enumerate(block.transactions):
                    if self.is_relevant(tx):
                        self._confirm(tx, height, block, position)
                        found += 1
            if found:
                self._settle()
            height, last = blocks[-1]
            self._set_sync_point(height, last.hash, last.header.time, [(h, b.hash) for h, b in blocks])
        return found

    def rewind(self, height: int, block_hash: bytes, block_time: int) -> None:
        """The chain was reorganised: everything above `height` is unconfirmed again."""
        with self.changing():
            for entry in list(self.entries.values()):
                if entry.height is not None and entry.height > height:
                    self._put_entry(entry.unconfirmed())
            self._settle()
            point = self.sync_point
            trail = [(h, b) for h, b in point.trail if h <= height] if point is not None else []
            self._write_sync_point(height, block_hash, block_time, trail)

    def forget_chain(self, from_height: int | None = None) -> None:
        """Read the chain again from `from_height`, else from the birthday. Transactions stay, unconfirmed until they
        are met again."""
        with self.changing():
            for entry in list(self.entries.values()):
                if entry.height is not None:
                    self._put_entry(entry.unconfirmed())
            self.store.delete("sync", "tip")
            if from_height is not None:
                self._set_birthday(from_height)

    def _set_birthday(self, height: int) -> None:
        self.meta = {**self.meta, "birthday_height": min(height, int(self.meta["birthday_height"]))}
        self.store.put("meta", "wallet", self.meta)

    def add_pending(self, tx: Transaction, *, in_mempool: bool = True) -> None:
        """A transaction that is at the node, or that we made. Pending ones that it replaces are marked so."""
        with self.changing():
            is_own = self._spends_only_ours(tx)
            for txid in list(conflicts_of(tx, self.entries)):
                self._put_entry(replace(self.entries[txid], state=TxState.REPLACED, in_mempool=False))
            known = self.entries.get(tx.txid)
            if known is not None:
                entry = replace(known, state=TxState.PENDING, in_mempool=in_mempool, is_own=is_own)
            else:
                entry = Entry(
                    tx,
                    TxState.PENDING,
                    int(self._clock()),
                    is_own=is_own,
                    in_mempool=in_mempool,
                    order=len(self.entries),
                )
            self._put_entry(entry)
            self._mark_used(tx)
            self._settle()

    def set_state(self, txid: Txid, state: TxState, *, in_mempool: bool = False) -> None:
        """Move an unconfirmed transaction to another state; what depends on it follows."""
        entry = self.entries[txid]
        if entry.state is TxState.CONFIRMED:
            raise UserError("the transaction is confirmed: nothing can change it")
        if entry.state is state and entry.in_mempool == in_mempool:
            return
        with self.changing():
            self._put_entry(replace(entry, state=state, in_mempool=in_mempool))
            self._settle()

    # -- inside

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction on the store. If it fails, memory goes back to what is on disk."""
        try:
            with self.store.transaction():
                self._load()
                yield
        except BaseException:
            self._seen_changes = -1
            self._load()
            raise

    def refresh(self) -> None:
        """See what other processes did to this wallet."""
        self.store.refresh()
        self._load()

    def _load(self) -> None:
        """Rebuild what is derived from the store, if it changed behind our back."""
        if self._seen_changes == self.store.foreign_changes:
            return
        self._seen_changes = self.store.foreign_changes
        self._ledger = None
        for kind, account in self.store.items("account").items():
            for branch, name in ((RECEIVE, "receive"), (CHANGE, "change")):
                if (kind, branch) not in self._descriptors:
                    self._descriptors[(kind, branch)] = parse_descriptor(account[name], self.params.addresses)
                self._extend(kind, branch)
        known = self.entries
        self.entries = {}
        self._owned = set()
        for txid_hex, value in self.store.items("tx").items():
            txid = Txid(hash_from_hex(txid_hex))
            earlier = known.get(txid)
            self._remember(entry_from_record(value, earlier.tx if earlier else None))

    def _extend(self, kind: str, branch: int) -> None:
        descriptor = self._descriptors[(kind, branch)]
        end = self._next(kind, branch) + int(self.meta["gap_limit"])
        for index in range(self._derived.get((kind, branch), 0), end):
            self.owners[descriptor.expand(index).script_pubkey] = Owner(kind, branch, index)
        self._derived[(kind, branch)] = max(end, self._derived.get((kind, branch), 0))

    def _account(self, kind: str) -> Value:
        account = self.store.get("account", kind)
        if account is None:
            raise UserError(f"there is no '{kind}' account: use one of {', '.join(self.store.items('account'))}")
        return account

    def _next(self, kind: str, branch: int) -> int:
        return int(self._account(kind)["next"][branch])

    def _confirm(self, tx: Transaction, height: int, block: Block, position: int) -> None:
        known = self.entries.get(tx.txid)
        base = known or Entry(
            tx,
            TxState.CONFIRMED,
            block.header.time,
            is_own=self._spends_only_ours(tx),
            order=len(self.entries),
        )
        self._put_entry(
            replace(
                base,
                state=TxState.CONFIRMED,
                height=height,
                block_hash=block.hash,
                position=position,
                block_time=block.header.time,
                in_mempool=False,
            )
        )
        self._mark_used(tx)

    def _spends_only_ours(self, tx: Transaction) -> bool:
        """Then our keys made it: here, or in another copy of this wallet."""
        return self._owned.issuperset(tx.prevouts)

    def _mark_used(self, tx: Transaction) -> None:
        for script in tx.scripts:
            owner = self.owners.get(script)
            if owner is not None:
                self.use_index(owner)

    def _settle(self) -> None:
        for entry in settle(self.entries).values():
            self._put_entry(entry)

    def _put_entry(self, entry: Entry) -> None:
        self.store.put("tx", hash_to_hex(entry.tx.txid), entry_to_record(entry))
        self._remember(entry)

    def _remember(self, entry: Entry) -> None:
        txid = entry.tx.txid
        self.entries[txid] = entry
        for index, script in enumerate(entry.tx.scripts):
            if script in self.owners:
                self._owned.add(OutPoint(txid + index.to_bytes(4, "little")))
        self._ledger = None

    def _set_sync_point(self, height: int, block_hash: bytes, block_time: int, new: list[tuple[int, bytes]]) -> None:
        point = self.sync_point
        trail = [*reversed(new), *(point.trail if point is not None else ())]
        self._write_sync_point(height, block_hash, block_time, trail)

    def _write_sync_point(
        self, height: int, block_hash: bytes, block_time: int, trail: list[tuple[int, bytes]]
    ) -> None:
        dense = trail[:RECENT_BLOCKS]
        sparse = [item for item in trail[RECENT_BLOCKS:] if item[0] % SPARSE_STEP == 0][:MAX_SPARSE]
        self.store.put(
            "sync",
            "tip",
            {
                "height": height,
                "hash": hash_to_hex(block_hash),
                "time": block_time,
                "trail": [[h, hash_to_hex(b)] for h, b in [*dense, *sparse]],
            },
        )


def account_descriptors(
    master: ExtendedPrivateKey, kind: str, params: NetworkParams, account: int = 0
) -> tuple[str, str]:
    """The public (receive, change) descriptors of a BIP84 or BIP86 account, with origin and checksum."""
    purpose, function = ACCOUNT_KINDS[kind]
    coin_type = COIN_TYPES.get(params.name, TEST_COIN_TYPE)
    origin = f"[{master.fingerprint.hex()}/{purpose}h/{coin_type}h/{account}h]"
    key = master.derive_path((purpose + HARDENED, coin_type + HARDENED, account + HARDENED)).neuter()
    text = f"{function}({origin}{key.to_text(params.addresses)}/%d/*)"
    receive, change = (parse_descriptor(text % branch, params.addresses).to_text() for branch in (RECEIVE, CHANGE))
    return receive, change


def parse_exported(text: str, params: NetworkParams) -> tuple[bytes, dict[str, tuple[str, str]]]:
    """(master fingerprint, account kind to (receive, change) descriptors) from exported lines, checksums required.
    UserError says what is missing or not what this wallet exports."""
    found: dict[str, dict[int, str]] = {}
    bases = set()
    kinds = {function: kind for kind, (_, function) in ACCOUNT_KINDS.items()}
    for line in text.split():
        descriptor = parse_descriptor(line, params.addresses, require_checksum=True)
        node = descriptor.node
        kind = kinds.get(node.name) if isinstance(node, SingleKey) else None
        if kind is None or len(node.keys) != 1:
            raise UserError("only what `pickaxe wallet export` prints can be watched: wpkh() and tr() of one key each")
        key = node.keys[0]
        plain = not isinstance(key.key, ExtendedPublicKey) or key.origin is None or key.wildcard != "*"
        if plain or key.path not in ((RECEIVE,), (CHANGE,)):
            raise UserError("a watched descriptor has an origin and a public key, and ends in /0/* or /1/*")
        if key.origin is not None:
            bases.add(key.origin.fingerprint)
        found.setdefault(kind, {})[key.path[0]] = descriptor.to_text()
    if not found or any(set(branches) != {RECEIVE, CHANGE} for branches in found.values()):
        raise UserError("descriptors are missing: give all lines that `pickaxe wallet export` printed")
    if len(bases) != 1:
        raise UserError("the descriptors are of different wallets")
    return bases.pop(), {kind: (branches[RECEIVE], branches[CHANGE]) for kind, branches in found.items()}


def _first_records(
    params: NetworkParams,
    fingerprint: bytes,
    accounts: Mapping[str, tuple[str, str]],
    birthday_height: int,
    gap_limit: int,
    created: int,
) -> dict[tuple[str, str], Value]:
    """What a new file holds besides its secrets."""
    records: dict[tuple[str, str], Value] = {
        ("meta", "wallet"): {
            "network": params.name,
            "created": created,
            "fingerprint": fingerprint.hex(),
            "gap_limit": gap_limit,
            "birthday_height": birthday_height,
        }
    }
    for kind, (receive, change) in accounts.items():
        records[("account", kind)] = {"receive": receive, "change": change, "next": [0, 0]}
    return records


def wallet_path(datadir: Path, network: str, name: str) -> Path:
    """Where a wallet lies: DATADIR/wallets/NETWORK/NAME.sqlite, outside every node's own folder. UserError for an
    unusable name."""
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name[:40]}' cannot name a wallet: use letters, digits, '_', '-' and '.'")
    return datadir / "wallets" / network / f"{name}.sqlite"


def entry_to_record(entry: Entry) -> dict[str, Any]:
    """The stored form of an entry."""
    return {
        "raw": entry.tx.raw.hex(),
        "state": entry.state.value,
        "first_seen": entry.first_seen,
        "height": entry.height,
        "block": hash_to_hex(entry.block_hash) if entry.block_hash is not None else None,
        "position": entry.position,
        "block_time": entry.block_time,
        "own": entry.is_own,
        "in_mempool": entry.in_mempool,
        "order": entry.order,
    }


def entry_from_record(value: Mapping[str, Any], tx: Transaction | None = None) -> Entry:
    """An entry from its stored form; `tx` saves parsing where it is at hand."""
    return Entry(
        tx=tx or Transaction.parse(bytes.fromhex(value["raw"])),
        state=TxState(value["state"]),
        first_seen=int(value["first_seen"]),
        height=value["height"],
        block_hash=hash_from_hex(value["block"]) if value["block"] is not None else None,
        position=int(value["position"]),
        block_time=value["block_time"],
        is_own=bool(value["own"]),
        in_mempool=bool(value["in_mempool"]),
        order=int(value["order"]),
    )
