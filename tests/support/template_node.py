"""A small node for miners: serves getblocktemplate over JSON-RPC and judges submitted blocks with the real primitives.

It knows no consensus code: what it checks of a block (parent, target, merkle root, witness commitment, height,
payout) it checks itself, so that the miner is judged by something other than its own arithmetic.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from chain.params import NETWORKS, NetworkParams
from chain.primitives.block import Block
from chain.primitives.merkle import merkle_root
from chain.primitives.target import target_from_nbits
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint, hash_to_hex

USER, PASSWORD = "miner", "sécret"


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def sample_transactions() -> list[Transaction]:
    """Three transactions, two with witnesses; their inputs are invented, as nothing here looks them up."""
    return [
        Transaction.build(
            2,
            [TxIn(OutPoint(bytes([number]) * 36), b"", 0xFFFFFFFD, (b"sig", bytes([number]) * 33) if number else ())],
            [TxOut(Amount(1000 + number), b"\x51")],
        )
        for number in range(3)
    ]


@dataclass
class TemplateNode:
    """One node on a free port of the loopback. `blocks`: the chain above genesis; `complaints`: what was wrong with
    blocks refused."""

    params: NetworkParams = field(default_factory=lambda: NETWORKS["dev"])
    transactions: list[Transaction] = field(default_factory=sample_transactions)
    value: int = 10 * 10**8
    nbits: int = 0x207FFFFF
    blocks: list[Block] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)  #: laid over every template
    refuse: str | None = None  #: what submitblock answers to everything
    raw_answer: bytes | None = None  #: sent instead of any answer
    genesis_hex: str | None = None
    calls: list[str] = field(default_factory=list)
    credentials: tuple[str, str] = (USER, PASSWORD)
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)  #: method -> RPC error
    port: int = 0
    _runner: web.AppRunner | None = None
    _tip_changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def tip_hash(self) -> bytes:
        return self.blocks[-1].hash if self.blocks else self.params.genesis_hash

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def extend(self, block: Block) -> None:
        """A new tip, from the miner or from elsewhere; wakes long polls."""
        self.blocks.append(block)
        self._tip_changed.set()
        self._tip_changed = asyncio.Event()

    def template(self) -> dict[str, Any]:
        height = len(self.blocks) + 1
        target = target_from_nbits(self.nbits)
        assert target is not None
        entries = [
            {"data": tx.raw.hex(), "txid": hash_to_hex(tx.txid), "hash": hash_to_hex(tx.wtxid), "depends": []}
            for tx in self.transactions
        ]
        root, _ = merkle_root([bytes(32), *(tx.wtxid for tx in self.transactions)])
        answer = {
            "capabilities": ["proposal"],
            "version": 0x20000000,
            "rules": ["csv", "!segwit", "taproot"],
            "vbavailable": {},
            "vbrequired": 0,
            "previousblockhash": hash_to_hex(self.tip_hash),
            "transactions": entries,
            "coinbaseaux": {},
            "coinbasevalue": self.value,
            "longpollid": hash_to_hex(self.tip_hash) + str(height),
            "target": f"{target:064x}",
            "mintime": 1_700_000_000,
            "mutable": ["time", "transactions", "prevblock"],
            "noncerange": "00000000ffffffff",
            "curtime": 1_700_000_100 + height,
            "bits": f"{self.nbits:08x}",
            "height": height,
            "default_witness_commitment": (b"\x6a\x24\xaa\x21\xa9\xed" + sha256d(root + bytes(32))).hex(),
        }
        return {key: value for key, value in (answer | self.changes).items() if value is not None}

    async def _serve(self, request: web.Request) -> web.Response:
        if self.raw_answer is not None:
            return web.Response(body=self.raw_answer)
        expected = "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()
        if request.headers.get("Authorization") != expected:
            self.calls.append("refused")
            return web.Response(status=401)
        call = json.loads(await request.read())
        method, params = call["method"], call["params"]
        self.calls.append(method)
        if method in self.errors:
            code, message = self.errors[method]
            error = {"code": code, "message": message}
            return web.json_response({"result": None, "error": error, "id": call["id"]}, status=500)
        result = await getattr(self, f"_rpc_{method}")(*params)
        return web.json_response({"result": result, "error": None, "id": call["id"]})

    async def _rpc_getblockhash(self, height: int) -> str:
        return self.genesis_hex or hash_to_hex(self.params.genesis_hash)

    async def _rpc_getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
        assert "segwit" in request["rules"]
        if request.get("longpollid") == self.template()["longpollid"]:
            await self._tip_changed.wait()
        return self.template()

    async def _rpc_submitblock(self, block_hex: str, *_: Any) -> str | None:
        if self.refuse is not None:
            return self.refuse
        block = Block.parse(bytes.fromhex(block_hex))
        if block.header.prev_hash != self.tip_hash:
            return "inconclusive"
        wrong = self.judge(block)
        if wrong:
            self.complaints.append(wrong)
            return wrong
        self.extend(block)
        return None

    def judge(self, block: Block) -> str | None:
        """What is wrong with a block on the tip, or None."""
        height = len(self.blocks) + 1
        coinbase = block.transactions[0]
        commitments = [script for script in coinbase.scripts if script.startswith(b"\x6a\x24\xaa\x21\xa9\xed")]
        root, _ = merkle_root([bytes(32), *(tx.wtxid for tx in block.transactions[1:])])
        pushed = bytes([0x50 + height]) if height <= 16 else None
        if pushed is None:
            size = height.bit_length() // 8 + 1
            pushed = bytes([size]) + height.to_bytes(size, "little")
        target = target_from_nbits(block.header.nbits)
        checks = {
            "high-hash": target is not None and int.from_bytes(sha256d(block.raw[:80]), "little") <= target,
            "bad-diffbits": block.header.nbits == self.nbits,
            "bad-txnmrklroot": merkle_root([tx.txid for tx in block.transactions])[0] == block.header.merkle_root,
            "time-too-old": 1_700_000_100 + height <= block.header.time <= 1_700_000_200 + height,
            "bad-version": (block.header.version ^ 0x20000000) & ~0x1FFFE000 == 0,
            "bad-cb": coinbase.is_coinbase and 2 <= len(coinbase.script_sigs[0]) <= 100,
            "bad-cb-height": coinbase.script_sigs[0].startswith(pushed),
            "bad-cb-amount": sum(coinbase.values) == self.value,
            "bad-cb-locktime": coinbase.locktime == height - 1 and coinbase.sequences[0] != 0xFFFFFFFF,
            "bad-witness-nonce-size": coinbase.witnesses[0] == (bytes(32),) if commitments else True,
            "bad-witness-merkle-match": [sha256d(root + bytes(32))] == [script[6:] for script in commitments]
            or (not commitments and all(not tx.has_witness for tx in block.transactions)),
            "bad-transactions": [tx.raw for tx in block.transactions[1:]] == [tx.raw for tx in self.transactions],
        }
        return next((reason for reason, fine in checks.items() if not fine), None)
