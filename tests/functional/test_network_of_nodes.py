"""The whole system as its users run it: three nodes, a miner and two wallets, all real processes.

They mine past maturity, pay each other both ways, lose one node to a partition in which it mines a chain of its own,
are reorganised, and are all restarted. At every station the nodes agree and the money adds up to the satoshi.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from chain.consensus.subsidy import block_subsidy
from chain.params import network
from chain.primitives.amount import COIN
from tests.functional.processes import Node, Wallet, mine, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional

DEV = network("dev")


def _coins(satoshi: int) -> Decimal:
    return Decimal(satoshi) / COIN


def _issued(height: int) -> Decimal:
    """All coins that may exist at a height; the genesis block's own can never be spent and are no coins."""
    return sum((_coins(block_subsidy(h, DEV)) for h in range(1, height + 1)), Decimal(0))


def _owned(wallet: Wallet) -> Decimal:
    """All that a wallet holds, mature or not; nothing may be pending."""
    balance = wallet.run("balance")
    assert Decimal(balance["pending"]) == 0, balance
    return Decimal(balance["confirmed"]) + Decimal(balance["immature"])


def _agree(*everyone: Node) -> str:
    """All nodes follow the first to its tip, and hold the same coins there; the tip's hash."""
    tip: str = everyone[0].call("getbestblockhash")
    for node in everyone[1:]:
        node.wait_for_block(tip)
    stats = [node.call("gettxoutsetinfo", "hash_serialized_3") for node in everyone]
    for name in ("bestblock", "hash_serialized_3", "txouts"):
        assert len({str(s[name]) for s in stats}) == 1, stats
    height = stats[0]["height"]
    assert {Decimal(str(s["total_amount"])) for s in stats} == {_issued(height)}
    return tip


def _in_mempools(txid: str, *everyone: Node) -> None:
    for node in everyone:
        # Each node tells its inbound peers at random times, five seconds on average: a minute may be too short for two.
        until(f"{txid} reaches every mempool", lambda node=node: txid in node.call("getrawmempool"), 300)


def _connect(a: Node, b: Node) -> None:
    a.call("addnode", b.address, "onetry")
    until("the nodes are connected", lambda: a.call("getconnectioncount") > 0 and b.call("getconnectioncount") > 0)


def _disconnect(a: Node, b: Node) -> None:
    for peer in a.call("getpeerinfo"):
        if peer["addr"] == b.address:
            a.call("disconnectnode", "", peer["id"])
    until("the nodes are apart", lambda: all(p["addr"] != b.address for p in a.call("getpeerinfo")))


def test_mine_pay_split_reorganise_and_restart(tmp_path: Path) -> None:
    one, two, three = (Node(tmp_path / name, "dev") for name in ("one", "two", "three"))
    alice, bob = Wallet(tmp_path / "alice", one), Wallet(tmp_path / "bob", three)
    with nodes(one, two, three):
        for node in (one, two, three):
            node.start()
        _connect(two, one)
        _connect(three, two)
        for wallet in (alice, bob):
            wallet.run("create")
        at_alice, at_bob = alice.run("address")["address"], bob.run("address", "--type", "bip86")["address"]

        mine(one, at_alice, 101 + 5)
        _agree(one, two, three)
        assert _owned(alice) == _issued(106)

        # There and back again: the fees end with whoever mines.
        payment = alice.run("send", at_bob, "12.34567891", "--fee-rate", "3", "--yes")
        _in_mempools(payment["txid"], one, two, three)
        assert Decimal(bob.run("balance")["pending"]) == Decimal("12.34567891")
        mine(two, at_alice, 1)
        _agree(two, one, three)
        assert _owned(bob) == Decimal("12.34567891")
        change = bob.run("send", alice.run("address")["address"], "2", "--fee-rate", "1.5", "--yes")
        _in_mempools(change["txid"], three, two, one)
        mine(one, at_alice, 1)
        _agree(one, two, three)
        assert _owned(bob) == Decimal("12.34567891") - 2 - Decimal(change["fee"])
        assert _owned(alice) + _owned(bob) == _issued(108)

        # Split: the third node goes on alone, and believes what the others will undo.
        _disconnect(three, two)
        lonely = bob.run("send", at_bob, "1.5", "--fee-rate", "2", "--yes")
        mine(three, at_bob, 2)
        assert _owned(bob) == Decimal("12.34567891") - 2 - Decimal(change["fee"]) + 20
        apart = alice.run("send", at_bob, "0.5", "--fee-rate", "2", "--yes")
        mine(one, at_alice, 4)
        assert one.call("getblockcount") == 112
        assert three.call("getblockcount") == 110

        # Together again: the longer chain wins, the payment made on the shorter one waits for a block once more.
        _connect(three, two)
        _agree(one, two, three)
        assert [tip["branchlen"] for tip in three.call("getchaintips") if tip["status"] != "active"] == [2]
        assert lonely["txid"] in three.call("getrawmempool")
        three.call("sendrawtransaction", three.call("getrawtransaction", lonely["txid"]))  # tells its peers once more
        _in_mempools(lonely["txid"], one, two)
        mine(one, at_alice, 1)
        tip = _agree(one, two, three)
        assert apart["txid"] not in three.call("getrawmempool")
        expected_bob = Decimal("12.34567891") - 2 - Decimal(change["fee"]) - Decimal(lonely["fee"]) + Decimal("0.5")
        expected = {"alice": _issued(113) - expected_bob, "bob": expected_bob}
        assert {"alice": _owned(alice), "bob": _owned(bob)} == expected

        # Everything off and on again.
        for node in (one, two, three):
            node.stop()
        for node in (one, two, three):
            node.start()
            assert node.call("getbestblockhash") == tip
        _agree(one, two, three)
        assert {"alice": _owned(alice), "bob": _owned(bob)} == expected
