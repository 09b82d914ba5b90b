"""Graphics cards, and whatever else OpenCL offers, as hashing devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miner.gpu.discovery import FoundDevice, discover, select

if TYPE_CHECKING:
    from miner.gpu.device import GpuDevice


def gpu_devices(selection: Sequence[str] = ()) -> list[GpuDevice]:
    """The devices to mine with: all usable GPUs, or those that `selection` names by number, name, PCI address or part
    of their title. UserError says why there is none."""
    chosen = select(discover(), selection)
    from miner.gpu.device import GpuDevice  # loads pyopencl, which discover() has found to load

    return [GpuDevice(found) for found in chosen]


__all__ = ["FoundDevice", "discover", "gpu_devices", "select"]
