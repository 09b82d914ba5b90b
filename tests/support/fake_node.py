"""An in-memory node behind the peer-to-peer layer: real headers and merkle roots, no scripts. Rules can be broken on
demand."""

from __future__ import annotations

from collections.abc import Sequence

from chain.block_filter import basic_filter
from chain.crypto.hashes import sha256d
from chain.interfaces import (
    BlockOutcome,
    HeaderInfo,
    HeadersOutcome,
    MempoolTransaction,
    NodeEvents,
    TransactionOutcome,
    Verdict,
)
from chain.params import NetworkParams, network
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits, work_from_target
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, BlockHash, Height, OutPoint, Txid, Work


class Entry:
    """A node of the header tree."""

    def __init__(self, header: BlockHeader, parent: Entry | None) -> None:
        self.header = header
        self.parent = parent
        self.height = 0 if parent is None else parent.height + 1
        target = target_from_nbits(header.nbits)
        own = 0 if target is None else int(work_from_target(target))
        self.work = own + (0 if parent is None else parent.work)
        self.raw: bytes | None = None
        self.failed = parent is not None and parent.failed
        self.complete = parent is None  #: it and all before it are stored
        self.children: list[Entry] = []
        if parent is not None:
            parent.children.append(self)


class FakeNode:
    """Implements chain.interfaces.NodeForPeers. `clock` is settable time; `events` gets what a chain service would
    publish."""

    def __init__(self, params: NetworkParams | None = None, *, clock: object = None) -> None:
        self._params = params or network("regtest")
        genesis = Entry(self._params.genesis.header, None)
        genesis.raw = self._params.genesis.raw
        self.entries: dict[bytes, Entry] = {genesis.header.hash: genesis}
        self.active: list[Entry] = [genesis]
        self.best = genesis
        self.pool: dict[bytes, MempoolTransaction] = {}
        self.confirmed: set[bytes] = set()
        self.known_outpoints: set[bytes] | None = None  #: None: every input is available
        self.bad_blocks: set[bytes] = set()
        self.has_filters = True
        self.bad_transactions: set[bytes] = set()
        self.initial_download = False
        self.minimum_work = 0
        self.minimum_fee = 100
        self.events: NodeEvents | None = None
        self.requested_flags: list[bool] = []
        self.snapshot_base = b""  #: hash of the block of a UTXO snapshot that is being validated
        self._paths: dict[bytes, list[Entry]] = {}

    # --- building

    def extend(self, count: int, *, time: int | None = None, on: Entry | None = None, salt: int = 0) -> list[BlockHash]:
        """Mine blocks of one coinbase each, on the tip or on `on`."""
        hashes = []
        for _ in range(count):
            parent = on or self.active[-1]
            block = make_block(parent.header, parent.height + 1, (time or parent.header.time + 1), salt=salt)
            self.accept_block(block)
            on = self.entries[block.hash] if on is not None else None
            hashes.append(block.hash)
        return hashes

    def accept_block(self, block: Block) -> Verdict:
        entry = self.entries.get(block.hash) or self._add_header(block.header)
        if entry is None:
            return Verdict.MISSING_PARENT
        if entry.failed:
            return Verdict.CACHED_INVALID
        if entry.raw is not None:
            return Verdict.DUPLICATE
        root, mutated = merkle_root([tx.txid for tx in block.transactions])
        if mutated or root != block.header.merkle_root:
            return Verdict.MUTATED
        if block.hash in self.bad_blocks:
            entry.failed = True
            self._choose_best()
            return Verdict.INVALID
        entry.raw = block.raw
        self._activate(entry)
        return Verdict.ACCEPTED

    def _add_header(self, header: BlockHeader) -> Entry | None:
        parent = self.entries.get(header.prev_hash)
        if parent is None:
            return None
        entry = self.entries[header.hash] = Entry(header, parent)
        if entry.work > self.best.work and not entry.failed:
            self.best = entry
        return entry

    def _choose_best(self) -> None:
        for entry in sorted(self.entries.values(), key=lambda e: e.height):
            entry.failed = entry.failed or (entry.parent is not None and entry.parent.failed)
        self.best = max((e for e in self.entries.values() if not e.failed), key=lambda e: e.work)

    def _activate(self, stored: Entry) -> None:
        """Move to the chain of whole blocks with the most work, and publish it."""
        complete, best = [stored], self.active[-1]
        while complete:
            entry = complete.pop()
            if entry.raw is None or entry.failed or entry.parent is None or not entry.parent.complete:
                continue
            entry.complete = True
            best = entry if entry.work > best.work else best
            complete += entry.children
        if best is not self.active[-1]:
            branch: list[Entry] = []
            walk: Entry | None = best
            while walk is not None and self.height_of(walk) is None:
                branch.append(walk)
                walk = walk.parent
            fork = 0 if walk is None else walk.height
            gone = self.active[fork + 1 :]
            self.active = self.active[: fork + 1] + branch[::-1]
            for entry in branch:
                for tx in Block.parse(entry.raw or b"").transactions:
                    self.confirmed |= {tx.txid, tx.wtxid}
                    self.pool.pop(tx.wtxid, None)
            if self.events is not None:
                self.events.on_tip_changed(
                    self.tip(), [e.header.hash for e in branch[::-1]], [e.header.hash for e in gone[::-1]]
                )

    def height_of(self, entry: Entry) -> int | None:
        """Its height if it is in the active chain."""
        if entry.height < len(self.active) and self.active[entry.height] is entry:
            return entry.height
        return None

    def adopt_snapshot(self, block_hash: bytes) -> None:
        """Go on from a UTXO snapshot of that block; the blocks before it are not here."""
        self.snapshot_base = block_hash
        self.active = self._path_to(block_hash)
        self.active[-1].complete = True

    def add_transaction(self, tx: Transaction, *, fee: int = 1000, announce: bool = True) -> MempoolTransaction:
        entry = MempoolTransaction(
            tx.txid,
            tx.wtxid,
            tx.raw,
            tx.vsize,
            fee,
            fee * 1000 // tx.vsize,
            0.0,
            len(self.pool) + 1,
            [Txid(o[:32]) for o in tx.prevouts if any(e.txid == o[:32] for e in self.pool.values())],
        )
        self.pool[tx.wtxid] = entry
        if announce and self.events is not None:
            self.events.on_transaction_accepted(entry)
        return entry

    # --- ChainReader

    @property
    def params(self) -> NetworkParams:
        return self._params

    def _info(self, entry: Entry) -> HeaderInfo:
        h = entry.header
        return HeaderInfo(
            h.hash,
            h.prev_hash,
            Height(entry.height),
            h.time,
            h.nbits,
            Work(entry.work),
            h.raw,
            entry.raw is not None,
            entry.failed,
            self.height_of(entry) is not None,
        )

    def tip(self) -> HeaderInfo:
        return self._info(self.active[-1])

    def best_header(self) -> HeaderInfo:
        return self._info(self.best)

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        entry = self.entries.get(block_hash)
        return None if entry is None else self._info(entry)

    def header_at(self, height: int) -> HeaderInfo | None:
        return self._info(self.active[height]) if 0 <= height < len(self.active) else None

    def _ancestor(self, entry: Entry | None, height: int) -> Entry | None:
        while entry is not None and entry.height > height:
            entry = self.active[height] if self.height_of(entry) is not None else entry.parent
        return entry

    def ancestor(self, block_hash: bytes, height: int) -> HeaderInfo | None:
        entry = self.entries.get(block_hash)
        if entry is None or not 0 <= height <= entry.height:
            return None
        if self.height_of(entry) is not None:
            return self._info(self.active[height])
        return self._info(self._path_to(block_hash)[height])

    def locator(self, block_hash: bytes | None = None) -> list[BlockHash]:
        entry = self.best if block_hash is None else self.entries[block_hash]
        hashes, step = [], 1
        while True:
            hashes.append(entry.header.hash)
            if entry.height == 0:
                return hashes
            if len(hashes) > 10:
                step *= 2
            found = self._ancestor(entry, max(entry.height - step, 0))
            assert found is not None
            entry = found

    def fork_height(self, locator: Sequence[bytes]) -> Height:
        for block_hash in locator:
            entry = self.entries.get(block_hash)
            if entry is not None and self.height_of(entry) is not None:
                return Height(entry.height)
        return Height(0)

    def historical_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        base = self.entries.get(self.snapshot_base)
        path = self._path_to(block_hash)
        if base is None or base not in path:
            return []
        missing = [self._info(entry) for entry in path[: base.height + 1] if entry.raw is None]
        return [header for header in missing if header.height < missing[0].height + window][:limit]

    def has_all_blocks(self) -> bool:
        return not self.snapshot_base

    def missing_blocks(self, block_hash: bytes, limit: int, *, window: int = 1024) -> list[HeaderInfo]:
        path = self._path_to(block_hash)
        low, high = 0, min(len(path), len(self.active)) - 1
        while low < high:  # the shared part is a prefix
            middle = (low + high + 1) // 2
            low, high = (middle, high) if path[middle] is self.active[middle] else (low, middle - 1)
        found: list[HeaderInfo] = []
        for entry in path[low + 1 : low + 1 + window]:
            if len(found) == limit:
                break
            if entry.raw is None:
                found.append(self._info(entry))
        return found

    def _path_to(self, block_hash: bytes) -> list[Entry]:
        path = self._paths.get(block_hash)
        if path is None:
            path, walk = [], self.entries.get(block_hash)
            while walk is not None:
                path.append(walk)
                walk = walk.parent
            path.reverse()
            self._paths = {block_hash: path}
        return path

    def is_initial_block_download(self) -> bool:
        return self.initial_download

    def minimum_chain_work(self) -> Work:
        return Work(self.minimum_work)

    # --- ChainWriter

    async def process_headers(self, headers: Sequence[bytes], *, min_pow_checked: bool = True) -> HeadersOutcome:
        last: Entry | None = None
        new = 0
        for raw in headers:
            header = BlockHeader.parse(raw)
            entry = self.entries.get(header.hash)
            if entry is None:
                entry = self._add_header(header)
                new += 1
            if entry is None:
                return HeadersOutcome(Verdict.MISSING_PARENT, None, "prev-blk-not-found", new)
            if entry.failed:
                return HeadersOutcome(Verdict.CACHED_INVALID, None, "duplicate-invalid", new)
            last = entry
        assert last is not None
        return HeadersOutcome(Verdict.ACCEPTED if new else Verdict.DUPLICATE, self._info(last), "", new)

    async def process_block(self, raw: bytes, *, requested: bool) -> BlockOutcome:
        self.requested_flags.append(requested)
        block = Block.parse(raw)
        verdict = self.accept_block(block)
        reasons = {Verdict.INVALID: "bad-fake", Verdict.MUTATED: "bad-txnmrklroot", Verdict.CACHED_INVALID: "duplicate"}
        return BlockOutcome(verdict, block.hash, reasons.get(verdict, ""))

    async def read_block(self, block_hash: bytes) -> bytes | None:
        return self.entries[block_hash].raw

    # --- TransactionPool

    async def process_transaction(self, raw: bytes) -> TransactionOutcome:
        tx = Transaction.parse(raw)
        if tx.wtxid in self.bad_transactions:
            return TransactionOutcome(Verdict.INVALID, tx.txid, tx.wtxid, "bad-fake-tx")
        if tx.wtxid in self.pool:
            return TransactionOutcome(Verdict.DUPLICATE, tx.txid, tx.wtxid, "txn-already-in-mempool")
        if self.known_outpoints is not None:
            made = {e.txid for e in self.pool.values()}
            missing = [Txid(o[:32]) for o in tx.prevouts if o not in self.known_outpoints and o[:32] not in made]
            if missing:
                return TransactionOutcome(
                    Verdict.MISSING_PARENT, tx.txid, tx.wtxid, "bad-txns-inputs-missingorspent", missing
                )
        replaced = [Transaction.parse(e.raw) for e in self.pool.values() if self._conflict(e.raw, tx)]
        for old in replaced:
            del self.pool[old.wtxid]
        self.add_transaction(tx)
        return TransactionOutcome(Verdict.ACCEPTED, tx.txid, tx.wtxid, replaced=replaced)

    @staticmethod
    def _conflict(raw: bytes, tx: Transaction) -> bool:
        return not set(Transaction.parse(raw).prevouts).isdisjoint(tx.prevouts)

    async def block_filters(self, stop: bytes, heights: Sequence[int]) -> list[tuple[BlockHash, bytes]] | None:
        blocks = self._filtered(stop, heights)
        return None if blocks is None else [(block.hash, basic_filter(block.hash, [b"x"])) for block in blocks]

    async def filter_headers(self, stop: bytes, heights: Sequence[int]) -> list[tuple[bytes, bytes]] | None:
        blocks = self._filtered(stop, heights)
        if blocks is None:
            return None
        return [(sha256d(basic_filter(block.hash, [b"x"])), block.hash[::-1]) for block in blocks]

    def _filtered(self, stop: bytes, heights: Sequence[int]) -> list[BlockHeader] | None:
        """The headers at heights on the way to a block. Filters (of one element) are made up as they are asked for."""
        if not self.has_filters:
            return None
        found = []
        for height in heights:
            entry = self.entries[stop]
            while entry.height > height and entry.parent is not None:
                entry = entry.parent
            found.append(entry.header)
        return found

    def transaction_by_txid(self, txid: bytes) -> MempoolTransaction | None:
        return next((e for e in self.pool.values() if e.txid == txid), None)

    def transaction_by_wtxid(self, wtxid: bytes) -> MempoolTransaction | None:
        return self.pool.get(wtxid)

    def spender(self, outpoint: OutPoint) -> MempoolTransaction | None:
        return next((e for e in self.pool.values() if outpoint in Transaction.parse(e.raw).prevouts), None)

    def all_transactions(self) -> Sequence[MempoolTransaction]:
        return list(self.pool.values())

    def minimum_fee_rate_sat_per_kvb(self) -> int:
        return self.minimum_fee

    def recently_confirmed(self, txid_or_wtxid: bytes) -> bool:
        return txid_or_wtxid in self.confirmed


def make_block(
    parent: BlockHeader,
    height: int,
    time: int,
    *,
    transactions: Sequence[Transaction] = (),
    salt: int = 0,
    nbits: int | None = None,
) -> Block:
    """A block with valid work on regtest's easiest target."""
    script = height.to_bytes(4, "little") + salt.to_bytes(4, "little")
    coinbase = Transaction.build(1, [TxIn(NULL_OUTPOINT, b"\x08" + script)], [TxOut(Amount(50), b"\x51")])
    txs = [coinbase, *transactions]
    root, _ = merkle_root([tx.txid for tx in txs])
    return Block.build(mine(parent, root, time, nbits or parent.nbits), txs)


def mine(parent: BlockHeader, root: bytes, time: int, nbits: int) -> BlockHeader:
    """The first nonce that meets the target."""
    target = target_from_nbits(nbits)
    assert target is not None
    nonce = 0
    while True:
        header = BlockHeader.build(0x20000000, parent.hash, root, time, nbits, nonce)
        if int.from_bytes(header.hash, "little") <= target:
            return header
        nonce += 1


def make_transaction(salt: int, *, spend: OutPoint | None = None, witness: bool = False) -> Transaction:
    """A distinct transaction; its input need not exist."""
    outpoint = spend or OutPoint(salt.to_bytes(32, "big") + bytes(4))
    stack = (b"w",) if witness else ()
    return Transaction.build(
        2, [TxIn(outpoint, b"", 0xFFFFFFFF, stack)], [TxOut(Amount(1000), b"\x51" * 30 + salt.to_bytes(4, "big"))]
    )
