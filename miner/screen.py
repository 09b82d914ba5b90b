"""What the user sees: a live table on a terminal, log lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from miner.device import DeviceDetails
from miner.energy.monitor import EnergyReport
from miner.energy.outlook import describe, format_span
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
_STATE_WIDTH = 8  # of that column, at least: its texts may break
_LONG_SHARE_S = 3600.0  # between two shares; then the screen says so
_FEWEST_MESSAGES = 2  # lines of them below a table; a terminal with less room gets no table


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
        """The whole screen for one moment: a table where the terminal has room for one, else lines; the counters; and
        as many of the last messages as fit below."""
        counters = Text("\n".join(_counter_lines(status)))
        lines = Text("\n".join(_device_lines(status)))
        devices: Table | Text = self._table(status) or lines
        if self._is_too_much(devices, counters):
            devices = lines
        if self._is_too_much(devices, counters):
            counters = Text(status_line(status))
        room = self._console.height - self._rows(devices) - self._rows(counters)
        messages: list[Text] = []
        for message in map(Text, reversed(self._messages)):
            room -= self._rows(message)
            if room < 0 and messages:
                break
            messages.insert(0, message)
        return Group(devices, counters, *messages)

    def _rows(self, shown: Table | Text) -> int:
        return len(self._console.render_lines(shown, pad=False))

    def _is_too_much(self, *parts: Table | Text) -> bool:
        return sum(map(self._rows, parts)) + _FEWEST_MESSAGES > self._console.height

    def _table(self, status: Status) -> Table | None:
        """With the columns that anyone has something to say in, and that fit; None where not even the first does."""
        columns = [column for column in _COLUMNS if any(column.text(device) for device in status.report.devices)]
        if self._console.width < _WIDE:
            columns = [column for column in columns if not column.wide_only]
        while columns:
            rows = self._device_rows(status, columns)
            headings = ["device", *(column.heading for column in columns)]
            widths = [max(map(cell_len, texts)) for texts in zip(headings, *rows, strict=True)]
            if sum(widths) + _STATE_WIDTH + 3 * len(widths) + 4 <= self._console.width:  # with frames and padding
                return self._table_of(status, columns, rows)
            columns.remove(max(columns, key=lambda column: column.rank))
        return None

    def _table_of(self, status: Status, columns: Sequence[_Column], rows: list[list[str]]) -> Table:
        devices = status.report.devices
        table = Table(title=Text(self._title), title_justify="left", title_style="bold")
        table.add_column("device", no_wrap=True)
        for column in columns:
            table.add_column(column.heading, justify="right", no_wrap=True)
        table.add_column("state")
        if self._has_room_for_each(status):
            states = [_state(device, status) for device in devices]
        else:
            states = [_states(of_kind) for _, of_kind in _by_kind(devices)]
        if len(devices) > 1:
            states.append(Text())
        for number, (row, state) in enumerate(zip(rows, states, strict=True)):
            if len(devices) > 1 and number == len(rows) - 1:
                table.add_section()
            table.add_row(*map(Text, row), state)
        return table

    def _device_rows(self, status: Status, columns: Sequence[_Column]) -> list[list[str]]:
        """All but the state: of each device, or each kind where there is no room for that; then of all together."""
        report = status.report
        if self._has_room_for_each(status):
            rows = [[device.name, *(column.text(device) for column in columns)] for device in report.devices]
        else:
            rows = [
                [f"{len(of_kind)} {kind}", *(_sums(of_kind).get(column.heading, "") for column in columns)]
                for kind, of_kind in _by_kind(report.devices)
            ]
        if len(report.devices) > 1:
            totals = {"hash rate": format_rate(report.rate), "average": format_rate(report.average)}
            rows.append(["all", *(totals.get(column.heading, "") for column in columns)])
        return rows

    def _has_room_for_each(self, status: Status) -> bool:
        report = status.report
        room = max(_FEWEST_ROWS, self._console.height - len(report.pools) - len(self._messages) - _OTHER_LINES)
        return len(report.devices) <= room


def _device_lines(status: Status) -> list[str]:
    """The devices where there is no room for a table."""
    devices = status.report.devices
    if len(devices) <= _FEWEST_ROWS:
        return [f"{device.name} {format_rate(device.rate)} {_state(device, status)}" for device in devices]
    return [
        f"{len(of_kind)} {kind} {format_rate(sum(device.rate for device in of_kind))} {_states(of_kind)}"
        for kind, of_kind in _by_kind(devices)
    ]


def _counter_lines(status: Status) -> list[str]:
    report = status.report
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
    return lines


def _by_kind(devices: Sequence[DeviceReport]) -> list[tuple[str, list[DeviceReport]]]:
    kinds = dict.fromkeys(device.kind for device in devices)
    return [(kind, [device for device in devices if device.kind == kind]) for kind in kinds]


@dataclass(frozen=True, slots=True)
class _Column:
    """One of the device table; shown where any device has something to say in it. `rank`: the highest goes first where
    the terminal has no room for all."""

    heading: str
    text: Callable[[DeviceReport], str]
    rank: int
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
    _Column("hash rate", lambda device: format_rate(device.rate), 0),
    _Column("average", lambda device: format_rate(device.average), 5, wide_only=True),
    _Column("shares", lambda device: str(device.shares), 4),
    _Column("errors", lambda device: str(device.hardware_errors), 1),
    _Column("hottest", _temperature, 2),
    _Column("fan", _from_details(_fans), 7, wide_only=True),
    _Column("power", _from_details(lambda details: "" if details.watts is None else f"{details.watts:.1f} W"), 3),
    _Column("energy", _efficiency, 6, wide_only=True),
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
    if pool.share_interval_s is not None and pool.share_interval_s > _LONG_SHARE_S:
        difficulty += f" (a share in {format_span(pool.share_interval_s)})"
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
