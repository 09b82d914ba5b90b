"""What a run shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from miner.energy.monitor import EnergyReport
from miner.kernels.reference import ReferenceDevice
from miner.screen import LiveDisplay, LogDisplay, format_difficulty, format_duration, pool_line, status_line, summary
from miner.status import NetworkReport, Status
from miner.telemetry import Report, Telemetry
from miner.work.source import PoolReport
from tests.support.miner_status import board, core
from tests.support.miner_status import status as full_status


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


def bare(report: Report) -> Status:
    """The status of a run of which only the counters are known."""
    return Status("1", 0.0, NetworkReport("dev", report.height, None, None, None, None), report, None, None, None)


def test_live_screen_shows_every_device_and_count() -> None:
    console = Console(file=io.StringIO(), width=120, record=True)
    display = LiveDisplay(console, "title [/]")
    display.message("block 6 accepted: [x]")
    console.print(display.render(bare(counters().report())))
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
    status = bare(counters().report())
    assert "height 7, accepted 1, rejected 2, stale 1" in status_line(status)
    assert "mined 1 block in 0:00:" in summary(status)
    assert "rejected 2 times: high-hash" in summary(status)


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
    assert "difficulty 512 (a share in 1.2 hours): acc" in pool_line(replace(pool, share_interval_s=4320.0))
    assert pool_line(replace(pool, share_interval_s=60.0)) == line
    text = summary(bare(telemetry.report()))
    assert "mined 1 share in" in text
    assert line in text
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(LiveDisplay(console, "title").render(bare(telemetry.report())))
    assert line in console.export_text()


def shown(status: Status, width: int = 200, height: int = 40, messages: Sequence[str] = ()) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, record=True)
    display = LiveDisplay(console, "title")
    for message in messages:
        display.message(message)
    console.print(display.render(status))
    return console.export_text()


def test_what_boards_draw_and_how_warm_they_are() -> None:
    text = shown(full_status())
    for part in (
        "62 °C",
        "4200 rpm",
        "15.0 W",
        "15.0 J/TH",
        "running",
        "power 80.0 W   80.0 J/TH   0.58 EUR a day   (RAPL, device)",
        "at this rate a block in ",
    ):
        assert part in text
    assert "°C" not in shown(full_status([core()], []))
    assert "by shares" in shown(full_status(), 60)


def test_many_devices_are_summed_up_and_narrow_screens_get_less() -> None:
    boards = [board(f"asic{index}", failure="gone" if index == 3 else None) for index in range(64)]
    cores = [core(f"cpu{index}", paused=index < 2) for index in range(16)]
    text = shown(full_status([*cores, *boards]))
    assert "cpu0" not in text
    for part in (
        "16 cpu",
        "528.00 MH/s",
        "14 at work, 2 paused",
        "64 asic",
        "63 at work, 1 failed",
        "960.0 W",
        "62 °C",
    ):
        assert part in text
    narrow = shown(full_status(), 80)
    assert "average" not in narrow
    assert "asic0" in narrow
    assert "15.0 W" in narrow


@pytest.mark.parametrize("width", [1, 8, 20, 30, 40, 60, 80, 120])
def test_every_width_shows_the_devices_at_work(width: int) -> None:
    text = shown(full_status(), width, 60)
    assert max(map(len, text.splitlines())) <= width
    if width >= 20:
        assert "…" not in text
        for part in ("cpu0", "MH/s", "asic0", "1.00 TH/s", "mining", "running"):
            assert part in text
    assert ("┃" in text) is (width >= 40), "a table where one fits"
    assert ("hottest" in text) is (width >= 60)


def test_short_terminals_show_counters_and_the_last_messages() -> None:
    messages = [f"message {number}" for number in range(6)]
    for height in range(8, 30):
        text = shown(full_status(), 80, height, messages)
        assert len(text.splitlines()) <= height, height
        assert "accepted" in text
        assert "message 5" in text
    assert "message 0" not in shown(full_status(), 80, 14, messages)
    assert "message 0" in shown(full_status(), 80, 30, messages)
    assert "┃" not in shown(full_status(), 80, 10, messages)
    many = full_status([core(f"cpu{index}") for index in range(64)], [])
    assert "64 cpu 2.11 GH/s 64 at work" in shown(many, 80, 8)


def test_rest_pause_and_trouble() -> None:
    text = shown(full_status([core("cpu0", paused=True), board(paused=True)], idle="on battery"))
    assert "resting: on battery" in text
    assert "paused" in text
    energy = EnergyReport(9.0, False, 3.6e6, 2.5e7, None, "", [], ["the sensor is locked"])
    status = full_status([core()], energy=energy)
    assert "power 9.0 W (not all devices)   25 J/MH" in shown(status)
    assert "the sensor is locked" in shown(status)
    assert "1 kWh, not of all devices" in summary(status)
    assert status_line(status).endswith("9.0 W")


def test_numbers() -> None:
    assert format_duration(3725.9) == "1:02:05"
    assert [format_difficulty(value) for value in (0, 0.5, 1234, 5.5e13)] == ["0", "0.5", "1.23k", "55T"]
