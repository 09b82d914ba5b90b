"""The picture of a run: rolling rates, the network, and the course of it in bounded memory."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from miner.energy.monitor import EnergyMonitor, EnergyOptions
from miner.history import History, Sample
from miner.kernels.reference import ReferenceDevice
from miner.status import StatusMonitor
from miner.telemetry import Telemetry
from tests.support.miner_status import board, status


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def monitor(clock: Clock, tmp_path: Path) -> tuple[StatusMonitor, Telemetry, ReferenceDevice]:
    device = ReferenceDevice("cpu0")
    telemetry = Telemetry([device], clock)
    energy = EnergyMonitor(EnergyOptions(watts={"all": 50.0}), clock, powercap=tmp_path, drm=tmp_path, nvml=dict)
    made = StatusMonitor(
        telemetry, energy, network="dev", version="1", clock=clock, wall_clock=lambda: 1000.0 + clock()
    )
    return made, telemetry, device


def test_rolling_rates_follow_at_their_own_pace(tmp_path: Path) -> None:
    clock = Clock()
    watch, telemetry, device = monitor(clock, tmp_path)

    async def mine(seconds: int, rate: int) -> None:
        for _ in range(seconds):
            clock.now += 1
            telemetry.worked(device, rate)
            await watch.sample()

    asyncio.run(mine(120, 1000))
    for name in ("cpu0", ""):
        assert watch.status().rolling[name] == pytest.approx(dict.fromkeys(("5s", "1m", "5m", "15m"), 1000.0))
    asyncio.run(mine(10, 3000))
    rolling = watch.status().rolling[""]
    assert 2600 < rolling["5s"] < 3000
    assert 1200 < rolling["1m"] < 1500
    assert 1000 < rolling["15m"] == rolling["5m"] < rolling["1m"]  # both windows are longer than the run
    assert watch.status().energy is not None
    assert watch.status().energy.joules == pytest.approx(50.0 * 129)  # type: ignore[union-attr]


def test_a_status_is_json_and_has_the_reports_fields(tmp_path: Path) -> None:
    watch, _, _ = monitor(Clock(), tmp_path)
    picture = json.loads(json.dumps(watch.status().as_dict()))
    assert {"accepted", "devices", "pools", "energy", "outlook", "network", "rolling", "idle"} <= picture.keys()
    assert picture["network"] == {
        "name": "dev",
        "height": None,
        "difficulty": None,
        "parent": None,
        "since_s": None,
        "node": None,
    }
    whole = json.loads(json.dumps(status([board()]).as_dict()))
    assert whole["devices"][0]["details"]["temperatures_c"] == {"chip": 61.5, "vr": 58.0}
    assert whole["outlook"]["chances"].keys() == {"1", "30", "365"}


def test_messages_are_kept_for_the_page(tmp_path: Path) -> None:
    clock = Clock()
    watch, _, _ = monitor(clock, tmp_path)
    for number in range(150):
        clock.now = float(number)
        watch.message(f"message {number}")
    messages = watch.history_as_dict()["messages"]
    assert len(messages) == 100
    assert messages[-1] == {"time": 1149.0, "text": "message 149"}


def sample(at_s: float, rate: float, watts: float | None = None, temperature_c: float | None = None) -> Sample:
    return Sample(at_s, rate, watts, temperature_c, int(at_s), 0)


def test_history_is_bounded_and_keeps_means_and_peaks(rng: random.Random) -> None:
    history = History(capacity=8)
    rates = [rng.random() for _ in range(1000)]
    for second, rate in enumerate(rates, 1):
        history.add(sample(float(second), rate, temperature_c=90.0 if second == 500 else 50.0))
        assert len(history.samples()) < 8
    samples = history.samples()
    assert history.interval_s == 128.0
    assert [entry.at_s for entry in samples] == [128.0 * number for number in range(1, 8)]
    assert samples[0].rate == pytest.approx(sum(rates[:128]) / 128)
    assert [entry.temperature_c for entry in samples] == [50.0, 50.0, 50.0, 90.0, 50.0, 50.0, 50.0]
    assert samples[1].watts is None
    assert samples[1].accepted == 256


def test_history_survives_pauses() -> None:
    history = History(capacity=4)
    for at_s in (1.0, 2.0, 500.0, 501.0, 502.0):
        history.add(sample(at_s, 1.0))
    assert [entry.at_s for entry in history.samples()][-1] >= 500.0
    with pytest.raises(ValueError, match="even"):
        History(capacity=3)
