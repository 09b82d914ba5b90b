"""Which settings ask for which index, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chain.primitives.errors import UserError
from chain.storage.lock import DirectoryLock
from node.bitcoin_conf import load, parse_command_line
from node.cli.index import index
from node.config import build
from node.indexes import check_not_pruned, open_indexes
from node.peers import build_peer_config
from p2p.constants import Services
from tests.support.index_chain import catch_up
from tests.support.regtest import RegtestNode


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prune_mib": 550, "tx_index": True}, "Prune mode is incompatible with -txindex."),
        ({"prune_mib": 550, "address_index": True}, "Prune mode is incompatible with -addressindex."),
        ({"block_filter_index": "abc"}, "Unknown -blockfilterindex value abc."),
        ({"peer_block_filters": True}, "Cannot set -peerblockfilters without -blockfilterindex."),
    ],
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(values)
    assert str(caught.value) == message


def test_allowed_with_pruning() -> None:
    config = build({"prune_mib": 550, "block_filter_index": "basic", "coin_stats_index": True})
    assert (config.prune_mib, config.block_filter_index, config.coin_stats_index) == (550, "basic", True)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["-blockfilterindex"], "basic"),
        (["-blockfilterindex=1"], "basic"),
        (["-blockfilterindex=basic"], "basic"),
        (["-blockfilterindex=0"], ""),
        (["-noblockfilterindex"], ""),
        ([], ""),
    ],
)
def test_core_spellings(tmp_path: Path, arguments: list[str], value: str) -> None:
    loaded = load(parse_command_line([f"-datadir={tmp_path}", "-regtest", *arguments]))
    assert loaded.config.block_filter_index == value


def test_open_what_is_asked_for_and_offer_what_is_served(tmp_path: Path) -> None:
    with RegtestNode(tmp_path) as node:
        node.mine(3)
        config = build({"tx_index": True, "block_filter_index": "basic", "peer_block_filters": True})
        assert build_peer_config(config, node.params, tmp_path).services & Services.COMPACT_FILTERS
        indexes = open_indexes(config, node.chain, tmp_path)
        assert [each.option for each in indexes] == ["txindex", "blockfilterindex"]
        catch_up(indexes)
        check_not_pruned(indexes)
        node.chain.flush()
        indexes.close()
        again = open_indexes(build({"tx_index": True, "reindex": True}), node.chain, tmp_path)
        assert [each.height for each in again] == [-1]
        for entry in node.chain.index.active[1:]:
            entry.status &= ~8
        with pytest.raises(UserError, match="txindex best block of the index goes beyond pruned data"):
            check_not_pruned(again)
        again.close()


def test_list_and_remove(tmp_path: Path) -> None:
    folder = tmp_path / "regtest"
    with RegtestNode(folder) as node:
        node.mine(3)
        config = build({"tx_index": True, "block_filter_index": "basic"})
        indexes = open_indexes(config, node.chain, folder)
        catch_up(indexes)
        node.chain.flush()
        indexes.close()
    where = ["--network", "regtest", "--datadir", str(tmp_path)]

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(index, [*arguments, *where], catch_exceptions=False, standalone_mode=False)
        return result.output

    listed = call("list").splitlines()
    assert [line.split()[:3] for line in listed] == [["txindex", "height", "3"], ["blockfilterindex", "height", "3"]]
    lock = DirectoryLock(folder)
    with pytest.raises(UserError, match="already running"):
        call("remove", "txindex")
    lock.release()
    assert call("remove", "txindex") == "Removed txindex.\n"
    assert [line.split()[0] for line in call("list").splitlines()] == ["blockfilterindex"]
    with pytest.raises(UserError, match="There is no index 'txindex' in"):
        call("remove", "txindex")
    with pytest.raises(UserError, match="choose one of txindex, blockfilterindex, coinstatsindex, addressindex"):
        call("remove", "other")
    assert call("remove", "blockfilterindex") == "Removed blockfilterindex.\n"
    assert call("list") == "There are no indexes.\n"


def test_a_list_of_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    def listed(folder: Path) -> str:
        return str(CliRunner().invoke(index, ["list", "--network", "regtest", "--datadir", str(folder)]).exception)

    file = tmp_path / "file"
    file.write_text("")
    for nowhere in (file, tmp_path / "nowhere"):
        assert listed(nowhere) == f"--datadir {nowhere}: there is no such folder"
    (tmp_path / "regtest").mkdir()
    assert listed(tmp_path) == "None"  # a node without indexes
    (tmp_path / "regtest" / "indexes").write_text("")
    assert listed(tmp_path).endswith("cannot be read: Not a directory")
