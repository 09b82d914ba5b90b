"""What a run shows."""

from __future__ import annotations

import io

from rich.console import Console

from miner.kernels.reference import ReferenceDevice
from miner.screen import LiveDisplay, LogDisplay, format_difficulty, format_duration, pool_line, status_line, summary
from miner.telemetry import Telemetry
from miner.work.source import PoolReport


def counters() -> Telemetry:
    now = iter(float(second) for second in range(1000))
    devices = [ReferenceDevice("cpu0"), ReferenceDevice("cpu1")]
    telemetry = Telemetry(devices, clock=lambda: next(now))
    telemetry.new_job(7)
    telemetry.worked(devices[0], 5_000_000)
    telemetry.worked(devices[1], 1_000)
    telemetry.accepted()
    telemetry.stale()
    telemetry.rejected("high-hash")
    telemetry.rejected("high-hash")
    telemetry.failed(devices[1], "[bold]overheated")
    return telemetry


def test_live_screen_shows_every_device_and_count() -> None:
    console = Console(file=io.StringIO(), width=120, record=True)
    display = LiveDisplay(console, "title [/]")
    display.message("block 6 accepted: [x]")
    console.print(display.render(counters().report()))
    shown = console.export_text()
    for text in (
        "cpu0",
        "cpu1",
        "height 7",
        "accepted 1",
        "rejected 2",
        "stale 1",
        "[bold]overheated",
        "accepted: [x]",
    ):
        assert text in shown


def test_log_lines_and_summary() -> None:
    console = Console(file=io.StringIO(), width=40, record=True)
    LogDisplay(console).message("node [1] lost, and a line longer than the console is wide")
    assert "node [1] lost, and a line longer than the console is wide\n" in console.export_text()
    report = counters().report()
    assert "height 7, accepted 1, rejected 2, stale 1" in status_line(report)
    assert "mined 1 block in 0:00:" in summary(report)
    assert "rejected 2 times: high-hash" in summary(report)


def test_pools_are_listed_with_their_counts() -> None:
    telemetry = counters()
    pool = PoolReport(
        name="pool.example:3333",
        user="me",
        state="down: [no connection]",
        difficulty=512.0,
        accepted=3,
        accepted_difficulty=1536.0,
        stale=2,
        duplicates=1,
        malformed=0,
        bad_jobs=4,
        connections=1,
        rejected={"23 low difficulty": 5},
    )
    telemetry.pools = lambda: [pool]
    line = (
        "pool pool.example:3333 down: [no connection], difficulty 512: accepted 3, rejected 23 low difficulty 5,"
        " stale 2 duplicate 1 bad jobs 4"
    )
    assert pool_line(pool) == line
    text = summary(telemetry.report())
    assert "mined 1 share in" in text
    assert line in text
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(LiveDisplay(console, "title").render(telemetry.report()))
    assert line in console.export_text()


def test_numbers() -> None:
    assert format_duration(3725.9) == "1:02:05"
    assert [format_difficulty(value) for value in (0, 0.5, 1234, 5.5e13)] == ["0", "0.5", "1.23k", "55T"]
