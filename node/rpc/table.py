"""Importing this fills the registry with every method."""

from __future__ import annotations

from node.rpc import (
    addresses,
    blockchain,
    coin_scan,
    control,
    indexes,
    mempool,
    mining,
    network,
    rawtransactions,
    signing,
    snapshots,
    util,
)
from node.rpc.registry import REGISTRY

MODULES = (
    addresses,
    blockchain,
    coin_scan,
    control,
    indexes,
    mempool,
    mining,
    network,
    rawtransactions,
    signing,
    snapshots,
    util,
)

__all__ = ["MODULES", "REGISTRY"]
