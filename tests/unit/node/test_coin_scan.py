"""scantxoutset, called directly on a chain in this thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chain.primitives.types import hash_to_hex
from node.rpc import coin_scan
from node.rpc.context import RpcContext
from node.rpc.errors import RpcError
from tests.support.index_chain import LOCKS, grow
from tests.support.regtest import RegtestNode


class _Service:
    """Runs what is queued at once."""

    closing = False

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)


@pytest.fixture
def node(tmp_path: Path, rng: random.Random) -> Iterator[RegtestNode]:
    with RegtestNode(tmp_path) as made:
        grow(made, rng, 108)
        yield made


@pytest.fixture
def context(node: RegtestNode) -> RpcContext:
    worker = SimpleNamespace(extras={}, chain=node.chain)
    made = SimpleNamespace(worker=worker, chain=node.chain, params=node.params, chain_service=_Service())
    return cast(RpcContext, made)


def _scan(context: RpcContext, action: str, objects: list[Any] | None = None) -> Any:
    return coin_scan.scantxoutset(context, action, objects)


async def _begun(context: RpcContext, running: asyncio.Task[Any], coins: int) -> None:
    """Until a scan has looked at so many coins."""
    while not running.done():
        scan = context.worker.extras.get("scantxoutset")
        if isinstance(scan, coin_scan._Scan) and scan.coins >= coins:
            return
        await asyncio.sleep(0)


def test_a_scan_finds_every_coin_of_a_script(node: RegtestNode, context: RpcContext) -> None:
    node.mine_transactions([node.transfer([node.mature()[0]], 1000, lock=LOCKS[1])])
    coins = list(node.chain.iterate_coins())
    ours = {
        op[:32][::-1].hex() + str(int.from_bytes(op[32:], "little")) for op, c in coins if c[12:] == LOCKS[1].script
    }
    found = asyncio.run(_scan(context, "start", [f"raw({LOCKS[1].script.hex()})"]))
    assert {one["txid"] + str(one["vout"]) for one in found["unspents"]} == ours != set()
    assert (found["success"], found["txouts"], found["height"]) == (True, len(coins), node.chain.tip.height)
    for one in found["unspents"]:
        assert one["blockhash"] == hash_to_hex(node.chain.index.active[one["height"]].hash)


def test_a_scan_can_be_watched_and_aborted_while_the_chain_goes_on(
    node: RegtestNode, context: RpcContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coin_scan, "_STEP_COINS", 1)
    outpoints = [outpoint for outpoint, _ in node.chain.iterate_coins()]
    before, coins = node.chain.tip, len(outpoints)

    async def story() -> None:
        assert await _scan(context, "status") is None
        assert await _scan(context, "abort") is False
        with pytest.raises(RpcError, match="scanobjects argument is required"):
            await _scan(context, "start")
        with pytest.raises(RpcError, match="Invalid action 'stop'"):
            await _scan(context, "stop")
        running = asyncio.create_task(_scan(context, "start", ["raw(51)"]))
        await _begun(context, running, coins // 2)
        seen = cast(coin_scan._Scan, context.worker.extras["scantxoutset"]).coins
        share = int.from_bytes(outpoints[seen - 1][:2], "big") / 65536
        assert await _scan(context, "status") == {"progress": int(share * 100 + 0.5)}
        with pytest.raises(RpcError, match="Scan already in progress"):
            await _scan(context, "start", ["raw(51)"])
        node.mine_transactions([])
        answer = await running
        assert (answer["success"], answer["txouts"], answer["bestblock"]) == (True, coins, hash_to_hex(before.hash))

        running = asyncio.create_task(_scan(context, "start", ["raw(51)"]))
        await _begun(context, running, 3)
        assert await _scan(context, "abort") is True
        answer = await running
        assert answer["success"] is False
        assert 3 <= answer["txouts"] < coins
        assert await _scan(context, "status") is None

        running = asyncio.create_task(_scan(context, "start", ["raw(51)"]))
        await _begun(context, running, 3)
        monkeypatch.setattr(context.chain_service, "closing", True)
        with pytest.raises(RpcError, match="The node is stopping"):
            await running

        with pytest.raises(RpcError):
            await _scan(context, "start", ["no descriptor"])
        assert await _scan(context, "status") is None

    asyncio.run(story())
