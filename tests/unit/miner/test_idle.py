"""Idle mode: the lowest class, and rest while others need the processor or the battery."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from miner.cpu.device import CpuDevice
from miner.cpu.idle import IdleWatch, OthersLoad, lowest_priority, on_battery, watch_idle
from miner.cpu.tuner import tuned


def supply(root: Path, name: str, **files: str) -> None:
    folder = root / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(f"{text}\n")


def test_rests_under_load_and_goes_on_when_it_has_been_quiet() -> None:
    watch = IdleWatch(25.0)
    answers = [watch.update(load, False, float(now)) for now, load in enumerate([80, 80, 80])]
    assert answers == [None, None, "other programs use 80 % of the processor"]
    quiet = [watch.update(2.0, False, 3.0 + second) for second in range(14)]
    assert [answer is None for answer in quiet] == [False] * 12 + [True] * 2  # the mean needs two of the seconds


def test_one_busy_second_is_nothing_and_a_half_quiet_one_no_rest() -> None:
    watch = IdleWatch(50.0)
    assert [watch.update(load, False, float(now)) for now, load in enumerate([0, 100, 0, 0, 100, 0])] == [None] * 6
    for now in range(10, 14):
        watch.update(90.0, False, float(now))
    for now in range(14, 60):  # above half of the limit it is not quiet
        assert watch.update(30.0, False, float(now)) is not None


def test_battery_is_at_once() -> None:
    watch = IdleWatch(25.0)
    assert watch.update(0.0, True, 0.0) == "on battery"
    assert watch.update(0.0, False, 1.0) == "on battery"
    assert watch.update(0.0, False, 11.0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_power_supplies(tmp_path: Path) -> None:
    assert not on_battery(tmp_path)
    supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging")
    assert not on_battery(tmp_path)
    supply(tmp_path, "BAT0", type="Battery", status="Discharging")
    assert on_battery(tmp_path)
    supply(tmp_path, "AC", type="Mains", online="1")
    assert not on_battery(tmp_path)
    (tmp_path / "AC" / "online").write_text("0\n")
    assert on_battery(tmp_path)
    (tmp_path / "BAT0" / "status").write_text("Full\n")
    assert not on_battery(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes of Linux")
def test_only_the_device_thread_is_lowered() -> None:
    choice = tuned()
    found: list[tuple[int, int]] = []

    def run(yielding: bool) -> None:
        device = CpuDevice("cpu0", choice.variant, 1, yielding=yielding)
        device.open()
        found.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    for yielding in (True, False):
        thread = threading.Thread(target=run, args=(yielding,))
        thread.start()
        thread.join()
    own = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [(os.SCHED_IDLE, 19), own]
    assert own[0] != os.SCHED_IDLE


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes of Linux")
def test_lowering_twice_is_fine() -> None:
    found: list[tuple[int, int]] = []

    def run() -> None:
        for _ in range(2):
            lowest_priority()
            found.append((os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(os.SCHED_IDLE, 19)] * 2


def test_what_others_do_counts_and_our_own_work_does_not() -> None:
    load = OthersLoad()
    burn_until = time.process_time() + 0.3
    while time.process_time() < burn_until:
        pass
    load()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    measured = load() / 100 * (time.perf_counter() - began) * (os.cpu_count() or 1)
    assert measured > 0.3  # seconds of processor, of the child's 0.5 and whatever else ran
    assert 0.0 <= load() <= 100.0


def test_changes_are_told_once_each() -> None:
    asked = itertools.count()
    told: list[str | None] = []

    async def run() -> None:
        enough = asyncio.Event()

        def load() -> float:
            number = next(asked)
            if number == 500:
                enough.set()
            return 90.0 if number < 5 else 0.0

        task = asyncio.create_task(watch_idle(25.0, told.append, load=load, battery=lambda: False, interval_s=0.0))
        await asyncio.wait_for(enough.wait(), 60)
        task.cancel()

    asyncio.run(run())
    assert told == ["other programs use 90 % of the processor"]  # ten quiet seconds have not passed
