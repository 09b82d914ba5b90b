"""What graphics cards say they draw: NVIDIA's through NVML, AMD's through the kernel's hwmon files."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

DRM = Path("/sys/class/drm")


def normal_pci_address(address: str) -> str:
    """0000:01:00.0 whatever the writing: NVML has eight digits of domain, OpenCL at times none."""
    match = re.fullmatch(r"(?:([0-9A-Fa-f]{1,8}):)?([0-9A-Fa-f]{1,2}):([0-9A-Fa-f]{1,2})\.([0-9A-Fa-f])", address)
    if match is None:
        return address.lower()
    domain, bus, slot, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(slot, 16):02x}.{function.lower()}"


class HwmonMeter:
    """One amdgpu card's sensor: `power1_average`, or `power1_input` on newer cards, in microwatts (Linux
    Documentation/gpu/amdgpu/thermal)."""

    source = "hwmon"

    def __init__(self, sensor: Path) -> None:
        self._sensor = sensor

    def watts(self) -> float | None:
        """Now; None while the card sleeps or is gone."""
        try:
            return int(self._sensor.read_text()) / 1e6
        except (OSError, ValueError):
            return None


class NvmlMeter:
    """One NVIDIA card."""

    source = "NVML"

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    def watts(self) -> float | None:
        """Now; None where the card has no sensor or the driver has gone."""
        try:
            return float(self._library.nvmlDeviceGetPowerUsage(self._handle)) / 1000
        except self._library.NVMLError:
            return None


def hwmon_meters(root: Path = DRM) -> dict[str, HwmonMeter]:
    """The AMD cards' meters by PCI address."""
    meters: dict[str, HwmonMeter] = {}
    for card in sorted(root.glob("card*")):
        if not re.fullmatch(r"card\d+", card.name):
            continue
        device = card / "device"
        for sensor in [*device.glob("hwmon/hwmon*/power1_average"), *device.glob("hwmon/hwmon*/power1_input")]:
            address = _pci_address(device)
            if address is not None:
                meters.setdefault(address, HwmonMeter(sensor))
    return meters


def nvml_meters() -> dict[str, NvmlMeter]:
    """The NVIDIA cards' meters by PCI address; none without their driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except Exception:  # no library, no driver, another version of it: whatever is wrong, there is no meter
        return {}
    meters = {}
    for index in range(count):
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            bus_id = pynvml.nvmlDeviceGetPciInfo(handle).busId
            address = bus_id.decode() if isinstance(bus_id, bytes) else str(bus_id)
            meter = NvmlMeter(pynvml, handle)
            if meter.watts() is not None:
                meters[normal_pci_address(address)] = meter
    return meters


def _pci_address(device: Path) -> str | None:
    """From the kernel's own description of the card, else from where the link leads."""
    with contextlib.suppress(OSError):
        for line in (device / "uevent").read_text().splitlines():
            name, _, value = line.partition("=")
            if name == "PCI_SLOT_NAME":
                return normal_pci_address(value)
    name = device.resolve().name
    return normal_pci_address(name) if re.fullmatch(r"[0-9A-Fa-f]{4,8}:\w\w:\w\w\.\w", name) else None
