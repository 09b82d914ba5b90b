"""Two nodes of a network of our own: one dumps its coins, the operator puts them into the network's file, the other
starts from them and validates everything in the background."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import termios
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from chain.network_file import create_network
from chain.params import Retargeting
from tests.functional.processes import CallError, Node, nodes
from tests.support.waiting import until

pytestmark = pytest.mark.functional

BASE, TIP = 110, 140
PAYOUT = "raw(51)"


def make_network(path: Path) -> None:
    create_network(
        path, "snapnet", message="snapshots", time=1_795_219_200, limit_nbits=0x207FFFFF, retargeting=Retargeting.NONE
    )


def add_to_table(path: Path, dump: dict[str, Any]) -> None:
    """What docs/node.md tells an operator to do."""
    with path.open("a") as file:
        file.write(
            f'\n[[assumeutxo]]\nbase_height = {dump["base_height"]}\nbase_hash = "{dump["base_hash"]}"\n'
            f'txoutset_hash = "{dump["txoutset_hash"]}"\nnchaintx = {dump["nchaintx"]}\n'
        )


def start_source(folder: Path, network_file: Path) -> Node:
    node = Node(folder, str(network_file))
    node.start()
    node.call("generatetodescriptor", TIP, PAYOUT)
    return node


def send_headers(source: Node, target: Node, height: int) -> None:
    for at in range(1, height + 1):
        target.call("submitheader", source.call("getblockheader", source.call("getblockhash", at), False))


def refusal(node: Node, path: Path) -> str:
    with pytest.raises(CallError) as caught:
        node.call("loadtxoutset", str(path))
    return caught.value.message


def validated(node: Node) -> bool:
    return len(node.call("getchainstates")["chainstates"]) == 1


def test_start_from_a_snapshot_and_validate_it(tmp_path: Path) -> None:
    network_file, snapshot = tmp_path / "snapnet.toml", tmp_path / "utxo.dat"
    make_network(network_file)
    source = start_source(tmp_path / "source", network_file)
    late = Node(tmp_path / "late", str(network_file), "--txindex")
    with nodes(source, late):
        dump = source.call("dumptxoutset", str(snapshot), "rollback", {"rollback": BASE})
        assert dump["base_height"] == BASE
        assert dump["coins_written"] == BASE
        assert dump["nchaintx"] == BASE + 1
        assert sorted(path.name for path in tmp_path.iterdir() if "utxo" in path.name) == ["utxo.dat"]
        with pytest.raises(CallError, match="If you are sure this is what you want, move it out of the way first"):
            source.call("dumptxoutset", str(snapshot), "latest")
        (tmp_path / "full.dat.incomplete").symlink_to("/dev/full")
        with pytest.raises(CallError, match="No space left on device"):
            source.call("dumptxoutset", str(tmp_path / "full.dat"), "latest")
        assert not list(tmp_path.glob("full*"))

        late.start()
        send_headers(source, late, TIP)
        assert refusal(late, snapshot).startswith(
            "Unable to load UTXO snapshot: assumeutxo block hash in snapshot metadata not recognized"
        )
        add_to_table(network_file, dump)
        late.stop()
        late.start()
        loaded = late.call("loadtxoutset", str(snapshot))
        assert loaded == {
            "coins_loaded": BASE,
            "tip_hash": dump["base_hash"],
            "base_height": BASE,
            "path": str(snapshot),
        }
        late.kill()  # right after the answer
        late.start()
        below, active = late.call("getchainstates")["chainstates"]
        assert (below["blocks"], below["validated"]) == (0, True)
        assert (active["blocks"], active["validated"]) == (BASE, False)
        assert active["snapshot_blockhash"] == dump["base_hash"]
        assert "NETWORK" not in late.call("getnetworkinfo")["localservicesnames"]
        assert late.call("getblockchaininfo")["backgroundvalidation"]["snapshotheight"] == BASE
        assert (
            late.call("gettxoutsetinfo", "hash_serialized_3", None, False)["hash_serialized_3"]
            == (dump["txoutset_hash"])
        )
        with pytest.raises(CallError, match="still being validated"):
            late.call("invalidateblock", late.call("getblockhash", 7))

        late.call("addnode", source.address, "onetry")
        late.wait_for_block(source.call("getbestblockhash"))
        late.kill()
        late.start()
        late.call("addnode", source.address, "onetry")
        until("the snapshot is validated", lambda: validated(late))
        late.kill()
        late.start()
        assert "backgroundvalidation" not in late.call("getblockchaininfo")
        assert not list(late.folder.glob("*/chainstate_*"))
        assert "NETWORK" in late.call("getnetworkinfo")["localservicesnames"]
        first, second = (node.call("gettxoutsetinfo", "muhash", None, False) for node in (source, late))
        for name in ("height", "bestblock", "txouts", "muhash", "total_amount", "transactions"):
            assert first[name] == second[name], name
        assert late.call("verifychain", 4, 0) is True
        # the index has been built from the blocks below the snapshot too
        until("txindex is there", lambda: late.call("getindexinfo")["txindex"]["synced"])
        txid = source.call("getblock", source.call("getblockhash", 5))["tx"][0]
        assert late.call("getrawtransaction", txid) == source.call("getrawtransaction", txid, 0, _block(source, 5))
        late.stop()


def _block(node: Node, height: int) -> Any:
    return node.call("getblockhash", height)


def test_a_snapshot_that_proves_wrong(tmp_path: Path) -> None:
    """The network's table was told of coins that the blocks do not make: the node says so and goes on without them."""
    network_file, snapshot = tmp_path / "snapnet.toml", tmp_path / "utxo.dat"
    make_network(network_file)
    source = start_source(tmp_path / "source", network_file)
    late = Node(tmp_path / "late", str(network_file))
    with nodes(source, late):
        dump = source.call("dumptxoutset", str(snapshot), "rollback", {"rollback": BASE})
        data = bytearray(snapshot.read_bytes())
        data[-1] ^= 3  # of the last coin's script
        snapshot.write_bytes(data)
        good = network_file.read_text()
        add_to_table(network_file, dump)
        late.start()
        send_headers(source, late, TIP)
        text = refusal(late, snapshot)
        wrong = re.search(r"Bad snapshot content hash: expected [0-9a-f]{64}, got ([0-9a-f]{64})", text)
        assert wrong is not None, text
        late.stop()
        network_file.write_text(good)
        add_to_table(network_file, {**dump, "txoutset_hash": wrong[1]})
        late.start()
        late.call("loadtxoutset", str(snapshot))
        late.call("addnode", source.address, "onetry")
        assert late.process is not None
        assert late.process.wait(60) == 1
        said = late.output()
        assert said.count("Error: ") == 1
        assert "failed to validate the UTXO snapshot: the coins' hash is" in said
        assert "Start it again" in said
        late.start()
        assert validated(late)
        late.call("addnode", source.address, "onetry")
        late.wait_for_block(source.call("getbestblockhash"))
        hashes = {node.call("gettxoutsetinfo")["hash_serialized_3"] for node in (source, late)}
        assert len(hashes) == 1
        late.stop()


def test_a_dump_into_a_pipe_waits_for_its_reader_but_not_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    node, again = Node(tmp_path / "node", "regtest"), Node(tmp_path / "node", "regtest")
    with nodes(node), ThreadPoolExecutor(1) as pool:
        node.start()
        again.rpc_port = node.rpc_port  # another connection to the same node
        node.call("generatetodescriptor", 3, PAYOUT)

        def dumping() -> bool:
            return "dumptxoutset" in [one["method"] for one in node.call("getrpcinfo")["active_commands"]]

        dump = pool.submit(again.call, "dumptxoutset", str(pipe), "latest")
        until("the dump waits", dumping)
        with pytest.raises(CallError, match="is being written by another call of dumptxoutset"):
            node.call("dumptxoutset", str(pipe), "latest")
        with pytest.raises(CallError, match=r"Couldn't open file .*/pipe for reading"):
            node.call("loadtxoutset", str(pipe))
        data = pipe.read_bytes()
        assert dump.result()["coins_written"] == 3
        node.call("dumptxoutset", str(tmp_path / "file"), "latest")
        assert data == (tmp_path / "file").read_bytes()
        dump = pool.submit(again.call, "dumptxoutset", str(pipe), "latest")
        until("the dump waits", dumping)
        node.stop()
        with contextlib.suppress(CallError, OSError, HTTPException, ValueError):  # whatever the node had time to say
            dump.result()


def test_a_reader_of_a_pipe_that_stalls_holds_up_nothing_else(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    room = fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    node, again = Node(tmp_path / "node", "regtest"), Node(tmp_path / "node", "regtest")

    def waiting() -> int:
        return struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0]

    with nodes(node), ThreadPoolExecutor(1) as pool:
        node.start()
        again.rpc_port = node.rpc_port
        node.call("generatetodescriptor", 2 * room // 40, PAYOUT)
        node.call("dumptxoutset", str(tmp_path / "file"), "latest")
        dump = pool.submit(again.call, "dumptxoutset", str(pipe), "latest")
        until("the pipe is full", lambda: waiting() == room)
        node.call("generatetodescriptor", 1, PAYOUT)
        with open(reader, "rb", closefd=False) as file:
            os.set_blocking(reader, True)
            assert file.read() == (tmp_path / "file").read_bytes()
        assert dump.result()["base_height"] == 2 * room // 40
        dump = pool.submit(again.call, "dumptxoutset", str(pipe), "latest")
        until("the pipe is full", lambda: waiting() == room)
        os.close(reader)
        with pytest.raises(CallError, match=r"Unable to write .*/pipe: Broken pipe"):
            dump.result()
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        dump = pool.submit(again.call, "dumptxoutset", str(pipe), "latest")
        until("the pipe is full", lambda: waiting() == room)
        node.stop()
        with contextlib.suppress(CallError, OSError, HTTPException, ValueError):
            dump.result()
    os.close(reader)
