"""Watts from sensors in a folder of real files, from devices and from the user; and what follows from them."""

from __future__ import annotations

import math
import os
import sys
import types
from pathlib import Path
from typing import ClassVar

import pytest

from chain.primitives.errors import UserError
from miner.energy.gpu_power import hwmon_meters, normal_pci_address, nvml_meters
from miner.energy.monitor import EnergyMonitor, EnergyOptions, MeasuredDevice, figure_remarks, parse_watts
from miner.energy.outlook import describe, format_chance, format_span, outlook
from miner.energy.rapl import SensorProblem, open_rapl


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FixedMeter:
    source = "NVML"

    def __init__(self, watts: float | None) -> None:
        self._watts = watts

    def watts(self) -> float | None:
        return self._watts


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    where = root / folder
    where.mkdir(parents=True)
    (where / "name").write_text(f"{name}\n")
    (where / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (where / "energy_uj").write_text(f"{energy_uj}\n")
    return where / "energy_uj"


def device(name: str, kind: str, rate: float = 1e6, **more: object) -> MeasuredDevice:
    return MeasuredDevice(**{"name": name, "kind": kind, "rate": rate, "working": True, **more})  # type: ignore[arg-type]


def monitor(options: EnergyOptions, clock: Clock, root: Path, **cards: FixedMeter) -> EnergyMonitor:
    by_address = {address.replace("_", ":").replace("x", "."): meter for address, meter in cards.items()}
    return EnergyMonitor(options, clock, powercap=root / "powercap", drm=root / "drm", nvml=lambda: by_address)


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    clock = Clock()
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 0)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    psys = zone(tmp_path, "intel-rapl:2", "psys", 0)
    meter = open_rapl(clock, tmp_path)
    assert meter is not None
    assert meter.watts() is None
    clock.now += 2
    first.write_text("65000000")
    second.write_text("20000000")
    core.write_text("999000000")
    psys.write_text("999000000")
    assert meter.watts() == pytest.approx(40.0)
    clock.now += 0.01
    assert meter.watts() == pytest.approx(40.0)  # too soon to say anything new


def test_a_counter_that_starts_again_is_followed(tmp_path: Path) -> None:
    clock = Clock()
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 999_000, range_uj=999_999)
    meter = open_rapl(clock, tmp_path)
    assert meter is not None
    clock.now += 1
    counter.write_text("499000")
    assert meter.watts() == pytest.approx(0.5)
    counter.unlink()
    clock.now += 1
    assert meter.watts() is None


def test_no_counters_no_meter(tmp_path: Path) -> None:
    assert open_rapl(Clock(), tmp_path / "nothing") is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert open_rapl(Clock(), tmp_path) is None


def test_a_counter_for_root_alone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    counter.chmod(0)
    if os.geteuid() == 0:  # root may read everything: refuse in its stead
        whole = Path.read_text

        def refuse(path: Path, *arguments: str) -> str:
            if path == counter:
                raise PermissionError(13, "Permission denied")
            return whole(path, *arguments)

        monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SensorProblem, match=r"chmod a\+r .*energy_uj.*--watts cpu=W"):
        open_rapl(Clock(), tmp_path)


def test_amd_cards_are_found_by_their_pci_address(tmp_path: Path) -> None:
    card = tmp_path / "card1" / "device"
    (card / "hwmon" / "hwmon3").mkdir(parents=True)
    (card / "uevent").write_text("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0a:00.0\n")
    (card / "hwmon" / "hwmon3" / "power1_average").write_text("87000000\n")
    (tmp_path / "card1-HDMI-A-1").mkdir()
    meters = hwmon_meters(tmp_path)
    assert list(meters) == ["0000:0a:00.0"]
    assert meters["0000:0a:00.0"].watts() == 87.0


class FakeNvml(types.ModuleType):
    """NVIDIA's library as its Python binding shows it: three cards, one without a sensor, one that is lost."""

    class NVMLError(Exception):
        pass

    class PciInfo:
        def __init__(self, bus_id: bytes | str) -> None:
            self.busId = bus_id

    cards: ClassVar = [(b"00000000:01:00.0", 250_500), ("00000000:02:00.0", None), (None, 0)]
    started = 0

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self.cards[index][0] is None:
            raise self.NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> FakeNvml.PciInfo:
        return self.PciInfo(self.cards[handle][0] or "")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        milliwatts = self.cards[handle][1]
        if milliwatts is None:
            raise self.NVMLError("Not Supported")
        return milliwatts


def test_nvidia_cards_are_found_by_their_pci_address(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", library)
    meters = nvml_meters()
    assert {address: meter.watts() for address, meter in meters.items()} == {"0000:01:00.0": 250.5}
    library.cards = [(b"00000000:01:00.0", None)]
    assert meters["0000:01:00.0"].watts() is None


def test_without_nvidias_driver_there_are_no_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver(FakeNvml):
        def nvmlInit(self) -> None:
            raise self.NVMLError("Driver Not Loaded")

    monkeypatch.setitem(sys.modules, "pynvml", NoDriver("pynvml"))
    assert nvml_meters() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_meters() == {}

    class LostCards(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:
            raise self.NVMLError("Unknown Error")

    monkeypatch.setitem(sys.modules, "pynvml", LostCards("pynvml"))
    assert nvml_meters() == {}


@pytest.mark.parametrize("written", ["00000000:0A:00.0", "0000:0a:00.0", "0a:00.0", "A:0.0"])
def test_pci_addresses_are_one_however_written(written: str) -> None:
    assert normal_pci_address(written) == "0000:0a:00.0"


def test_sensors_devices_and_figures_together(tmp_path: Path) -> None:
    clock = Clock()
    counter = zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 0)
    options = EnergyOptions(watts={"asic1": 20.0}, tariff=0.30, currency="EUR")
    watch = monitor(options, clock, tmp_path, **{"0000_01_00x0": FixedMeter(250.0)})
    devices = [
        device("cpu0", "cpu", 30e6),
        device("cpu1", "cpu", 30e6),
        device("gpu0", "gpu", 3e9, path="00000000:01:00.0"),
        device("asic0", "asic", 0.6e12, watts=15.0),
        device("asic1", "asic", 0.4e12, watts=99.0),  # the user knows better than the board
        device("gpu1", "gpu", 1e9, path="0000:02:00.0"),  # nobody knows
    ]
    watch.sample(devices)
    clock.now += 10
    counter.write_text("650000000")
    watch.sample(devices)
    report = watch.report()
    assert report is not None
    assert {tuple(power.devices): (power.source, power.watts) for power in report.power} == {
        ("asic1",): ("given", 20.0),
        ("cpu0", "cpu1"): ("RAPL", pytest.approx(65.0)),
        ("gpu0",): ("NVML", 250.0),
        ("asic0",): ("device", 15.0),
    }
    assert report.watts == pytest.approx(350.0)
    assert not report.complete
    assert report.joules == pytest.approx(3500.0)
    assert report.joules_per_th == pytest.approx(350.0 / (60e6 + 3e9 + 1e12) * 1e12)
    assert report.cost_per_day == pytest.approx(0.35 * 24 * 0.30)
    assert report.problems == []


def test_unknown_means_absent(tmp_path: Path) -> None:
    watch = monitor(EnergyOptions(), Clock(), tmp_path)
    watch.sample([device("cpu0", "cpu")])
    assert watch.report() is None
    with_tariff = monitor(EnergyOptions(tariff=0.3), Clock(), tmp_path)
    with_tariff.sample([device("cpu0", "cpu")])
    report = with_tariff.report()
    assert report is not None
    assert (report.watts, report.joules_per_th, report.cost_per_day, report.complete) == (None, None, None, False)


def test_figures_hold_for_what_is_at_work(tmp_path: Path) -> None:
    devices = [device("cpu0", "cpu"), device("cpu1", "cpu", working=False), device("gpu0", "gpu", working=False)]
    by_kind = monitor(EnergyOptions(watts={"cpu": 60.0, "gpu0": 300.0}), Clock(), tmp_path)
    by_kind.sample(devices)
    report = by_kind.report()
    assert report is not None
    assert report.watts == 30.0
    whole = monitor(EnergyOptions(watts={"all": 90.0}), Clock(), tmp_path)
    whole.sample(devices)
    report = whole.report()
    assert report is not None
    assert report.watts == 30.0
    assert report.complete


def test_a_locked_sensor_is_a_problem_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise SensorProblem("locked")

    monkeypatch.setattr("miner.energy.monitor.open_rapl", locked)
    watch = monitor(EnergyOptions(), Clock(), tmp_path)
    for _ in range(3):
        watch.sample([device("cpu0", "cpu")])
    report = watch.report()
    assert report is not None
    assert report.problems == ["locked"]


def test_watts_of_the_command_line() -> None:
    assert parse_watts(["120"]) == {"all": 120.0}
    assert parse_watts(["cpu=65", "asic0=18.5"]) == {"cpu": 65.0, "asic0": 18.5}
    for wrong in (["cpu=much"], ["=5"], ["cpu=-1"], ["nan"], ["inf"], ["120", "cpu=65"]):
        with pytest.raises(UserError):
            parse_watts(wrong)


def test_the_outlook_is_a_probability() -> None:
    target = (1 << 224) - 1  # one hash in 2^32
    chances = outlook(target, 1000.0)
    assert chances is not None
    mean_s = 2**32 / 1000
    assert chances.mean_s == pytest.approx(mean_s)
    assert chances.median_s == pytest.approx(mean_s * math.log(2))
    assert chances.chances[30] == pytest.approx(1 - math.exp(-30 * 86400 / mean_s))
    assert chances.difficulty == pytest.approx(1.0, rel=1e-4)
    assert outlook(target, 0.0) is None


def test_the_outlook_in_words() -> None:
    target = 1 << 180
    rate = (1 << 256) / target / (3.1 * 365.25 * 86400 / math.log(2))  # a median of 3.1 years
    chances = outlook(target, rate)
    assert chances is not None
    assert describe(chances) == "a block in 3.1 years (median), 1.8 % within 30 days"
    quick = outlook((1 << 256) - 1, 1e6)
    assert quick is not None
    assert describe(quick) == "a block in less than a second (median)"
    assert [format_span(seconds) for seconds in (1, 90, 7200, 86400 * 2.5, 86400 * 365.25 * 1e9)] == [
        "1.0 second",
        "1.5 minutes",
        "2.0 hours",
        "2.5 days",
        "1.0e+09 years",
    ]
    assert format_chance(2e-30) == "1 in 5.0e+29"
    assert [format_chance(value) for value in (0.9999, 0.5, 0.026, 0.0006, 1e-5, 0.0)] == [
        "more than 99.9 %",
        "50 %",
        "2.6 %",
        "0.06 %",
        "1 in 100,000",
        "0 %",
    ]


@pytest.mark.parametrize("currency", ["E\nUR", "\x1b[2J", "\udcff"])
def test_a_currency_is_fit_for_screens_and_metrics(currency: str) -> None:
    with pytest.raises(UserError, match="write a name like EUR"):
        EnergyOptions(tariff=0.3, currency=currency)


@pytest.mark.parametrize(
    ("names", "unknown"),
    [(["all"], []), (["cpu", "gpu", "asic", "asic0"], []), (["cpu0", "cpus", "gpu7"], ["cpus", "gpu7"])],
)
def test_figures_for_devices_that_are_not_there_are_named(names: list[str], unknown: list[str]) -> None:
    remarks = figure_remarks(names, {"cpu0": "cpu", "asic0": "asic"})
    assert [remark.split(":")[0] for remark in remarks] == [f"watts of {name}" for name in unknown]
    assert all("asic0, cpu0" in remark for remark in remarks)
