"""A run's status in the words of cgminer: its sections, its field names, its units.

cgminer knows two kinds of device. Boards are its ASCs; processors and graphics cards, which it no longer drives, appear
as PGAs, as other miners show them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from miner.api.cgminer.wire import Fixed, Record, Value
from miner.device import DeviceDetails
from miner.status import TOTAL, Status, hottest
from miner.telemetry import DeviceReport, Report
from miner.work.source import PoolReport

API_VERSION = "3.7"
SPOKEN_VERSION = "4.12.0"  #: the cgminer whose API this is: tools choose their parser by it
_MEGA = 1e6
_DIFF1 = 2**32
_DRIVER_NAMES = {"cpu": "CPU", "gpu": "OCL", "asic": "ASC"}
_SYSTEMS = {"linux": "Linux", "darwin": "Apple", "win32": "Windows"}


def boards(status: Status) -> list[DeviceReport]:
    """The ASCs, in the order of their numbers."""
    return [device for device in status.report.devices if device.kind == "asic"]


def others(status: Status) -> list[DeviceReport]:
    """The PGAs, in the order of their numbers."""
    return [device for device in status.report.devices if device.kind != "asic"]


def all_devices(status: Status) -> list[DeviceReport]:
    """ASCs, then PGAs, as `devs` lists them."""
    return boards(status) + others(status)


def pools(status: Status) -> list[PoolReport]:
    """The pools; mining on a node, that node in the place of one."""
    report = status.report
    if report.pools or status.network.node is None:
        return report.pools
    return [
        PoolReport(
            name=status.network.node,
            url=status.network.node,
            user="",
            state="mining" if report.height is not None else "down",
            difficulty=status.network.difficulty,
            accepted=report.accepted,
            accepted_difficulty=report.accepted_difficulty,
            rejected_difficulty=report.rejected_difficulty,
            stale_difficulty=report.stale_difficulty,
            stale=report.stale,
            duplicates=report.duplicates,
            malformed=0,
            bad_jobs=0,
            connections=1,
            rejected=report.rejected,
            active=report.height is not None,
            jobs=report.jobs,
            best_difficulty=report.best_difficulty,
            last_share_age_s=report.last_share_age_s if report.accepted else None,
        )
    ]


def version(status: Status) -> Record:
    return {"CGMiner": SPOKEN_VERSION, "API": API_VERSION, "Miner": f"pickaxe {status.version}"}


def config(status: Status) -> Record:
    kinds = dict.fromkeys(_DRIVER_NAMES.get(device.kind, "REF") for device in all_devices(status))
    return {
        "ASC Count": len(boards(status)),
        "PGA Count": len(others(status)),
        "Pool Count": len(pools(status)),
        "Strategy": "Failover",
        "Log Interval": 5,
        "Device Code": "".join(f"{kind} " for kind in kinds),
        "OS": _SYSTEMS.get(sys.platform, "Unix"),
        "Hotplug": "None",
    }


def summary(status: Status, when: int) -> Record:
    report = status.report
    minutes = max(report.uptime_s, 1.0) / 60
    rejected = sum(report.rejected.values())
    work = report.hashes / _DIFF1
    return {
        "Elapsed": int(report.uptime_s),
        **_rates(report.average, status.rolling.get(TOTAL, {}), report.rate),
        "Found Blocks": report.blocks,
        "Getworks": report.jobs,
        "Accepted": report.accepted,
        "Rejected": rejected,
        "Hardware Errors": report.hardware_errors,
        "Utility": Fixed(report.accepted / minutes),
        "Discarded": report.duplicates,
        "Stale": report.stale,
        "Get Failures": 0,
        "Local Work": report.jobs,
        "Remote Failures": 0,
        "Network Blocks": report.jobs if not report.pools else 0,
        "Total MH": Fixed(report.hashes / _MEGA, 4),
        "Work Utility": Fixed(work / minutes),
        "Difficulty Accepted": Fixed(report.accepted_difficulty, 8),
        "Difficulty Rejected": Fixed(report.rejected_difficulty, 8),
        "Difficulty Stale": Fixed(report.stale_difficulty, 8),
        "Best Share": int(report.best_difficulty),
        "Device Hardware%": _error_percent(*report.devices),
        "Device Rejected%": _percent(report.rejected_difficulty, work),
        "Pool Rejected%": _percent(report.rejected_difficulty, _answered(report)),
        "Pool Stale%": _percent(report.stale_difficulty, _answered(report)),
        "Last getwork": when,
    }


def device(status: Status, report: DeviceReport, when: int) -> Record:
    """One line of `devs`, `asc` and `pga`."""
    is_board = report.kind == "asic"
    siblings = boards(status) if is_board else others(status)
    number = [sibling.name for sibling in siblings].index(report.name)
    details = report.details or DeviceDetails()
    elapsed = max(status.report.uptime_s, 1.0)
    last = 0 if report.last_share_age_s is None else int(when - report.last_share_age_s)
    answered = report.accepted + report.rejected
    active = next((pool.number for pool in pools(status) if pool.active), 0)
    work = report.hashes / _DIFF1
    worth = report.accepted_difficulty / report.accepted if report.accepted else 0.0
    record: dict[str, Value] = {
        "ASC" if is_board else "PGA": number,
        "Name": _DRIVER_NAMES.get(report.kind, "REF"),
        "ID": _device_id(status, report),
        "Enabled": "N" if report.paused else "Y",
        "Status": "Dead" if report.failure is not None else "Alive",
        "Temperature": Fixed(hottest(report) or 0.0),
        **_rates(report.average, status.rolling.get(report.name, {}), report.rate),
        "Accepted": report.accepted,
        "Rejected": report.rejected,
        "Hardware Errors": report.hardware_errors,
        "Utility": Fixed(report.accepted / elapsed * 60),
        "Last Share Pool": active if answered else -1,
        "Last Share Time": last if answered else 0,
        "Total MH": Fixed(report.hashes / _MEGA, 4),
    }
    if not is_board:
        record["Frequency"] = Fixed(details.frequency_mhz or 0.0)
    return record | {
        "Diff1 Work": round(work),
        "Difficulty Accepted": Fixed(report.accepted_difficulty, 8),
        "Difficulty Rejected": Fixed(worth * report.rejected, 8),
        "Last Share Difficulty": Fixed(worth, 8),
        "No Device": report.failure is not None,
        "Last Valid Work": last,
        "Device Hardware%": _error_percent(report),
        "Device Rejected%": _percent(report.rejected, answered),
        "Device Elapsed": int(status.report.uptime_s),
    }


def pool(status: Status, report: PoolReport, when: int) -> Record:
    """One line of `pools`."""
    is_node = not status.report.pools
    answered = _answered(report)
    alive = report.active or report.state in ("mining", "spare")
    difficulty = report.difficulty or 0.0
    worth = report.accepted_difficulty / report.accepted if report.accepted else 0.0
    return {
        "POOL": report.number,
        "URL": report.url or report.name,
        "Status": "Disabled" if not report.enabled else "Alive" if alive else "Dead",
        "Priority": report.priority,
        "Quota": 1,
        "Long Poll": "Y" if is_node else "N",
        "Getworks": report.jobs,
        "Accepted": report.accepted,
        "Rejected": sum(report.rejected.values()),
        "Works": report.jobs,
        "Discarded": report.duplicates,
        "Stale": report.stale,
        "Get Failures": report.malformed,
        "Remote Failures": max(0, report.connections - 1),
        "User": report.user,
        "Last Share Time": 0 if report.last_share_age_s is None else int(when - report.last_share_age_s),
        "Diff1 Shares": round(answered),
        "Proxy Type": "",
        "Proxy": "",
        "Difficulty Accepted": Fixed(report.accepted_difficulty, 8),
        "Difficulty Rejected": Fixed(report.rejected_difficulty, 8),
        "Difficulty Stale": Fixed(report.stale_difficulty, 8),
        "Last Share Difficulty": Fixed(worth, 8),
        "Work Difficulty": Fixed(difficulty, 8),
        "Has Stratum": not is_node,
        "Stratum Active": report.active and not is_node,
        "Stratum URL": (report.url or report.name) if report.active and not is_node else "",
        "Stratum Difficulty": Fixed(difficulty if report.active and not is_node else 0.0, 8),
        "Has Vmask": True,
        "Has GBT": is_node,
        "Best Share": int(report.best_difficulty),
        "Pool Rejected%": _percent(report.rejected_difficulty, answered),
        "Pool Stale%": _percent(report.stale_difficulty, answered),
        "Bad Work": report.bad_jobs,
        "Current Block Height": (status.network.height or 0) if report.active else 0,
        "Current Block Version": 0x20000000,
    }


def details(status: Status, number: int, report: DeviceReport) -> Record:
    """One line of `devdetails`."""
    known = report.details or DeviceDetails()
    return {
        "DEVDETAILS": number,
        "Name": _DRIVER_NAMES.get(report.kind, "REF"),
        "ID": _device_id(status, report),
        "Driver": report.kind,
        "Kernel": "",
        "Model": known.model or "",
        "Device Path": known.path or "",
    }


def notify(status: Status, number: int, report: DeviceReport, when: int) -> Record:
    """One line of `notify`: what has gone wrong with a device."""
    failed = report.failure is not None
    counters = report.details.counters if report.details is not None else {}
    comms = sum(counters.get(name, 0) for name in ("crc_errors", "resyncs"))
    hot = failed and "°C" in (report.failure or "")
    return {
        "NOTIFY": number,
        "Name": _DRIVER_NAMES.get(report.kind, "REF"),
        "ID": _device_id(status, report),
        "Last Well": 0 if failed else when,
        "Last Not Well": when if failed else 0,
        "Reason Not Well": "None" if not failed else "Device Thermal Cutoff" if hot else "Device Sick",
        "*Thread Fail Init": 0,
        "*Thread Zero Hash": 0,
        "*Thread Fail Queue": 0,
        "*Dev Sick Idle 60s": 0,
        "*Dev Dead Idle 600s": int(failed and not hot),
        "*Dev Nostart": 0,
        "*Dev Over Heat": 0,
        "*Dev Thermal Cutoff": int(hot),
        "*Dev Comms Error": comms,
        "*Dev Throttle": counters.get("throttled", 0),
    }


def stats(status: Status, enabled_only: bool) -> list[Record]:
    """`stats` and `estats`: each device with whatever it knows of itself, then each pool."""
    elapsed = int(status.report.uptime_s)
    records: list[Record] = []
    for report in all_devices(status):
        if enabled_only and (report.paused or report.failure is not None):
            continue
        name = f"{_DRIVER_NAMES.get(report.kind, 'REF')}{_device_id(status, report)}"
        records.append(_stats_head(len(records), name, elapsed) | _sensors(report))
    if not enabled_only:
        for report_of_pool in pools(status):
            head = _stats_head(len(records), f"POOL{report_of_pool.number}", elapsed)
            records.append(
                head
                | {
                    "Pool Calls": report_of_pool.jobs,
                    "Pool Attempts": report_of_pool.connections,
                    "Work Diff": Fixed(report_of_pool.difficulty or 0.0, 8),
                }
            )
    return records


def coin(status: Status, when: int) -> Record:
    network = status.network
    return {
        "Hash Method": "sha256",
        "Current Block Time": Fixed(0.0 if network.since_s is None else when - network.since_s, 6),
        "Current Block Hash": network.parent or "",
        "LP": network.node is not None,
        "Network Difficulty": Fixed(network.difficulty or 0.0, 8),
    }


def lcd(status: Status, when: int) -> Record:
    report = status.report
    rolling = status.rolling.get(TOTAL, {})
    last = 0 if report.last_share_age_s is None else int(when - report.last_share_age_s)
    listed = pools(status)
    current = next((entry for entry in listed if entry.active), None)
    temperatures = [hottest(entry) or 0.0 for entry in report.devices]
    worth = report.accepted_difficulty / report.accepted if report.accepted else 0.0
    return {
        "Elapsed": int(report.uptime_s),
        "GHS av": Fixed(report.average / 1e9),
        "GHS 5m": Fixed(rolling.get("5m", report.rate) / 1e9),
        "GHS 5s": Fixed(rolling.get("5s", report.rate) / 1e9),
        "Temperature": Fixed(max(temperatures, default=0.0)),
        "Last Share Difficulty": Fixed(worth, 8),
        "Last Share Time": last,
        "Best Share": int(report.best_difficulty),
        "Last Valid Work": last,
        "Found Blocks": report.blocks,
        "Current Pool": "none" if current is None else current.url or current.name,
        "User": "" if current is None else current.user,
    }


def _rates(average: float, rolling: dict[str, float], rate: float) -> dict[str, Value]:
    """MHS in all the windows that cgminer knows."""
    return {
        "MHS av": Fixed(average / _MEGA),
        **{f"MHS {window}": Fixed(rolling.get(window, rate) / _MEGA) for window in ("5s", "1m", "5m", "15m")},
    }


def _percent(part: float, whole: float) -> Fixed:
    return Fixed(part / whole * 100 if whole > 0 else 0.0, 4)


def _error_percent(*devices: DeviceReport) -> Fixed:
    """Wrong nonces in percent of all, each worth as much work as a good one: a board reports only hashes of its ticket
    difficulty."""
    wrong = work = 0.0
    for device in devices:
        done = device.hashes / _DIFF1
        good = device.details.counters.get("good", 0) if device.details is not None else 0
        wrong += device.hardware_errors * (max(done / good, 1.0) if good else 1.0)
        work += done
    return _percent(wrong, wrong + work)


def _answered(report: Report | PoolReport) -> float:
    return report.accepted_difficulty + report.rejected_difficulty + report.stale_difficulty


def _device_id(status: Status, report: DeviceReport) -> int:
    """Its number among those of its kind."""
    same: Sequence[DeviceReport] = [entry for entry in status.report.devices if entry.kind == report.kind]
    return [entry.name for entry in same].index(report.name)


def _stats_head(number: int, name: str, elapsed: int) -> dict[str, Value]:
    return {
        "STATS": number,
        "ID": name,
        "Elapsed": elapsed,
        "Calls": 0,
        "Wait": Fixed(0.0, 6),
        "Max": Fixed(0.0, 6),
        "Min": Fixed(99999999.0, 6),
    }


def _sensors(report: DeviceReport) -> dict[str, Value]:
    known = report.details
    if known is None:
        return {}
    values: dict[str, Value] = {"State": known.state}
    if known.frequency_mhz is not None:
        values["Frequency"] = Fixed(known.frequency_mhz)
    if known.nominal_rate is not None:
        values["Nominal MHS"] = Fixed(known.nominal_rate / _MEGA)
    if known.watts is not None:
        values["Power"] = Fixed(known.watts)
    values |= {f"Temp {name}": Fixed(value) for name, value in known.temperatures_c.items()}
    values |= {f"Voltage {name}": Fixed(value, 3) for name, value in known.voltages_v.items()}
    values |= {f"Current {name}": Fixed(value, 3) for name, value in known.currents_a.items()}
    for fan in known.fans:
        if fan.rpm is not None:
            values[f"Fan {fan.name}"] = round(fan.rpm)
        if fan.percent is not None:
            values[f"Fan% {fan.name}"] = Fixed(fan.percent)
    values |= {f"Count {name}": value for name, value in known.counters.items()}
    if known.chips:
        values["Chips"] = len(known.chips)
        for chip in known.chips:
            rate = chip.by_counter if chip.by_counter is not None else chip.by_nonces
            values[f"Chip {chip.index}"] = "dead" if not chip.alive else f"{(rate or 0.0) / 1e9:.1f} GH/s"
            values[f"Chip {chip.index} errors"] = chip.errors
    return values
