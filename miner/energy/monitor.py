"""Watts by device, from whoever knows: the user, the device itself, or a sensor of the system; and what follows from
them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chain.primitives.errors import UserError
from miner.energy.gpu_power import DRM, hwmon_meters, normal_pci_address, nvml_meters
from miner.energy.rapl import POWERCAP, SensorProblem, open_rapl

ALL = "all"  #: the name of the figure that covers every device
_HOURS = 24.0
HIGHEST_TARIFF = 1e9  #: whatever the currency; beyond it sums are no numbers any more
_KINDS = ("cpu", "gpu", "asic")  # a figure for one is fine where there is none of it today


class Meter(Protocol):
    """A sensor. `watts`: now, None while it cannot say."""

    @property
    def source(self) -> str: ...

    def watts(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    """What the monitor wants to know of a device. `rate`: hashes a second; `watts`: by its own sensors; `path`: where
    it is connected, a graphics card's PCI address; `working`: neither paused nor retired."""

    name: str
    kind: str
    rate: float
    working: bool
    watts: float | None = None
    watts_estimated: bool = False
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyOptions:
    """`watts`: figures of the user's own, by device ("asic0"), by kind ("cpu": all of that kind together) or "all".
    `tariff`: price of a kilowatt-hour in `currency`."""

    watts: Mapping[str, float] = field(default_factory=dict)
    tariff: float | None = None
    currency: str = ""
    sensors: bool = True

    def __post_init__(self) -> None:
        if self.tariff is not None and not 0 <= self.tariff <= HIGHEST_TARIFF:
            raise UserError(f"--tariff {self.tariff:g}: the price of a kilowatt-hour is at most {HIGHEST_TARIFF:g}")
        if not self.currency.isprintable():  # it goes to screens and metrics as it is
            raise UserError(f"--currency {self.currency!a}: write a name like EUR")


@dataclass(frozen=True, slots=True)
class PowerReport:
    """What one source says of some devices together. `source`: "given", "device", "RAPL", "NVML", "hwmon"; `watts`:
    None while it cannot say."""

    devices: list[str]
    source: str
    watts: float | None


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """`watts`: of everything measured, None while nothing is; `complete`: every device at work is in it. `joules`:
    since the start. `joules_per_th`: watts by the rate of the devices that are measured. `problems`: why a sensor is
    not read, one line each."""

    watts: float | None
    complete: bool
    joules: float
    joules_per_th: float | None
    cost_per_day: float | None
    currency: str
    power: list[PowerReport]
    problems: list[str]


@dataclass(slots=True)
class _Group:
    devices: list[str]
    source: str
    watts: float | None


class EnergyMonitor:
    """Call `sample` every second or so; `report` is the last sample's.

    `powercap`, `drm`: where Linux keeps its sensors; `nvml`: the NVIDIA cards' meters by PCI address.
    """

    def __init__(
        self,
        options: EnergyOptions,
        clock: Callable[[], float] = time.monotonic,
        *,
        powercap: Path = POWERCAP,
        drm: Path = DRM,
        nvml: Callable[[], Mapping[str, Meter]] = nvml_meters,
    ) -> None:
        self._options = options
        self._clock = clock
        self._powercap = powercap
        self._drm = drm
        self._nvml = nvml
        self._problems: list[str] = []
        self._cpu: Meter | None = None
        self._gpus: Mapping[str, Meter] | None = None
        self._looked_for_cpu = False
        self._sampled_at: float | None = None
        self._joules = 0.0
        self._last = EnergyReport(None, False, 0.0, None, None, options.currency, [], [])

    def report(self) -> EnergyReport | None:
        """None while nothing about energy is known or wanted."""
        known = self._last.power or self._last.problems or self._options.tariff is not None
        return self._last if known else None

    def sample(self, devices: Sequence[MeasuredDevice]) -> None:
        """Read every source once."""
        groups = self._groups([device for device in devices if device.working], devices)
        known = [group for group in groups if group.watts is not None]
        watts = sum(group.watts for group in known if group.watts is not None) if known else None
        now = self._clock()
        if watts is not None and self._sampled_at is not None:
            self._joules += watts * (now - self._sampled_at)
        self._sampled_at = now
        measured = {name for group in known for name in group.devices}
        rate = sum(device.rate for device in devices if device.name in measured)
        tariff = self._options.tariff
        self._last = EnergyReport(
            watts=watts,
            complete=all(device.name in measured for device in devices if device.working),
            joules=self._joules,
            joules_per_th=watts / rate * 1e12 if watts is not None and rate > 0 else None,
            cost_per_day=watts * _HOURS / 1000 * tariff if watts is not None and tariff is not None else None,
            currency=self._options.currency,
            power=[PowerReport(group.devices, group.source, group.watts) for group in groups],
            problems=list(self._problems),
        )

    def _groups(self, working: Sequence[MeasuredDevice], devices: Sequence[MeasuredDevice]) -> list[_Group]:
        given = self._options.watts
        if ALL in given:
            share = len(working) / len(devices) if devices else 0.0
            return [_Group([device.name for device in devices], "given", given[ALL] * share)]
        groups = [
            _Group([device.name], "given", given[device.name] if device.working else 0.0)
            for device in devices
            if device.name in given
        ]
        left = [device for device in devices if device.name not in given]
        for kind in dict.fromkeys(device.kind for device in left):
            of_kind = [device for device in left if device.kind == kind]
            if kind in given:
                share = sum(device.working for device in of_kind) / len(of_kind)
                groups.append(_Group([device.name for device in of_kind], "given", given[kind] * share))
            elif kind == "cpu":
                groups += self._cpu_group(of_kind)
            else:
                groups += [group for device in of_kind for group in self._device_group(device)]
        return groups

    def _cpu_group(self, devices: Sequence[MeasuredDevice]) -> list[_Group]:
        if not self._looked_for_cpu and self._options.sensors:
            self._looked_for_cpu = True
            try:
                self._cpu = open_rapl(self._clock, self._powercap)
            except SensorProblem as problem:
                self._problems.append(str(problem))
        if self._cpu is None:
            return []
        return [_Group([device.name for device in devices], self._cpu.source, self._cpu.watts())]

    def _device_group(self, device: MeasuredDevice) -> list[_Group]:
        if device.watts is not None:
            return [_Group([device.name], "estimate" if device.watts_estimated else "device", device.watts)]
        if device.kind != "gpu" or device.path is None or not self._options.sensors:
            return []
        if self._gpus is None:
            self._gpus = {**hwmon_meters(self._drm), **self._nvml()}
        meter = self._gpus.get(normal_pci_address(device.path))
        return [] if meter is None else [_Group([device.name], meter.source, meter.watts())]


def parse_watts(texts: Sequence[str]) -> dict[str, float]:
    """Read figures as the command line takes them: '120' for everything, 'cpu=65', 'asic0=18.5'. Raises UserError."""
    figures: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            watts = float(number)
        except ValueError:
            watts = -1.0
        if not 0 <= watts < 1e9 or ("=" in text and not name):
            raise UserError(f"--watts {text}: write it like --watts 120, --watts cpu=65 or --watts asic0=18.5")
        figures[name or ALL] = watts
    return check_figures(figures)


def check_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """UserError where figures would count something twice."""
    if ALL in figures and len(figures) > 1:
        raise UserError("watts of everything and of single devices do not go together: give one or the other")
    return dict(figures)


def figure_remarks(names: Iterable[str], devices: Mapping[str, str]) -> list[str]:
    """A line for each figure that stands for nothing. `devices`: kinds by name."""
    there = ", ".join(sorted(devices)[:8]) + (", …" if len(devices) > 8 else "")
    return [
        f"watts of {name}: there is no device or kind of that name to count them for; there are {there}"
        for name in names
        if name != ALL and name not in _KINDS and name not in devices
    ]
