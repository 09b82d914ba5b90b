"""The RPC methods over the optional indexes, called directly on a chain in this thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chain.chainstate import Chainstate
from chain.indexes.follow import IndexSet
from chain.primitives.types import hash_to_hex
from chain.script.addresses import encode_address
from node.rpc import addresses, indexes, rawtransactions
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError
from tests.support.index_chain import LOCKS, catch_up, grow, open_all
from tests.support.regtest import OWNER, RegtestNode


class _Service:
    """Runs what is queued at once."""

    closing = False

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)


def _context(node: RegtestNode, index_set: IndexSet) -> RpcContext:
    worker = SimpleNamespace(indexes=index_set, extras={}, chain=node.chain, mempool=node.mempool)
    context = SimpleNamespace(
        worker=worker, chain=node.chain, mempool=node.mempool, params=node.params, chain_service=_Service()
    )
    return cast(RpcContext, context)


@pytest.fixture
def node(tmp_path: Path, rng: random.Random) -> Iterator[RegtestNode]:
    with RegtestNode(tmp_path) as made:
        grow(made, rng, 108)
        yield made


def _refused(call: Callable[[], Any]) -> tuple[Code, str]:
    with pytest.raises(RpcError) as caught:
        call()
    return caught.value.code, caught.value.message


def _totals(context: RpcContext, *arguments: Any) -> Any:
    return asyncio.run(indexes.gettxoutsetinfo(context, *arguments))


def test_totals_are_those_of_one_moment(node: RegtestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.utxo_stats._STEP_COINS", 10)
    index_set = open_all(node.chain)
    context = _context(node, index_set)
    expected = _totals(context, "hash_serialized_3", None, False)

    async def story() -> None:
        seen = 0
        call = context.chain_service.call

        async def watched(function: Callable[..., Any], *args: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == 4:
                node.mine_transactions([])  # the chain goes on
            return await call(function, *args)

        monkeypatch.setattr(context.chain_service, "call", watched)
        answer = await indexes.gettxoutsetinfo(context, "hash_serialized_3", None, False)
        assert seen > 8
        assert {**answer, "disk_size": 0} == {**expected, "disk_size": 0}
        monkeypatch.setattr(context.chain_service, "closing", True)
        with pytest.raises(RpcError, match="The node is stopping"):
            await indexes.gettxoutsetinfo(context, "muhash", None, False)

    asyncio.run(story())
    assert _totals(_context(node, index_set), "none", None, False)["height"] == expected["height"] + 1
    index_set.close()


def _address(chain: Chainstate, number: int) -> str:
    return str(encode_address(LOCKS[number].script, chain.params.addresses))


def test_while_an_index_is_built_its_methods_say_so(node: RegtestNode) -> None:
    index_set = open_all(node.chain)
    context = _context(node, index_set)
    index_set.work(0)
    tip_hex = hash_to_hex(node.chain.tip.hash)
    txid_hex = hash_to_hex(node.chain.read_block(node.chain.tip).transactions[0].txid)
    assert indexes.getindexinfo(context, "txindex") == {"txindex": {"synced": False, "best_block_height": 0}}
    code, text = _refused(lambda: rawtransactions.getrawtransaction(context, txid_hex, 0, None))
    assert code == Code.INVALID_ADDRESS_OR_KEY
    assert text.startswith("No such mempool transaction. Blockchain transactions are still in the process of being")
    still = "Unable to get data because coinstatsindex is still syncing. Current height: 0"
    assert _refused(lambda: _totals(context, "muhash", None, True)) == (Code.INTERNAL_ERROR, still)
    assert _refused(lambda: indexes.getblockfilter(context, tip_hex, "basic")) == (
        Code.MISC_ERROR,
        "Filter not found. Block filters are still in the process of being indexed.",
    )
    assert _refused(lambda: addresses.getaddressbalance(context, _address(node.chain, 0)))[0] == Code.INTERNAL_ERROR
    catch_up(index_set)
    assert rawtransactions.getrawtransaction(context, txid_hex, 0, None)
    assert set(indexes.getindexinfo(context, None)) == {
        "txindex",
        "coinstatsindex",
        "basic block filter index",
        "addressindex",
    }
    index_set.close()


def test_without_indexes_they_say_how_to_get_them(node: RegtestNode) -> None:
    context = _context(node, IndexSet(node.chain))
    tip_hex = hash_to_hex(node.chain.tip.hash)
    assert indexes.getindexinfo(context, None) == {}
    assert _refused(lambda: _totals(context, "none", 5, True)) == (
        Code.INVALID_PARAMETER,
        "Querying specific block heights requires coinstatsindex",
    )
    assert _refused(lambda: indexes.getblockfilter(context, tip_hex, "basic")) == (
        Code.MISC_ERROR,
        "Index is not enabled for filtertype basic",
    )
    assert "--addressindex" in _refused(lambda: addresses.getaddressutxos(context, _address(node.chain, 0)))[1]
    assert "-txindex" in _refused(lambda: rawtransactions.getrawtransaction(context, tip_hex, 0, None))[1]


def test_statistics_from_the_index_are_those_of_a_scan(node: RegtestNode) -> None:
    index_set = open_all(node.chain)
    catch_up(index_set)
    context = _context(node, index_set)
    scanned = _totals(context, "muhash", None, False)
    indexed = _totals(context, "muhash", None, True)
    same = ("height", "bestblock", "txouts", "bogosize", "muhash", "total_amount")
    assert [scanned[key] for key in same] == [indexed[key] for key in same]
    assert list(indexed) == [*same, "total_unspendable_amount", "block_info"]
    assert "disk_size" in _totals(context, "hash_serialized_3", None, True)
    assert _totals(context, "none", 50, True)["height"] == 50
    assert _refused(lambda: _totals(context, "muhash", 5, False))[1].startswith("Cannot set use_index")
    index_set.close()


def _scan(context: RpcContext, *arguments: Any) -> Any:
    defaults = ["start", [], None, None, "basic", None]
    return indexes.scanblocks(context, *arguments, *defaults[len(arguments) :])


def test_a_scan_finds_every_block_that_concerns_a_script(node: RegtestNode) -> None:
    node.mine_transactions([node.transfer([node.mature()[0]], 1000, lock=LOCKS[1])])  # chance may have paid it nothing
    index_set = open_all(node.chain)
    catch_up(index_set)
    context = _context(node, index_set)
    script = LOCKS[1].script
    concerned = []
    for entry in node.chain.index.active:
        scripts = {s for tx in node.chain.read_block(entry).transactions for s in tx.scripts}
        scripts |= {coin[12:] for spent in node.chain.read_undo(entry) for coin in spent}
        if script in scripts:
            concerned.append(hash_to_hex(entry.hash))
    assert concerned
    found = asyncio.run(_scan(context, "start", [f"raw({script.hex()})"]))
    assert set(concerned) <= set(found["relevant_blocks"])
    assert (found["from_height"], found["to_height"], found["completed"]) == (0, node.chain.tip.height, True)
    exact = asyncio.run(
        _scan(context, "start", [f"raw({script.hex()})"], None, None, "basic", {"filter_false_positives": True})
    )
    assert exact["relevant_blocks"] == concerned
    index_set.close()


def test_a_scan_can_be_watched_and_aborted(node: RegtestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    index_set = open_all(node.chain)
    catch_up(index_set)
    context = _context(node, index_set)

    async def story() -> None:
        assert await _scan(context, "status") is None
        assert await _scan(context, "abort") is False
        monkeypatch.setattr(indexes, "_SCAN_SLICE_S", -1.0)  # no slice gets anywhere
        running = asyncio.create_task(_scan(context, "start", ["raw(51)"], 10, 20))
        for _ in range(5):
            await asyncio.sleep(0)
        assert await _scan(context, "status") == {"progress": 0, "current_height": 10}
        with pytest.raises(RpcError, match="Scan already in progress"):
            await _scan(context, "start", ["raw(51)"])
        assert await _scan(context, "abort") is True
        answer = await running
        assert answer["completed"] is False
        assert await _scan(context, "status") is None

    asyncio.run(story())
    index_set.close()


def test_addresses(node: RegtestNode) -> None:
    index_set = open_all(node.chain)
    catch_up(index_set)
    context = _context(node, index_set)
    names = [_address(node.chain, number) for number in range(3)]
    balance = addresses.getaddressbalance(context, {"addresses": names})
    coins = list(node.chain.iterate_coins())
    ours = [coin for _, coin in coins if coin[12:] in {lock.script for lock in LOCKS}]
    assert balance["balance"] == sum(int.from_bytes(coin[:8], "little") for coin in ours)
    assert balance["utxos"] == len(ours)
    deltas = addresses.getaddressdeltas(context, {"addresses": names})
    assert sum(row["satoshis"] for row in deltas) == balance["balance"]
    assert len(deltas) == balance["deltas"]
    assert [row["height"] for row in deltas] == sorted(row["height"] for row in deltas)
    txids = addresses.getaddresstxids(context, {"addresses": names})
    assert txids == list(dict.fromkeys(row["txid"] for row in deltas))
    utxos = addresses.getaddressutxos(context, {"addresses": names, "chainInfo": True})
    assert utxos["height"] == node.chain.tip.height
    assert sum(row["satoshis"] for row in utxos["utxos"]) == balance["balance"]
    by_script = addresses.getaddressutxos(context, {"scripts": [OWNER.script.hex()]})
    assert by_script == addresses.getaddressutxos(context, names[0])
    for method, key in ((addresses.getaddressdeltas, "deltas"), (addresses.getaddressutxos, "utxos")):
        pages: list[Any] = []
        cursor = ""
        while True:
            page = method(context, {"addresses": names[:1], "limit": 9, "cursor": cursor})
            pages += page[key]
            cursor = page["cursor"]
            if not cursor:
                break
        assert pages == method(context, names[0])
    index_set.close()


def test_addresses_refused(node: RegtestNode, monkeypatch: pytest.MonkeyPatch) -> None:
    index_set = open_all(node.chain)
    catch_up(index_set)
    context = _context(node, index_set)
    names = [_address(node.chain, number) for number in range(2)]
    for request, text in (
        ("nonsense", "Invalid address: nonsense"),
        ({"addresses": []}, "Expected 1 to 1000 addresses, not 0"),
        ({"addresses": names, "limit": 5}, "Pages are of one address"),
        ({"addresses": names[:1], "limit": 0}, "limit must be 1 to 10000"),
        ({"addresses": names[:1], "cursor": "00"}, "cursor needs limit"),
        ({"addresses": names[:1], "start": 5, "end": 4}, "Start height"),
        ({"address": names[0]}, "Unknown key address"),
        (7, "Expected an address"),
    ):
        assert text in _refused(lambda request=request: addresses.getaddressdeltas(context, request))[1]  # type: ignore[misc]
    monkeypatch.setattr(addresses, "MAX_ENTRIES", 3)
    assert "More than 3 entries" in _refused(lambda: addresses.getaddressdeltas(context, names[0]))[1]
    assert "More than 3 entries" in _refused(lambda: addresses.getaddressutxos(context, names[0]))[1]
    index_set.close()
