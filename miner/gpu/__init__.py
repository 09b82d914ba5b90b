"""Graphics cards, and whatever else OpenCL offers, as hashing devices."""

from __future__ import annotations

from collections.abc import Sequence

from miner.gpu.device import GpuDevice
from miner.gpu.discovery import FoundDevice, discover, select


def gpu_devices(selection: Sequence[str] = ()) -> list[GpuDevice]:
    """The devices to mine with: all usable GPUs, or those that `selection` names by number, name, PCI address or part
    of their title. UserError says why there is none."""
    return [GpuDevice(found) for found in select(discover(), selection)]


__all__ = ["FoundDevice", "GpuDevice", "discover", "gpu_devices"]
