"""`pickaxe mine`, `pickaxe devices` and `pickaxe bench`."""

from __future__ import annotations

from miner.cli.bench import bench
from miner.cli.devices import devices
from miner.cli.mine import mine

__all__ = ["bench", "devices", "mine"]
