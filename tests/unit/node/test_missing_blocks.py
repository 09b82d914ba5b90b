"""Which blocks to ask peers for."""

from __future__ import annotations

from types import SimpleNamespace

from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import network
from chain.snapshot.background import BackgroundChain
from node.chain_service import ChainService
from tests.support.blocks import add_headers


def missing(index: HeaderIndex, target: bytes, limit: int, window: int) -> list[int]:
    """Heights, with the active chain at genesis."""
    chain = SimpleNamespace(index=index, tip=index.tip)
    service = SimpleNamespace(worker=SimpleNamespace(chain=chain, info=lambda entry: entry.height))
    return ChainService.missing_blocks(service, target, limit, window=window)  # type: ignore[arg-type, return-value]


def test_a_branch_longer_than_the_window_goes_on_above_what_is_stored() -> None:
    """Found by Core's feature_block: a reorganisation of 1,088 blocks stalled at 1,024."""
    index = HeaderIndex(network("regtest"))
    index.received(index.genesis, 1)
    index.set_tip(index.genesis)
    target = add_headers(index, index.genesis, 30)
    assert missing(index, target.hash, 100, 10) == list(range(1, 11))
    for height in (*range(1, 11), 13, 14):
        entry = target.ancestor(height)
        assert entry is not None
        index.received(entry, 1)
    assert missing(index, target.hash, 100, 10) == [11, 12, 15, 16, 17, 18, 19, 20]
    assert missing(index, target.hash, 3, 10) == [11, 12, 15]
    for height in range(11, 31):
        entry = target.ancestor(height)
        assert entry is not None
        index.received(entry, 1)
    assert missing(index, target.hash, 100, 10) == []


def test_blocks_below_a_snapshot() -> None:
    """Lowest first, from where validation stands, the snapshot's own among them; and none towards chains without it."""
    index = HeaderIndex(network("regtest"))
    index.received(index.genesis, 1)
    index.set_tip(index.genesis)
    other = add_headers(index, index.genesis, 30, salt=1)
    target = add_headers(index, index.genesis, 25)
    base = target.ancestor(20)
    assert base is not None
    background = BackgroundChain(None, None, index.genesis, base, None)  # type: ignore[arg-type]
    chain = SimpleNamespace(index=index, tip=base, background=background)
    service = SimpleNamespace(worker=SimpleNamespace(chain=chain, info=lambda entry: entry.height))

    def historical(entry: BlockIndexEntry, limit: int = 100, window: int = 1024) -> list[int]:
        return ChainService.historical_blocks(service, entry.hash, limit, window=window)  # type: ignore[arg-type, return-value]

    index.set_tip(base)
    index.assume(base, 500)
    assert historical(target) == list(range(1, 21))
    assert historical(other) == []
    assert missing(index, other.hash, 100, 10) == []
    assert missing(index, target.hash, 100, 10) == [21, 22, 23, 24, 25]
    for height in (1, 2, 3, 5, 20):
        entry = target.ancestor(height)
        assert entry is not None
        index.received(entry, 1)
    assert historical(target) == [4, *range(6, 20)]
    assert historical(target, limit=3) == [4, 6, 7]
    assert historical(target, window=5) == [4, 6, 7, 8]
    assert base.chain_tx_count == 500
    for height in range(4, 20):
        entry = target.ancestor(height)
        assert entry is not None
        index.received(entry, 1)
    assert historical(target) == []
    assert base.chain_tx_count == 21
    chain.background = None
    assert historical(target) == []
