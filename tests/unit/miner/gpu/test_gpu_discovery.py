"""Finding OpenCL devices, telling why one is unusable, and choosing among them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chain.primitives.errors import UserError
from miner.gpu import FoundDevice, discovery, gpu_devices
from miner.gpu.discovery import discover, select


class FakeError(Exception):
    """Stands for pyopencl.Error."""


def fake_device(name: str, **changes: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {
        "name": name,
        "vendor": "NVIDIA Corporation",
        "type": 4,
        "available": True,
        "compiler_available": True,
        "endian_little": True,
        "opencl_c_version": "OpenCL C 1.2 ",
        "driver_version": "580.1",
        "max_compute_units": 132,
        "max_clock_frequency": 1980,
        "global_mem_size": 1 << 36,
        "extensions": "",
    }
    return SimpleNamespace(**{**fields, **changes})


def at_address(bus: int, slot: int = 0) -> dict[str, Any]:
    return {"extensions": "cl_nv_device_attribute_query", "pci_bus_id_nv": bus, "pci_slot_id_nv": slot << 3}


@pytest.fixture
def opencl(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts platforms (lists of devices, or an error for get_devices) in the place of pyopencl's."""

    def install(*platforms: list[SimpleNamespace] | Exception, error: Exception | None = None) -> None:
        def get_platforms() -> list[SimpleNamespace]:
            if error is not None:
                raise error
            result = []
            for number, content in enumerate(platforms):
                platform = SimpleNamespace(name=f"Platform {number}")

                def get_devices(content: list[SimpleNamespace] | Exception = content) -> list[SimpleNamespace]:
                    if isinstance(content, Exception):
                        raise content
                    return content

                platform.get_devices = get_devices
                for device in content if isinstance(content, list) else []:
                    device.platform = platform
                result.append(platform)
            return result

        fake = SimpleNamespace(
            Error=FakeError, get_platforms=get_platforms, device_type=SimpleNamespace(CPU=2), device_info=None
        )
        monkeypatch.setitem(sys.modules, "pyopencl", fake)
        monkeypatch.setattr(discovery, "_advice", lambda: "")

    return install


def test_gpus_come_first_and_keep_their_names(opencl: Callable[..., None]) -> None:
    opencl([fake_device("Xeon", type=2)], [fake_device("H100"), fake_device("Old", available=False)])
    found = discover()
    assert [(device.name, device.title, device.usable) for device in found] == [
        ("gpu0", "H100", True),
        ("gpu1", "Old", False),
        ("gpu2", "Xeon", True),
    ]
    assert [device.name for device in select(found, ())] == ["gpu0"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"available": False}, "not available"),
        ({"compiler_available": False}, "no compiler"),
        ({"endian_little": False}, "big-endian"),
        ({"opencl_c_version": "OpenCL C 1.1"}, "too old"),
        ({"opencl_c_version": "nonsense"}, "cannot be read"),
    ],
)
def test_says_why_a_device_is_unusable(opencl: Callable[..., None], changes: dict[str, Any], reason: str) -> None:
    opencl([fake_device("Card", **changes)])
    found = discover()
    assert reason in found[0].note
    with pytest.raises(UserError, match=reason):
        select(found, ["gpu0"])
    with pytest.raises(UserError, match=reason):
        gpu_devices()


def test_no_driver_is_one_line(opencl: Callable[..., None]) -> None:
    opencl(error=FakeError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR"))
    assert [device.note for device in discover()] == ["not usable: no OpenCL driver is installed"]
    with pytest.raises(UserError, match="no GPU can be used here: OpenCL: no OpenCL driver is installed"):
        gpu_devices()


def test_a_broken_driver_does_not_hide_the_others(opencl: Callable[..., None]) -> None:
    opencl(FakeError("clGetDeviceIDs failed: OUT_OF_HOST_MEMORY"), [fake_device("H100")], [])
    found = discover()
    assert [device.name for device in select(found, ())] == ["gpu0"]
    assert "OUT_OF_HOST_MEMORY: the driver got no memory" in found[1].note
    assert "finds no device" in found[2].note


def test_pyopencl_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    assert "reinstall" in discover()[0].note


def test_one_card_under_two_drivers_is_used_once(opencl: Callable[..., None]) -> None:
    opencl([fake_device("H100", **at_address(0x41))], [fake_device("H100 too", **at_address(0x41))])
    found = discover()
    assert found[0].address == "0000:41:00.0"
    assert [device.usable for device in found] == [True, False]
    assert found[1].reason == "the same card as gpu0, under another driver"


def test_amd_cards_are_called_by_their_board(opencl: Callable[..., None]) -> None:
    topology = SimpleNamespace(bus=-2 & 0xFF, device=3, function=0)
    opencl(
        [
            fake_device(
                "gfx1030",
                vendor="Advanced Micro Devices, Inc.",
                board_name_amd="Radeon RX 6800\0",
                extensions="cl_amd_device_attribute_query",
                topology_amd=topology,
            )
        ]
    )
    assert (discover()[0].title, discover()[0].address) == ("Radeon RX 6800", "0000:fe:03.0")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["0"], ["gpu0"]),
        (["gpu1"], ["gpu1"]),
        (["0000:02:00.0"], ["gpu1"]),
        (["h100"], ["gpu0", "gpu1"]),
        (["gpu1", "h100"], ["gpu1", "gpu0"]),
        (["xeon"], ["gpu10"]),
    ],
)
def test_choosing(wanted: Sequence[str], names: list[str]) -> None:
    found = [
        FoundDevice("gpu0", "H100", address="0000:01:00.0", handle=1),
        FoundDevice("gpu1", "H100", address="0000:02:00.0", handle=2),
        FoundDevice("gpu10", "Xeon", processor=True, handle=3),
        FoundDevice("-", "H100 platform", "broken"),
    ]
    assert [device.name for device in select(found, wanted)] == names


@pytest.mark.parametrize("wish", ["3", "gpu3", "radeon", ""])
def test_a_wish_that_fits_nothing_lists_what_there_is(wish: str) -> None:
    with pytest.raises(UserError, match=r"there are: gpu0 \(H100\)"):
        select([FoundDevice("gpu0", "H100", handle=1)], [wish])


def test_only_the_processor(opencl: Callable[..., None]) -> None:
    opencl([fake_device("Xeon", type=2)])
    with pytest.raises(UserError, match="only the processor"):
        gpu_devices()


def test_advice_by_device_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = tmp_path / "nvidia0"
    assert discovery._advice([str(node)], tmp_path) == ""
    node.touch()
    assert "libnvidia-opencl" in discovery._advice([str(node)], tmp_path)
    (tmp_path / "nvidia.icd").touch()
    assert "install its vendor's OpenCL driver" in discovery._advice([str(node)], tmp_path)
    monkeypatch.setattr(discovery.os, "access", lambda path, mode: False)
    assert "groups `render` and `video`" in discovery._advice([str(node)], tmp_path)
