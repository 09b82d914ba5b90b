"""Which OpenCL devices there are, what they are called, and why one cannot be used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chain.primitives.errors import UserError
from miner.gpu.errors import explain

_VENDOR_FOLDER = Path("/etc/OpenCL/vendors")
_NO_DRIVER = "no OpenCL driver is installed"


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """One OpenCL device, or (without `handle`) the trouble that hides devices.

    `name`: what to call it in `--gpu` and on screen, "gpu0"; `title`: the vendor's name for it. `reason`: why it cannot
    mine; empty if it can. `processor`: an OpenCL driver for the CPU, which is used only when asked for by name.
    `units`: compute units; `address`: PCI address, where the driver tells.
    """

    name: str
    title: str
    reason: str = ""
    platform: str = ""
    driver: str = ""
    vendor: str = ""
    processor: bool = False
    units: int = 0
    clock_mhz: int = 0
    address: str = ""
    handle: Any = None

    @property
    def usable(self) -> bool:
        return self.handle is not None and not self.reason

    @property
    def note(self) -> str:
        """One line for people: why it is not usable, or what it is."""
        if self.reason:
            return f"not usable: {self.reason}"
        if self.processor:
            return f"the processor, through {self.platform}: `--device cpu` is faster; used only when named"
        return f"usable, {self.units} units, {self.platform}, driver {self.driver}"


def discover() -> list[FoundDevice]:
    """Every OpenCL device, GPUs first; when a driver is missing or broken, a line that says so in its place.

    Names count usable and unusable devices alike, in the drivers' order, so they stay the same between starts.
    """
    try:
        import pyopencl as cl
    except (ImportError, OSError) as error:
        return [FoundDevice("-", "OpenCL", f"pyopencl cannot be loaded ({error}): reinstall pickaxe")]
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:
        text = explain(error)
        reason = _NO_DRIVER if "PLATFORM_NOT_FOUND" in text else text
        return [FoundDevice("-", "OpenCL", reason + _advice())]
    found: list[FoundDevice] = []
    trouble: list[FoundDevice] = []
    for platform in platforms:
        try:
            devices = platform.get_devices()
        except cl.Error as error:
            trouble.append(_silent_platform(platform, explain(error)))
            continue
        if not devices:
            trouble.append(_silent_platform(platform, "its driver finds no device"))
        found += [_describe(cl, device) for device in devices]
    found.sort(key=lambda device: device.processor)  # stable: the drivers' order otherwise
    found = _without_twins([replace(device, name=f"gpu{index}") for index, device in enumerate(found)])
    if not any(not device.processor for device in found) and (advice := _advice()):
        trouble.append(FoundDevice("-", "graphics cards", f"no OpenCL driver for them{advice}"))
    return found + trouble


def select(found: Sequence[FoundDevice], wanted: Sequence[str]) -> list[FoundDevice]:
    """Those that `wanted` names, each by number ("0"), name ("gpu0"), PCI address or part of its title; all usable GPUs
    when nothing is named. UserError where a wish fits nothing, or nothing usable."""
    if not wanted:
        chosen = [device for device in found if device.usable and not device.processor]
        if not chosen:
            raise UserError(f"no GPU can be used here: {_why_none(found)}")
        return chosen
    chosen = []
    for wish in wanted:
        fitting = [device for device in found if _fits(device, wish)]
        if not fitting:
            names = ", ".join(f"{device.name} ({device.title})" for device in found if device.handle is not None)
            raise UserError(f"no OpenCL device fits {wish!r}; there are: {names or 'none'}")
        usable = [device for device in fitting if device.usable]
        if not usable:
            raise UserError(f"{fitting[0].name} ({fitting[0].title}) cannot mine: {fitting[0].reason}")
        chosen += [device for device in usable if device not in chosen]
    return chosen


def _fits(device: FoundDevice, wish: str) -> bool:
    wish = wish.strip().lower()
    if device.handle is None or not wish:
        return False
    if wish.isdigit():
        return device.name == f"gpu{int(wish)}"
    if wish in (device.name, device.address.lower()):
        return True
    # "gpu1" is a name, not a part of some title
    return not (wish.startswith("gpu") and wish[3:].isdigit()) and wish in device.title.lower()


def _why_none(found: Sequence[FoundDevice]) -> str:
    reasons = [f"{device.title}: {device.reason}" for device in found if device.reason]
    if reasons:
        return "; ".join(reasons)
    return "OpenCL sees only the processor (`--device cpu` mines with it)"


def _silent_platform(platform: Any, reason: str) -> FoundDevice:
    return FoundDevice("-", str(platform.name).strip(), reason + _advice(), platform=str(platform.name).strip())


def _describe(cl: Any, device: Any) -> FoundDevice:
    platform = device.platform
    return FoundDevice(
        name="",
        title=_title(device),
        reason=_unusable(device),
        platform=str(platform.name).strip(),
        driver=str(device.driver_version).strip(),
        vendor=str(device.vendor).strip(),
        processor=bool(device.type & cl.device_type.CPU),
        units=int(device.max_compute_units),
        clock_mhz=int(device.max_clock_frequency),
        address=_address(cl, device),
        handle=device,
    )


def _title(device: Any) -> str:
    """The card's name: AMD's driver calls the device by its chip (gfx1030) and keeps the name elsewhere."""
    board = getattr(device, "board_name_amd", "") if "Advanced Micro" in str(device.vendor) else ""
    return " ".join(str(board or device.name).replace("\0", "").split())


def _unusable(device: Any) -> str:
    """Empty if the kernel can run there."""
    if not device.available:
        return "its driver says that it is not available"
    if not device.compiler_available:
        return "its driver has no compiler: install the vendor's full OpenCL package"
    if not device.endian_little:
        return "it is big-endian, which the kernels do not support"
    version = str(device.opencl_c_version).split()
    try:
        numbers = tuple(int(part) for part in version[2].split(".")[:2])
    except (IndexError, ValueError):
        return f"its OpenCL version cannot be read: {' '.join(version)}"
    if numbers < (1, 2):
        return f"OpenCL C {version[2]} is too old, 1.2 is needed: install a newer driver"
    return ""


def _address(cl: Any, device: Any) -> str:
    """PCI address as lspci writes it, or empty: pyopencl can ask two vendors' drivers."""
    for read in (_nvidia_address, _amd_address):
        try:
            if address := read(device):
                return address
        except (cl.Error, AttributeError, TypeError, ValueError):
            continue
    return ""


def _nvidia_address(device: Any) -> str:
    if "cl_nv_device_attribute_query" not in device.extensions:
        return ""
    domain, bus = int(getattr(device, "pci_domain_id_nv", 0)), int(device.pci_bus_id_nv)
    slot = int(device.pci_slot_id_nv)
    return f"{domain:04x}:{bus:02x}:{slot >> 3:02x}.{slot & 7:x}"


def _amd_address(device: Any) -> str:
    if "cl_amd_device_attribute_query" not in device.extensions:
        return ""
    topology = device.topology_amd
    return f"0000:{int(topology.bus) & 0xFF:02x}:{int(topology.device):02x}.{int(topology.function):x}"


def _without_twins(found: list[FoundDevice]) -> list[FoundDevice]:
    """One card under two drivers would get two shares of the work and do both slowly: the first that works keeps it."""
    owner: dict[str, str] = {}
    result = []
    for device in found:
        if device.usable and device.address:
            first = owner.setdefault(device.address, device.name)
            if first != device.name:
                device = replace(device, reason=f"the same card as {first}, under another driver")
        result.append(device)
    return result


def _advice(
    nodes: Sequence[str] = ("/dev/nvidia0", "/dev/kfd", "/dev/dri/renderD128"), vendors: Path = _VENDOR_FOLDER
) -> str:
    """What this machine's device files say about a missing driver; begins with a colon, or is empty."""
    present = [node for node in nodes if os.path.exists(node)]
    if not present:
        return ""
    closed = [node for node in present if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        return f": {closed[0]} is not open to this user: add them to the groups `render` and `video` and log in again"
    if any("nvidia" in node for node in present) and not (vendors / "nvidia.icd").exists():
        return (
            f": there is an NVIDIA card; its driver's OpenCL part (libnvidia-opencl, {vendors}/nvidia.icd) is missing"
        )
    return ': there is a card; install its vendor\'s OpenCL driver (docs/miner.md, "GPUs")'
