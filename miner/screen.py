"""What the user sees: a live table on a terminal, log lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from miner.device import DeviceDetails
from miner.energy.monitor import EnergyReport
from miner.energy.outlook import describe
from miner.hashrate import format_rate
from miner.status import Status, StatusMonitor, hottest
from miner.telemetry import DeviceReport
from miner.work.source import PoolReport

_REFRESH_S = 0.25
_LOG_INTERVAL_S = 30.0
_MESSAGES_SHOWN = 6
_WIDE = 100  # columns of a terminal that has room for everything
_OTHER_LINES = 12  # of the screen besides devices, pools and messages
_FEWEST_ROWS = 4


class Display(Protocol):
    """Where a run shows itself. All methods are called on the event loop."""

    def message(self, text: str) -> None:
        """One line: a block, a lost node, a failed device."""

    async def run(self, monitor: StatusMonitor) -> None:
        """Show the counters until cancelled."""


class LogDisplay:
    """Lines with a time: messages as they come, the hash rate now and then."""

    def __init__(self, console: Console, interval_s: float = _LOG_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s

    def message(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)

    async def run(self, monitor: StatusMonitor) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.message(status_line(monitor.status()))


class LiveDisplay:
    """A table redrawn in place, the last messages below it."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._messages: deque[str] = deque(maxlen=_MESSAGES_SHOWN)

    def message(self, text: str) -> None:
        self._messages.append(f"{time.strftime('%H:%M:%S')} {text}")

    async def run(self, monitor: StatusMonitor) -> None:
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            try:
                while True:
                    live.update(self.render(monitor.status()), refresh=True)
                    await asyncio.sleep(_REFRESH_S)
            finally:
                live.update(self.render(monitor.status()), refresh=True)

    def render(self, status: Status) -> Group:
        """The whole screen for one moment."""
        report = status.report
        table = Table(title=Text(self._title), title_justify="left", title_style="bold")
        columns = [column for column in _COLUMNS if any(column.text(device) for device in report.devices)]
        if self._console.width < _WIDE:
            columns = [column for column in columns if not column.wide_only]
        table.add_column("device")
        for column in columns:
            table.add_column(column.heading, justify="right")
        table.add_column("state")
        room = max(_FEWEST_ROWS, self._console.height - len(report.pools) - len(self._messages) - _OTHER_LINES)
        if len(report.devices) <= room:
            for device in report.devices:
                table.add_row(device.name, *(column.text(device) for column in columns), _state(device, status))
        else:
            for kind in dict.fromkeys(device.kind for device in report.devices):
                of_kind = [device for device in report.devices if device.kind == kind]
                sums = _sums(of_kind)
                table.add_row(
                    f"{len(of_kind)} {kind}", *(sums.get(column.heading, "") for column in columns), _states(of_kind)
                )
        if len(report.devices) > 1:
            table.add_section()
            totals = {"hash rate": format_rate(report.rate), "average": format_rate(report.average)}
            table.add_row("all", *(totals.get(column.heading, "") for column in columns), "")
        lines = [pool_line(pool) for pool in report.pools]
        lines += [
            f"height {report.height if report.height is not None else '-'}   accepted {report.accepted}"
            f"   rejected {sum(report.rejected.values())}   stale {report.stale}"
            f"   best share {format_difficulty(report.best_difficulty)}   up {format_duration(report.uptime_s)}",
        ]
        if report.estimate is not None:
            lines.append(
                f"by shares {format_rate(report.estimate.rate)}"
                f" (95 %: {format_rate(report.estimate.low)} to {format_rate(report.estimate.high)})"
            )
        if status.energy is not None:
            lines += energy_lines(status.energy)
        if status.outlook is not None:
            lines.append(f"at this rate {describe(status.outlook)}")
        return Group(table, Text("\n".join([*lines, *self._messages])))


@dataclass(frozen=True, slots=True)
class _Column:
    """One of the device table; shown where any device has something to say in it."""

    heading: str
    text: Callable[[DeviceReport], str]
    wide_only: bool = False


def _from_details(text: Callable[[DeviceDetails], str]) -> Callable[[DeviceReport], str]:
    return lambda device: "" if device.details is None else text(device.details)


def _temperature(device: DeviceReport) -> str:
    degrees = hottest(device)
    return "" if degrees is None else f"{degrees:.0f} °C"


def _fans(details: DeviceDetails) -> str:
    return ", ".join(f"{fan.rpm:.0f} rpm" for fan in details.fans if fan.rpm is not None)


def _efficiency(device: DeviceReport) -> str:
    watts = None if device.details is None else device.details.watts
    return format_efficiency(watts / device.rate * 1e12) if watts is not None and device.rate > 0 else ""


_COLUMNS = (
    _Column("hash rate", lambda device: format_rate(device.rate)),
    _Column("average", lambda device: format_rate(device.average), wide_only=True),
    _Column("shares", lambda device: str(device.shares)),
    _Column("errors", lambda device: str(device.hardware_errors)),
    _Column("hottest", _temperature),
    _Column("fan", _from_details(_fans), wide_only=True),
    _Column("power", _from_details(lambda details: "" if details.watts is None else f"{details.watts:.1f} W")),
    _Column("energy", _efficiency, wide_only=True),
)


def _sums(devices: Sequence[DeviceReport]) -> dict[str, str]:
    """One row for many devices, where the screen has no room for each."""
    temperatures = [degrees for device in devices if (degrees := hottest(device)) is not None]
    watts = [
        device.details.watts for device in devices if device.details is not None and device.details.watts is not None
    ]
    return {
        "hash rate": format_rate(sum(device.rate for device in devices)),
        "average": format_rate(sum(device.average for device in devices)),
        "shares": str(sum(device.shares for device in devices)),
        "errors": str(sum(device.hardware_errors for device in devices)),
        "hottest": f"{max(temperatures):.0f} °C" if temperatures else "",
        "power": f"{sum(watts):.1f} W" if watts else "",
    }


def _states(devices: Sequence[DeviceReport]) -> Text:
    failed = sum(device.failure is not None for device in devices)
    paused = sum(device.paused and device.failure is None for device in devices)
    counts = {"at work": len(devices) - failed - paused, "paused": paused, "failed": failed}
    return Text(", ".join(f"{count} {name}" for name, count in counts.items() if count), style="red" if failed else "")


def _state(device: DeviceReport, status: Status) -> Text:
    if device.failure:
        return Text(device.failure, style="red")
    if device.paused:
        return Text(f"resting: {status.idle}" if status.idle and device.kind == "cpu" else "paused", style="yellow")
    own = device.details.state if device.details is not None else ""
    return Text(own or ("mining" if status.report.height is not None else "waiting"))


def energy_lines(energy: EnergyReport) -> list[str]:
    """What is drawn, what it yields and costs, and what is wrong with the sensors."""
    lines = []
    if energy.watts is not None:
        parts = [f"power {energy.watts:.1f} W{'' if energy.complete else ' (not all devices)'}"]
        if energy.joules_per_th is not None:
            parts.append(format_efficiency(energy.joules_per_th))
        if energy.cost_per_day is not None:
            parts.append(f"{energy.cost_per_day:.2f} {energy.currency}".rstrip() + " a day")
        sources = dict.fromkeys(entry.source for entry in energy.power if entry.watts is not None)
        lines.append(f"{'   '.join(parts)}   ({', '.join(sources)})")
    return lines + energy.problems


def status_line(status: Status) -> str:
    """One line of counters."""
    report = status.report
    line = (
        f"{format_rate(report.rate)}, height {report.height if report.height is not None else '-'},"
        f" accepted {report.accepted}, rejected {sum(report.rejected.values())}, stale {report.stale},"
        f" best share {format_difficulty(report.best_difficulty)}, up {format_duration(report.uptime_s)}"
    )
    if status.energy is not None and status.energy.watts is not None:
        line += f", {status.energy.watts:.1f} W"
    return line


def pool_line(pool: PoolReport) -> str:
    """One pool's state and counters."""
    difficulty = "-" if pool.difficulty is None else format_difficulty(pool.difficulty)
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(pool.rejected.items())) or "0"
    line = f"pool {pool.name} {pool.state}, difficulty {difficulty}: accepted {pool.accepted}, rejected {rejected},"
    extras = {"duplicate": pool.duplicates, "malformed": pool.malformed, "bad jobs": pool.bad_jobs}
    return " ".join([f"{line} stale {pool.stale}", *(f"{name} {count}" for name, count in extras.items() if count)])


def summary(status: Status) -> str:
    """What a run came to, for its end."""
    report = status.report
    what = "share" if report.pools else "block"
    lines = [
        f"mined {report.accepted} {what}{'' if report.accepted == 1 else 's'} in {format_duration(report.uptime_s)}:"
        f" {report.hashes} hashes, {format_rate(report.average)} on average,"
        f" rejected {sum(report.rejected.values())}, stale {report.stale}, hardware errors {report.hardware_errors}"
    ]
    lines += [f"  rejected {count} times: {reason}" for reason, count in sorted(report.rejected.items())]
    lines += [f"  {pool_line(pool)}" for pool in report.pools]
    energy = status.energy
    if energy is not None and energy.joules > 0:
        lines.append(f"  {energy.joules / 3.6e6:.3g} kWh{'' if energy.complete else ', not of all devices'}")
    return "\n".join(lines)


def format_efficiency(joules_per_th: float) -> str:
    """Joules for 10^12 hashes; for 10^6 where that is the scale."""
    if joules_per_th >= 1e5:
        return f"{joules_per_th / 1e6:.3g} J/MH"
    return f"{joules_per_th:.1f} J/TH"


def format_difficulty(difficulty: float) -> str:
    """Difficulty with three significant digits and a unit."""
    for unit in ("", "k", "M", "G", "T"):
        if difficulty < 999.5:
            return f"{difficulty:.3g}{unit}"
        difficulty /= 1000
    return f"{difficulty:.3g}P"


def format_duration(seconds: float) -> str:
    """3725.0 is '1:02:05'."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
