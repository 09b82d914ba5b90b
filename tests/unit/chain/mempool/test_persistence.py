"""mempool.dat: our own files, Core's layout byte for byte, and files that are not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.mempool.policy import MempoolPolicy
from chain.mempool.pool import Mempool
from tests.support.mempool_check import check
from tests.support.regtest import RegtestNode


def filled(node: RegtestNode) -> None:
    first, second = node.mature()[:2]
    parent = node.transfer([first], 0)
    node.mempool.prioritise(parent.txid, 5_000)
    node.mempool.accept(parent)
    node.time += 10
    child = node.transfer([node.output(parent)], 3_000)
    node.mempool.accept(child)
    node.mempool.accept(node.transfer([second], 2_000))
    node.mempool.prioritise(b"\5" * 32, -7)
    node.mempool.unbroadcast.add(child.txid)


def fresh(node: RegtestNode, policy: MempoolPolicy | None = None) -> Mempool:
    return Mempool(node.chain, policy, node.now)


@pytest.mark.parametrize("old_format", [False, True], ids=["v2", "v1"])
def test_round_trip(node: RegtestNode, tmp_path: Path, old_format: bool) -> None:
    node.mempool.policy = MempoolPolicy(persist_v1=old_format)
    filled(node)
    path = tmp_path / "mempool.dat"
    assert node.mempool.save(path) == 3
    assert path.read_bytes()[:8] == (1 if old_format else 2).to_bytes(8, "little")
    assert not path.with_name("mempool.dat.new").exists()
    pool = fresh(node)
    assert not pool.info().loaded
    result = pool.load(path)
    assert (result.error, result.accepted, result.failed, result.unbroadcast) == ("", 3, 0, 1)
    assert pool.info().loaded
    old = node.mempool
    assert pool.deltas == old.deltas
    assert pool.unbroadcast == old.unbroadcast
    assert {txid: (e.time, e.fee, e.modified_fee) for txid, e in pool.entries.items()} == {
        txid: (e.time, e.fee, e.modified_fee) for txid, e in old.entries.items()
    }
    check(pool)


def test_layout_of_version_2(node: RegtestNode, tmp_path: Path) -> None:
    """Written out by hand from Core's description: XOR by absolute position in the file."""
    tx = node.transfer(node.mature()[:1], 1_000)
    key = bytes(range(1, 9))
    body = (
        (1).to_bytes(8, "little")
        + tx.raw
        + node.time.to_bytes(8, "little")
        + (250).to_bytes(8, "little")
        + b"\1"
        + b"\5" * 32
        + (-3).to_bytes(8, "little", signed=True)
        + b"\1"
        + tx.txid
    )
    head = (2).to_bytes(8, "little") + b"\x08" + key
    path = tmp_path / "mempool.dat"
    path.write_bytes(head + bytes(byte ^ key[(17 + n) % 8] for n, byte in enumerate(body)))
    assert node.mempool.load(path).error == ""
    assert node.mempool.entries[tx.txid].modified_fee == 1_250
    assert node.mempool.deltas == {tx.txid: 250, b"\5" * 32: -3}
    assert node.mempool.unbroadcast == {tx.txid}


def test_expired_and_known_are_counted(node: RegtestNode, tmp_path: Path) -> None:
    filled(node)
    path = tmp_path / "mempool.dat"
    node.mempool.save(path)
    again = node.mempool.load(path)
    assert (again.accepted, again.already_there, again.failed) == (0, 3, 0)
    node.time += 400 * 3600
    late = fresh(node).load(path)
    assert (late.accepted, late.expired) == (0, 3)
    pool = fresh(node)
    assert pool.load(path, use_current_time=True).accepted == 3
    assert {entry.time for entry in pool.entries.values()} == {node.time}


def test_deltas_and_unbroadcast_can_be_left_out(node: RegtestNode, tmp_path: Path) -> None:
    filled(node)
    path = tmp_path / "mempool.dat"
    node.mempool.save(path)
    pool = fresh(node)
    result = pool.load(path, apply_fee_deltas=False, apply_unbroadcast=False)
    assert (pool.deltas, pool.unbroadcast) == ({}, set())
    assert (result.accepted, result.failed) == (1, 2)  # the parent pays nothing without its delta


def test_loading_in_steps(node: RegtestNode, tmp_path: Path) -> None:
    fund = node.transfer(node.mature()[:1], 100_000, outputs=130)
    node.mine_transactions([fund])
    for n in range(130):
        node.mempool.accept(node.transfer([node.output(fund, n)], 1_000))
    path = tmp_path / "mempool.dat"
    node.mempool.save(path)
    pool = fresh(node)
    assert [(step.tried, step.total) for step in pool.load_steps(path)] == [(64, 130), (128, 130), (130, 130)]
    assert len(pool) == 130


def test_missing_file(node: RegtestNode, tmp_path: Path) -> None:
    result = node.mempool.load(tmp_path / "none.dat")
    assert "does not exist" in result.error
    assert node.mempool.loaded


def test_every_truncation_and_any_flipped_byte_is_survived(node: RegtestNode, tmp_path: Path) -> None:
    filled(node)
    path = tmp_path / "mempool.dat"
    node.mempool.save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        pool = fresh(node)
        result = pool.load(path)
        assert "not a whole mempool file" in result.error
        assert result.accepted == len(pool) <= 3
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        fresh(node).load(path)


def test_unwritable_place_leaves_the_old_file(node: RegtestNode, tmp_path: Path) -> None:
    path = tmp_path / "mempool.dat"
    node.mempool.save(path)
    before = path.read_bytes()
    path.with_name("mempool.dat.new").mkdir()
    with pytest.raises(OSError):
        node.mempool.save(path)
    assert path.read_bytes() == before
