"""Bitcoin's first 255 blocks and 10,000 headers of two networks through the chain itself."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.consensus.errors import ConsensusError
from chain.params import network
from chain.primitives.amount import COIN
from chain.primitives.header import BlockHeader
from chain.primitives.types import hash_to_hex
from chain.utxo_stats import UtxoHash

TIP_255 = "00000000d0a75c861fabf9ff7b92022f60e4afeed9331fe5aa073d8e4706fe3c"


@pytest.fixture
def block_file(vectors: Path, tmp_path: Path) -> Path:
    path = tmp_path / "blocks1-256.dat"
    path.write_bytes(bz2.decompress((vectors / "blocks/mainnet/blocks1-256.dat.bz2").read_bytes()))
    return path


def test_first_blocks_of_bitcoin(block_file: Path, tmp_path: Path) -> None:
    bitcoin = network("bitcoin")
    with Chainstate(bitcoin, tmp_path / "chain", script_threads=1) as chain:
        reports = list(chain.load_block_file(block_file))
        assert (reports[-1].accepted, reports[-1].refused) == (255, 0)
        assert chain.tip.height == 255
        assert hash_to_hex(chain.tip.hash) == TIP_255
        totals = chain.utxo_stats(UtxoHash.NONE)
        assert totals.total_amount == 255 * 50 * COIN  # all fees were claimed; genesis' coinbase is no coin
        chain.verify_chain(4, 0)
        coins = dict(chain.iterate_coins())
        events = chain.invalidate_block(chain.index.active[100].hash)
        assert chain.tip.height == 99
        assert len(events) >= 156
        chain.reconsider_block(chain.index.best_invalid.hash if chain.index.best_invalid else b"")
        assert chain.tip.height == 255
        assert dict(chain.iterate_coins()) == coins
    with Chainstate(bitcoin, tmp_path / "chain", script_threads=1) as chain:
        assert hash_to_hex(chain.tip.hash) == TIP_255


@pytest.mark.parametrize(("name", "file"), [("bitcoin", "mainnet"), ("testnet3", "testnet3")])
def test_ten_thousand_headers(vectors: Path, tmp_path: Path, name: str, file: str) -> None:
    raw = (vectors / f"headers/{file}-0-9999.bin").read_bytes()
    headers = [BlockHeader.parse(raw[at : at + 80]) for at in range(0, len(raw), 80)]
    with Chainstate(network(name), tmp_path, script_threads=1) as chain:
        last = chain.accept_headers(headers[1:])
        assert last.height == 9999
        assert chain.index.best_header is last
        altered = bytearray(headers[5000].raw)
        altered[76] ^= 1
        with pytest.raises(ConsensusError, match="high-hash"):
            chain.accept_headers([BlockHeader.parse(bytes(altered))])
    with Chainstate(network(name), tmp_path, script_threads=1) as chain:
        assert chain.index.best_header.height == 9999
        assert chain.index.best_header.hash == headers[9999].hash
        assert chain.tip.height == 0
