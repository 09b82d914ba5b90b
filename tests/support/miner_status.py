"""A mining run's status without a run: what screens and APIs are tested on."""

from __future__ import annotations

from typing import Any

from miner.device import ChipDetails, DeviceDetails, FanDetails
from miner.energy.monitor import EnergyReport, PowerReport
from miner.energy.outlook import outlook
from miner.hashrate import RateEstimate
from miner.status import NetworkReport, Status
from miner.telemetry import DeviceReport, Report
from miner.work.source import PoolControl, PoolReport

PARENT = "00000000000000000001c0ffee" + "ab" * 19


def board(name: str = "asic0", **more: Any) -> DeviceReport:
    """A Bitaxe at work."""
    details = DeviceDetails(
        state="running",
        model="BM1370 × 1",
        path="/dev/ttyACM0",
        frequency_mhz=525.0,
        nominal_rate=1.07e12,
        watts=15.0,
        temperatures_c={"chip": 61.5, "vr": 58.0},
        voltages_v={"core": 1.15},
        currents_a={"core": 9.25},
        fans=(FanDetails("fan", 4200.0, 55.0),),
        chips=(ChipDetails(0, True, 1.0e12, 1.05e12, 2, 525.0, 61.5), ChipDetails(1, False)),
        counters={"crc_errors": 3, "resyncs": 1},
    )
    values: dict[str, Any] = {
        "name": name,
        "kind": "asic",
        "rate": 1.0e12,
        "average": 0.98e12,
        "hashes": 98 * 10**12,
        "shares": 20,
        "hardware_errors": 2,
        "failure": None,
        "accepted": 17,
        "rejected": 1,
        "accepted_difficulty": 17 * 512.0,
        "best_difficulty": 81234.5,
        "last_share_age_s": 4.0,
        "details": details,
    }
    return DeviceReport(**(values | more))


def core(name: str = "cpu0", **more: Any) -> DeviceReport:
    """One of the processor's."""
    values: dict[str, Any] = {
        "name": name,
        "kind": "cpu",
        "rate": 33e6,
        "average": 32e6,
        "hashes": 32 * 10**8,
        "shares": 0,
        "hardware_errors": 0,
        "failure": None,
    }
    return DeviceReport(**(values | more))


def pool(number: int = 0, **more: Any) -> PoolReport:
    """A pool in use."""
    values: dict[str, Any] = {
        "name": f"pool{number}.example:3333",
        "url": f"stratum+tcp://pool{number}.example:3333",
        "user": "me.rig1",
        "state": "mining" if number == 0 else "not tried yet",
        "difficulty": 512.0,
        "accepted": 17 if number == 0 else 0,
        "accepted_difficulty": 17 * 512.0 if number == 0 else 0.0,
        "rejected_difficulty": 512.0 if number == 0 else 0.0,
        "stale": 0,
        "duplicates": 0,
        "malformed": 0,
        "bad_jobs": 0,
        "connections": 1,
        "rejected": {"23 low difficulty": 1} if number == 0 else {},
        "number": number,
        "priority": number,
        "active": number == 0,
        "jobs": 9,
        "best_difficulty": 81234.5,
        "last_share_age_s": 4.0 if number == 0 else None,
    }
    return PoolReport(**(values | more))


def status(devices: list[DeviceReport] | None = None, pools: list[PoolReport] | None = None, **more: Any) -> Status:
    """Two cores and a board at a pool, after 100 seconds."""
    listed = [core("cpu0"), core("cpu1"), board()] if devices is None else devices
    rate = sum(device.rate for device in listed)
    hashes = sum(device.hashes for device in listed)
    report = Report(
        uptime_s=100.0,
        height=840_000,
        rate=rate,
        average=hashes / 100,
        hashes=hashes,
        estimate=RateEstimate(rate, rate * 0.6, rate * 1.5),
        accepted=17,
        rejected={"23 low difficulty": 1},
        stale=2,
        hardware_errors=2,
        best_difficulty=81234.5,
        devices=listed,
        pools=[pool(0), pool(1)] if pools is None else pools,
        blocks=0,
        jobs=9,
        accepted_difficulty=17 * 512.0,
        rejected_difficulty=512.0,
        stale_difficulty=1024.0,
        last_share_age_s=4.0,
    )
    values: dict[str, Any] = {
        "version": "0.1.0",
        "started": 1_700_000_000.0,
        "network": NetworkReport("bitcoin", 840_000, 83_148_355_189_239.0, PARENT, 12.0, None),
        "report": report,
        "energy": EnergyReport(
            watts=80.0,
            complete=True,
            joules=8000.0,
            joules_per_th=80.0 / rate * 1e12 if rate else None,
            cost_per_day=0.576,
            currency="EUR",
            power=[PowerReport(["cpu0", "cpu1"], "RAPL", 65.0), PowerReport(["asic0"], "device", 15.0)],
            problems=[],
        ),
        "outlook": outlook((0xFFFF << 208) // 83_148_355_189_239, rate),
        "idle": None,
        "rolling": {"": {"5s": rate, "1m": rate, "5m": rate, "15m": rate}},
    }
    return Status(**(values | more))


class RecordingControl:
    """A RunControl, and its pools, that write down what they are asked."""

    def __init__(self, with_pools: bool = True) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._with_pools = with_pools

    @property
    def pools(self) -> PoolControl | None:
        return self if self._with_pools else None

    def pause_device(self, name: str) -> None:
        self.asked.append(("pause", name))

    def resume_device(self, name: str) -> None:
        self.asked.append(("resume", name))

    def quit(self) -> None:
        self.asked.append(("quit",))

    def restart(self) -> None:
        self.asked.append(("restart",))

    def switch_pool(self, number: int) -> None:
        self.asked.append(("switch", number))

    def enable_pool(self, number: int) -> None:
        self.asked.append(("enable", number))

    def disable_pool(self, number: int) -> None:
        self.asked.append(("disable", number))

    def add_pool(self, url: str, user: str | None, password: str | None) -> int:
        self.asked.append(("add", url, user, password))
        return 2

    def remove_pool(self, number: int) -> None:
        self.asked.append(("remove", number))

    def order_pools(self, numbers: Any) -> None:
        self.asked.append(("order", *numbers))
