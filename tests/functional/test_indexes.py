"""A node with all optional indexes: built behind a chain that is there, killed meanwhile, switched off, removed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.functional.processes import CallError, Node, nodes, pickaxe
from tests.support.waiting import until

pytestmark = pytest.mark.functional

ALL = ("--txindex", "--coinstatsindex", "--addressindex", "--blockfilterindex", "--peerblockfilters")
TITLES = {"txindex", "coinstatsindex", "addressindex", "basic block filter index"}
PAYOUT = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
BLOCKS = 400


def test_indexes_of_a_running_node(tmp_path: Path, rng: random.Random) -> None:
    node = Node(tmp_path / "node", "regtest")
    with nodes(node):
        node.start()
        hashes = node.call("generatetoaddress", BLOCKS, PAYOUT)
        assert node.call("getindexinfo") == {}
        node.stop()
        for _ in range(2):
            node.start(*ALL)
            time.sleep(rng.uniform(0, 0.3))
            node.kill()
        node.start(*ALL)

        def synced() -> bool:
            info = node.call("getindexinfo")
            assert set(info) == TITLES
            return all(one == {"synced": True, "best_block_height": BLOCKS} for one in info.values())

        until("the indexes are built", synced)
        coinbase_hex = node.call("getblock", hashes[9])["tx"][0]
        assert node.call("getrawtransaction", coinbase_hex, 1)["blockhash"] == hashes[9]
        indexed, scanned = (node.call("gettxoutsetinfo", "muhash", None, use) for use in (True, False))
        assert indexed["muhash"] == scanned["muhash"]
        assert node.call("getaddressbalance", PAYOUT)["utxos"] == BLOCKS
        assert node.call("scanblocks", "start", [f"addr({PAYOUT})"], 5, 7)["relevant_blocks"] == hashes[4:7]
        assert "COMPACT_FILTERS" in node.call("getnetworkinfo")["localservicesnames"]

        node.call("invalidateblock", hashes[-3])
        other = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
        new = node.call("generatetoaddress", 1, other)
        assert node.call("gettxoutsetinfo", "none", new[0])["height"] == BLOCKS - 2
        assert node.call("gettxoutsetinfo", "none", hashes[-1])["height"] == BLOCKS  # no longer in the chain
        assert node.call("getaddressbalance", PAYOUT)["utxos"] == BLOCKS - 3
        assert node.call("getblockfilter", new[0])["header"] != node.call("getblockfilter", hashes[-3])["header"]
        node.stop()

        node.start()  # without them
        with pytest.raises(CallError, match="Index is not enabled for filtertype basic"):
            node.call("getblockfilter", hashes[0])
        where = ("--network", "regtest", "--datadir", str(node.folder))
        refused = pickaxe("index", "remove", "txindex", *where)
        assert refused.returncode == 1
        assert "already running" in refused.stderr
        node.stop()
        assert f"height {BLOCKS - 2}" in pickaxe("index", "list", *where).stdout
        assert pickaxe("index", "remove", "txindex", *where).returncode == 0
        assert "txindex" not in pickaxe("index", "list", *where).stdout
