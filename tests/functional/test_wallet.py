"""Wallets against a real node: what a user meets beyond the plain payment."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.functional.processes import Node, Wallet, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional

ELSEWHERE = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
ELSEWHERE_2 = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"


def _balance(wallet: Wallet) -> dict[str, Decimal]:
    found: dict[str, Any] = wallet.run("balance")
    return {name: Decimal(found[name]) for name in ("confirmed", "pending", "immature", "total")}


def _address(wallet: Wallet, kind: str = "bip84") -> str:
    return str(wallet.run("address", "--type", kind)["address"])


def test_replace_reorganise_resend_and_restore(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", "regtest")
    with nodes(node):
        node.start()
        alice, bob = Wallet(tmp_path / "a", node, "alice"), Wallet(tmp_path / "b", node, "bob")
        words = alice.run("create", "--words", "18")["words"]
        bob.run("create")
        node.call("generatetoaddress", 3, _address(alice, "bip86"))
        node.call("generatetoaddress", 100, ELSEWHERE)
        assert _balance(alice)["confirmed"] == 150

        first = alice.run("send", _address(bob), "70", "--fee-rate", "1", "--yes")
        assert node.call("getrawmempool") == [first["txid"]]
        assert _balance(bob)["pending"] == 70
        second = alice.run("bumpfee", first["txid"], "--fee-rate", "12.5", "--yes")
        assert second["replaces"] == first["txid"]
        assert node.call("getrawmempool") == [second["txid"]]
        entry = node.call("getmempoolentry", second["txid"])
        fee = Decimal(second["fee"])
        assert Decimal(str(entry["fees"]["base"])) == fee
        assert 0 <= fee * 100_000_000 - Decimal(entry["vsize"]) * Decimal("12.5") < 13
        states = {item["txid"]: item["state"] for item in alice.run("history")}
        assert (states[first["txid"]], states[second["txid"]]) == ("replaced", "pending")

        (block,) = node.call("generatetoaddress", 1, ELSEWHERE)
        assert _balance(bob) == {"confirmed": 70, "pending": 0, "immature": 0, "total": 70}
        node.call("invalidateblock", block)
        assert _balance(bob)["confirmed"] == 0
        assert _balance(alice)["confirmed"] + _balance(alice)["pending"] == 80 - fee  # the payment counts still
        node.call("generatetoaddress", 2, ELSEWHERE_2)  # to the same address it could be the invalidated block again
        waiting = alice.run("rebroadcast")
        assert waiting in ([], [second["txid"]])  # a lock time at the old height made the node drop it, or did not
        node.call("generatetoaddress", 1, ELSEWHERE)
        assert _balance(bob)["confirmed"] == 70

        sweep = bob.run("send", _address(alice), "all", "--fee-rate", "3", "--yes")
        assert Decimal(sweep["amount"]) + Decimal(sweep["fee"]) == 70
        node.call("generatetoaddress", 1, ELSEWHERE)
        assert _balance(bob)["total"] == 0
        expected = 150 - fee - Decimal(sweep["fee"])
        assert _balance(alice)["confirmed"] == expected

        again = Wallet(tmp_path / "c", node, "again")
        again.run("restore", text_in=words)
        assert _balance(again)["confirmed"] == expected
        mined = [item for item in again.run("history") if item["kind"] == "mined"]
        assert len(mined) == 3
        node.stop()


def test_signed_offline_and_sent_when_the_node_is_back(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", "regtest")
    with nodes(node):
        node.start()
        wallet = Wallet(tmp_path / "w", node)
        words = wallet.run("create")["words"]
        node.call("generatetoaddress", 101, _address(wallet))
        psbt = wallet.try_run("send", ELSEWHERE, "1", "--fee-rate", "2", "--unsigned").stdout
        node.stop()

        refused = wallet.try_run("send", ELSEWHERE, "1", "--yes")
        assert refused.returncode == 1
        assert refused.stderr.startswith("Error: ")
        assert len(refused.stderr.strip().split("\n")) == 1
        stale = wallet.try_run("balance")
        assert stale.returncode == 0
        assert '"synchronized": false' in stale.stdout

        vault = Wallet(tmp_path / "offline", node, "vault")
        vault.run("restore", text_in=words)
        signed = vault.run("sign", "-", "--yes", text_in=psbt)
        assert signed["complete"]
        node.start()
        txid = wallet.run("broadcast", "-", text_in=signed["hex"])["txid"]
        until("the transaction is in the mempool", lambda: node.call("getrawmempool") == [txid])
        node.call("generatetoaddress", 1, ELSEWHERE)
        (sent,) = [item for item in wallet.run("history") if item["txid"] == txid]
        assert (sent["kind"], sent["state"]) == ("sent", "confirmed")
        node.stop()


def test_a_node_of_another_network_is_refused(tmp_path: Path) -> None:
    node = Node(tmp_path / "node", "regtest")
    with nodes(node):
        node.start()
        wallet = Wallet(tmp_path / "w", node)
        wallet.node = node
        node.network_name = "dev"  # the wallet's network; the node runs regtest
        wallet.run("create")
        cookie = str(tmp_path / "node" / "regtest" / ".cookie")
        refused = wallet.try_run("sync", "--rpc-cookie", cookie)
        node.network_name = "regtest"
        assert refused.returncode == 1
        assert "runs the network 'regtest', the wallet is on 'dev'" in refused.stderr
        node.stop()
