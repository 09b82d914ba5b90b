"""`pickaxe mine` and `pickaxe node` together, on networks where blocks take work and where they take none."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from chain.params import NETWORKS
from chain.primitives.target import work_from_target
from chain.script.addresses import encode_address
from miner.work.job import VERSION_ROLLING_MASK
from tests.functional.processes import Node, mine, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional

SCRIPT = b"\x00\x14" + bytes(range(20))


def payout(network: str) -> str:
    return encode_address(SCRIPT, NETWORKS[network].addresses) or ""


@pytest.mark.parametrize(("network", "blocks"), [("pickaxe-test", 2), ("dev", 20), ("regtest", 20)])
def test_blocks_are_accepted_and_pay_the_address(tmp_path: Path, network: str, blocks: int) -> None:
    node = Node(tmp_path, network)
    with nodes(node):
        node.start()
        mine(node, payout(network), blocks)
        assert node.call("getblockcount") == blocks
        for height in range(1, blocks + 1):
            block = node.call("getblock", node.call("getblockhash", height), 2)
            coinbase = block["tx"][0]
            assert coinbase["vout"][0]["scriptPubKey"]["hex"] == SCRIPT.hex()
            assert coinbase["locktime"] == height - 1
            assert (block["version"] ^ 0x20000000) & ~VERSION_ROLLING_MASK == 0
        info = node.call("getblockchaininfo")
        params = NETWORKS[network]
        if network != "pickaxe-test":  # where every block has another target
            assert int(info["chainwork"], 16) == (blocks + 1) * work_from_target(params.pow_limit)
        node.stop()


def test_blocks_from_elsewhere_are_built_upon(tmp_path: Path) -> None:
    """Between the miner's blocks others arrive by RPC: long polling must bring them, or its own would be stale."""
    node = Node(tmp_path, "dev")
    with nodes(node):
        node.start()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "node.cli.main", "mine", "--network", "dev", "--quiet"),
                *("--address", payout("dev"), "--rpc-url", node.url, "--rpc-cookie", str(node.cookie)),
                *("--threads", "1", "--blocks", "3", "--pace", "3"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def reached(height: int) -> bool:
            return bool(node.call("getblockcount") >= height)

        try:
            for ours in range(1, 3):
                until("the miner finds a block", functools.partial(reached, 3 * ours - 2))
                node.call("generatetoaddress", 2, payout("dev"))
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, output
        assert "rejected 0, stale 0" in output
        assert node.call("getblockcount") == 3 + 4
        node.stop()
