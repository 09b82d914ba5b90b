"""What the user sees: a live table on a terminal, log lines anywhere else."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from miner.hashrate import format_rate
from miner.telemetry import Report, Telemetry
from miner.work.source import PoolReport

_REFRESH_S = 0.25
_LOG_INTERVAL_S = 30.0
_MESSAGES_SHOWN = 6


class Display(Protocol):
    """Where a run shows itself. All methods are called on the event loop."""

    def message(self, text: str) -> None:
        """One line: a block, a lost node, a failed device."""

    async def run(self, telemetry: Telemetry) -> None:
        """Show the counters until cancelled."""


class LogDisplay:
    """Lines with a time: messages as they come, the hash rate now and then."""

    def __init__(self, console: Console, interval_s: float = _LOG_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s

    def message(self, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)

    async def run(self, telemetry: Telemetry) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.message(status_line(telemetry.report()))


class LiveDisplay:
    """A table redrawn in place, the last messages below it."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._messages: deque[str] = deque(maxlen=_MESSAGES_SHOWN)

    def message(self, text: str) -> None:
        self._messages.append(f"{time.strftime('%H:%M:%S')} {text}")

    async def run(self, telemetry: Telemetry) -> None:
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            try:
                while True:
                    live.update(self.render(telemetry.report()), refresh=True)
                    await asyncio.sleep(_REFRESH_S)
            finally:
                live.update(self.render(telemetry.report()), refresh=True)

    def render(self, report: Report) -> Group:
        """The whole screen for one moment."""
        table = Table(title=Text(self._title), title_justify="left", title_style="bold")
        table.add_column("device")
        for heading in ("hash rate", "average", "shares", "errors"):
            table.add_column(heading, justify="right")
        table.add_column("state")
        for device in report.devices:
            table.add_row(
                device.name,
                format_rate(device.rate),
                format_rate(device.average),
                str(device.shares),
                str(device.hardware_errors),
                Text(device.failure, style="red")
                if device.failure
                else "mining"
                if report.height is not None
                else "waiting",
            )
        if len(report.devices) > 1:
            table.add_section()
            table.add_row("all", format_rate(report.rate), format_rate(report.average), "", "", "")
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
        return Group(table, Text("\n".join([*lines, *self._messages])))


def status_line(report: Report) -> str:
    """One line of counters."""
    return (
        f"{format_rate(report.rate)}, height {report.height if report.height is not None else '-'},"
        f" accepted {report.accepted}, rejected {sum(report.rejected.values())}, stale {report.stale},"
        f" best share {format_difficulty(report.best_difficulty)}, up {format_duration(report.uptime_s)}"
    )


def pool_line(pool: PoolReport) -> str:
    """One pool's state and counters."""
    difficulty = "-" if pool.difficulty is None else format_difficulty(pool.difficulty)
    rejected = ", ".join(f"{reason} {count}" for reason, count in sorted(pool.rejected.items())) or "0"
    line = f"pool {pool.name} {pool.state}, difficulty {difficulty}: accepted {pool.accepted}, rejected {rejected},"
    extras = {"duplicate": pool.duplicates, "malformed": pool.malformed, "bad jobs": pool.bad_jobs}
    return " ".join([f"{line} stale {pool.stale}", *(f"{name} {count}" for name, count in extras.items() if count)])


def summary(report: Report) -> str:
    """What a run came to, for its end."""
    what = "share" if report.pools else "block"
    lines = [
        f"mined {report.accepted} {what}{'' if report.accepted == 1 else 's'} in {format_duration(report.uptime_s)}:"
        f" {report.hashes} hashes, {format_rate(report.average)} on average,"
        f" rejected {sum(report.rejected.values())}, stale {report.stale}, hardware errors {report.hardware_errors}"
    ]
    lines += [f"  rejected {count} times: {reason}" for reason, count in sorted(report.rejected.items())]
    lines += [f"  {pool_line(pool)}" for pool in report.pools]
    return "\n".join(lines)


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
