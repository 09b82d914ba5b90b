"""A small node to test wallets against: real blocks, transactions and script checks behind real JSON-RPC over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chain.params import NetworkParams, network
from chain.primitives.amount import COIN
from chain.primitives.block import Block
from chain.primitives.coin import pack_coin
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import NULL_OUTPOINT, Amount, hash_to_hex
from chain.script.checks import verify_input
from chain.script.errors import ScriptError
from chain.script.flags import STANDARD_FLAGS
from chain.script.script import push_int
from chain.script.sighash import TxData
from wallet.sync import NodeAddress
from wallet.vault import KdfCost
from wallet.wallet import Wallet

ANYONE = b"\x51"  # OP_TRUE: an output for the rest of the world
CHEAP = KdfCost(iterations=1, lanes=1, memory_kib=64)
PASSWORD = "correct horse"
WORDS = "abandon " * 11 + "about"


class SmallNode:
    """Chain and mempool in memory. No proof of work; every spend's scripts, values and double spends are checked."""

    def __init__(self, params: NetworkParams) -> None:
        self.params = params
        self.chain: list[Block] = [params.genesis]
        self.mempool: dict[str, Transaction] = {}
        self.calls: list[str] = []
        self.is_syncing = False
        self.garbage: dict[str, Any] = {}
        self.refuse: str | None = None
        self.hook: Callable[[str], None] | None = None
        self._extra = 0

    @property
    def height(self) -> int:
        return len(self.chain) - 1

    def coins(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for height, block in enumerate(self.chain[1:], 1):
            for tx in block.transactions:
                for prevout in tx.prevouts:
                    found.pop(prevout, None)
                for index, (value, script) in enumerate(zip(tx.values, tx.scripts, strict=True)):
                    found[tx.txid + index.to_bytes(4, "little")] = pack_coin(value, script, height, tx.is_coinbase)
        return found

    def mine(self, count: int = 1, script: bytes = ANYONE, *, include: list[Transaction] | None = None) -> list[Block]:
        """Blocks that pay `script`; the first takes `include`, or else the whole mempool."""
        made = []
        for _ in range(count):
            self._extra += 1
            height = len(self.chain)
            txs = self._valid_ones() if include is None else include
            include = None
            script_sig = push_int(height) + self._extra.to_bytes(4, "little")
            coinbase = Transaction.build(
                2, [TxIn(NULL_OUTPOINT, b"\x04" + script_sig)], [TxOut(Amount(50 * COIN), script)]
            )
            root, _ = merkle_root([tx.txid for tx in [coinbase, *txs]])
            last = self.chain[-1]
            header = BlockHeader.build(4, last.hash, root, last.header.time + 600, 0x207FFFFF, self._extra)
            block = Block.build(header, [coinbase, *txs])
            self.chain.append(block)
            spent = {prevout for tx in txs for prevout in tx.prevouts}
            confirmed = {tx.txid for tx in txs}
            self.mempool = {
                key: tx
                for key, tx in self.mempool.items()
                if tx.txid not in confirmed and spent.isdisjoint(tx.prevouts)
            }
            made.append(block)
        return made

    def _valid_ones(self) -> list[Transaction]:
        """Mempool transactions whose inputs exist, parents first."""
        available = set(self.coins())
        chosen: list[Transaction] = []
        waiting = list(self.mempool.values())
        while True:
            ready = [tx for tx in waiting if available.issuperset(tx.prevouts)]
            if not ready:
                return chosen
            tx = ready[0]
            waiting.remove(tx)
            chosen.append(tx)
            available.difference_update(tx.prevouts)
            available.update(tx.outpoint(i) for i in range(len(tx.values)))

    def reorganise(self, depth: int, blocks: int, *, keep: bool = True) -> None:
        """Replace the last `depth` blocks by `blocks` new ones; their transactions return to the mempool if `keep`."""
        dropped = self.chain[len(self.chain) - depth :]
        del self.chain[len(self.chain) - depth :]
        if keep:
            for block in dropped:
                for tx in block.transactions[1:]:
                    self.mempool[hash_to_hex(tx.txid)] = tx
        for _ in range(blocks):
            self.mine(1, include=[])

    def accept(self, tx: Transaction) -> str:
        """Take a transaction into the mempool, as a node would; ValueError with the reason if it may not."""
        coins = self.coins()
        for parent in self.mempool.values():
            for index, (value, script) in enumerate(zip(parent.values, parent.scripts, strict=True)):
                coins[parent.txid + index.to_bytes(4, "little")] = pack_coin(value, script, self.height + 1, False)
        try:
            spent = [coins[prevout] for prevout in tx.prevouts]
        except KeyError:
            raise ValueError("bad-txns-inputs-missingorspent") from None
        for coin in spent:
            if coin[8] & 1 and len(self.chain) - (int.from_bytes(coin[8:12], "little") >> 1) < 100:
                raise ValueError("bad-txns-premature-spend-of-coinbase")
        txdata = TxData(tx, spent)
        for index, coin in enumerate(spent):
            error = verify_input(tx, index, coin, STANDARD_FLAGS, txdata)
            if error is not ScriptError.OK:
                raise ValueError(f"mandatory-script-verify-flag-failed ({error.message})")
        fee = sum(int.from_bytes(c[:8], "little") for c in spent) - sum(tx.values)
        if fee * 1000 < 1000 * tx.vsize:
            raise ValueError("min relay fee not met")
        for key, other in list(self.mempool.items()):
            if not set(other.prevouts).isdisjoint(tx.prevouts) and other.txid != tx.txid:
                del self.mempool[key]
        self.mempool[hash_to_hex(tx.txid)] = tx
        return hash_to_hex(tx.txid)

    def pay(self, script: bytes, value: int) -> Transaction:
        """A payment from the rest of the world into the mempool."""
        taken = {prevout for tx in self.mempool.values() for prevout in tx.prevouts}
        outpoint, coin = next(
            (op, coin)
            for op, coin in self.coins().items()
            if coin[12:] == ANYONE
            and op not in taken
            and len(self.chain) - (int.from_bytes(coin[8:12], "little") >> 1) >= 100
        )
        back = int.from_bytes(coin[:8], "little") - value - 10_000
        outputs = [TxOut(Amount(value), script), TxOut(Amount(back), ANYONE)]
        tx = Transaction.build(2, [TxIn(outpoint)], outputs)
        self.mempool[hash_to_hex(tx.txid)] = tx
        return tx

    def answer(self, method: str, params: list[Any]) -> Any:
        self.calls.append(method)
        if self.hook is not None:
            self.hook(method)
        if method in self.garbage:
            return self.garbage[method]
        by_hash = {hash_to_hex(block.hash): block for block in self.chain}
        if method == "getblockchaininfo":
            return {
                "chain": self.params.chain_name,
                "blocks": self.height,
                "bestblockhash": hash_to_hex(self.chain[-1].hash),
                "initialblockdownload": self.is_syncing,
            }
        if method == "getblockhash":
            if params[0] > self.height:
                raise LookupError(-8, "Block height out of range")
            return hash_to_hex(self.chain[params[0]].hash)
        if method in ("getblock", "getblockheader"):
            if params[0] not in by_hash:
                raise LookupError(-5, "Block not found")
            block = by_hash[params[0]]
            return (block.raw if method == "getblock" else block.header.raw).hex()
        if method == "getblockcount":
            return self.height
        if method == "getbestblockhash":
            return hash_to_hex(self.chain[-1].hash)
        if method == "getrawmempool":
            return list(self.mempool)
        if method == "getrawtransaction":
            if params[0] not in self.mempool:
                raise LookupError(-5, "No such mempool transaction")
            return self.mempool[params[0]].raw.hex()
        if method == "sendrawtransaction":
            if self.refuse is not None:
                raise LookupError(-26, self.refuse)
            try:
                return self.accept(Transaction.parse(bytes.fromhex(params[0])))
            except ValueError as error:
                raise LookupError(-26, str(error)) from error
        if method == "estimatesmartfee":
            return {"errors": ["Insufficient data or no feerate found"], "blocks": params[0]}
        if method == "getmempoolinfo":
            return {"mempoolminfee": 0.00001}
        raise LookupError(-32601, "Method not found")


class ServedNode(SmallNode):
    """The same behind HTTP, in a thread of its own, with cookie authentication."""

    def __init__(self, params: NetworkParams, folder: Path) -> None:
        super().__init__(params)
        self.cookie = folder / "node-cookie"
        self.cookie.write_text("__cookie__:secret")
        self.port = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> NodeAddress:
        return NodeAddress(self.url, cookie=self.cookie)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._handle)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.Response:
        expected = "Basic " + base64.b64encode(b"__cookie__:secret").decode()
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401)
        payload = json.loads(await request.read())
        body = [self._one(item) for item in payload] if isinstance(payload, list) else self._one(payload)
        return web.json_response(body)

    def _one(self, call: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": self.answer(call["method"], call["params"]), "error": None, "id": call["id"]}
        except LookupError as error:
            code, message = error.args
            return {"result": None, "error": {"code": code, "message": message}, "id": call["id"]}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ServedNode]:
    """A node with 110 blocks that pay the rest of the world."""
    served = ServedNode(network("regtest"), tmp_path)
    served.mine(110)
    yield served
    served.stop()


@pytest.fixture
def make_wallet(tmp_path: Path) -> Iterator[Callable[..., Wallet]]:
    """Opens wallets that are closed after the test."""
    made: list[Wallet] = []

    def make(name: str = "w", words: str = WORDS, **options: Any) -> Wallet:
        wallet = Wallet.create(
            tmp_path / f"{name}.sqlite", network("regtest"), PASSWORD, words, cost=CHEAP, gap_limit=20, **options
        )
        made.append(wallet)
        return wallet

    yield make
    for wallet in made:
        wallet.close()
