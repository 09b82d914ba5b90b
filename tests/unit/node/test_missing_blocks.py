"""Which blocks to ask peers for."""

from __future__ import annotations

from types import SimpleNamespace

from chain.index import HeaderIndex
from chain.params import network
from node.chain_service import ChainService
from tests.support.blocks import add_headers


def missing(index: HeaderIndex, target: bytes, limit: int, window: int) -> list[int]:
    """Heights, with the active chain at genesis."""
    chain = SimpleNamespace(index=index, tip=index.genesis)
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
