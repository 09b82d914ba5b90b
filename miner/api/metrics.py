"""A run's status as Prometheus metrics; docs/miner-api.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from miner.status import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DEVICE = ["device", "kind"]
_POOL = ["pool", "number"]  # two workers may stand at one pool


class StatusCollector(Collector):
    """Reads the status anew for every scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Nothing in advance: what is unknown is absent."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric with a value."""
        status = self._status()
        yield from _run(status)
        yield from _devices(status)
        yield from _pools(status)
        yield from _energy(status)


def render(status: Callable[[], Status]) -> bytes:
    """The exposition text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status))
    return generate_latest(registry)


def _run(status: Status) -> Iterator[Metric]:
    report, network = status.report, status.network
    yield _gauge("pickaxe_miner_info", "Always 1.", 1.0, {"version": status.version, "network": network.name})
    yield _gauge("pickaxe_miner_uptime_seconds", "Since the start.", report.uptime_s)
    yield _gauge("pickaxe_miner_hashes_per_second", "All devices, over 30 s.", report.rate)
    yield _counter("pickaxe_miner_hashes", "Done by all devices.", report.hashes)
    if report.estimate is not None:
        yield _gauge("pickaxe_miner_hashes_per_second_by_shares", "As shares found show.", report.estimate.rate)
    yield _counter("pickaxe_miner_accepted", "Blocks a node, or shares the pools accepted.", report.accepted)
    yield _counter("pickaxe_miner_blocks", "Of the accepted, blocks.", report.blocks)
    yield _counter("pickaxe_miner_stale", "Came too late.", report.stale)
    yield _counter("pickaxe_miner_duplicates", "Found twice.", report.duplicates)
    yield _counter("pickaxe_miner_hardware_errors", "Wrong nonces.", report.hardware_errors)
    rejected = CounterMetricFamily("pickaxe_miner_rejected", "Refused, by reason.", labels=["reason"])
    for reason, count in report.rejected.items():
        rejected.add_metric([reason], count)
    yield rejected
    yield _counter("pickaxe_miner_accepted_difficulty", "What the accepted were worth.", report.accepted_difficulty)
    yield _gauge("pickaxe_miner_best_difficulty", "Of the best share found.", report.best_difficulty)
    yield _counter("pickaxe_miner_jobs", "Times that the work changed.", report.jobs)
    if network.height is not None:
        yield _gauge("pickaxe_network_height", "Being mined; absent without work.", network.height)
    if network.difficulty is not None:
        yield _gauge("pickaxe_network_difficulty", "Of a block.", network.difficulty)
    if status.outlook is not None:
        yield _gauge("pickaxe_miner_expected_block_seconds", "Mean time to a block.", status.outlook.mean_s)


def _devices(status: Status) -> Iterator[Metric]:
    rate = GaugeMetricFamily("pickaxe_device_hashes_per_second", "Over 30 s.", labels=_DEVICE)
    hashes = CounterMetricFamily("pickaxe_device_hashes", "Done.", labels=_DEVICE)
    shares = CounterMetricFamily("pickaxe_device_shares", "Found.", labels=_DEVICE)
    accepted = CounterMetricFamily("pickaxe_device_accepted", "Of its shares and blocks.", labels=_DEVICE)
    errors = CounterMetricFamily("pickaxe_device_hardware_errors", "Wrong nonces.", labels=_DEVICE)
    up = GaugeMetricFamily("pickaxe_device_up", "1 unless retired after a failure.", labels=_DEVICE)
    paused = GaugeMetricFamily("pickaxe_device_paused", "1 while paused.", labels=_DEVICE)
    frequency = GaugeMetricFamily("pickaxe_device_frequency_hertz", "Clock.", labels=_DEVICE)
    temperature = GaugeMetricFamily("pickaxe_device_temperature_celsius", "By sensor.", labels=[*_DEVICE, "sensor"])
    voltage = GaugeMetricFamily("pickaxe_device_volts", "By sensor.", labels=[*_DEVICE, "sensor"])
    current = GaugeMetricFamily("pickaxe_device_amperes", "By sensor.", labels=[*_DEVICE, "sensor"])
    fan = GaugeMetricFamily("pickaxe_device_fan_rpm", "By fan.", labels=[*_DEVICE, "fan"])
    events = CounterMetricFamily("pickaxe_device_events", "What a driver counts.", labels=[*_DEVICE, "event"])
    chips = GaugeMetricFamily("pickaxe_device_chips", "By state.", labels=[*_DEVICE, "state"])
    for device in status.report.devices:
        labels = [device.name, device.kind]
        rate.add_metric(labels, device.rate)
        hashes.add_metric(labels, device.hashes)
        shares.add_metric(labels, device.shares)
        accepted.add_metric(labels, device.accepted)
        errors.add_metric(labels, device.hardware_errors)
        up.add_metric(labels, float(device.failure is None))
        paused.add_metric(labels, float(device.paused))
        details = device.details
        if details is None:
            continue
        if details.frequency_mhz is not None:
            frequency.add_metric(labels, details.frequency_mhz * 1e6)
        for sensor, value in details.temperatures_c.items():
            temperature.add_metric([*labels, sensor], value)
        for sensor, value in details.voltages_v.items():
            voltage.add_metric([*labels, sensor], value)
        for sensor, value in details.currents_a.items():
            current.add_metric([*labels, sensor], value)
        for entry in details.fans:
            if entry.rpm is not None:
                fan.add_metric([*labels, entry.name], entry.rpm)
        for event, count in details.counters.items():
            events.add_metric([*labels, event], count)
        if details.chips:
            alive = sum(chip.alive for chip in details.chips)
            chips.add_metric([*labels, "alive"], alive)
            chips.add_metric([*labels, "dead"], len(details.chips) - alive)
    families = [rate, hashes, shares, accepted, errors, up, paused]
    families += [frequency, temperature, voltage, current, fan, events, chips]
    yield from (family for family in families if family.samples)


def _pools(status: Status) -> Iterator[Metric]:
    accepted = CounterMetricFamily("pickaxe_pool_accepted", "Shares.", labels=_POOL)
    rejected = CounterMetricFamily("pickaxe_pool_rejected", "Shares, by reason.", labels=[*_POOL, "reason"])
    stale = CounterMetricFamily("pickaxe_pool_stale", "Shares.", labels=_POOL)
    worth = CounterMetricFamily("pickaxe_pool_accepted_difficulty", "What the accepted were worth.", labels=_POOL)
    active = GaugeMetricFamily("pickaxe_pool_active", "1 for the one in use.", labels=_POOL)
    difficulty = GaugeMetricFamily("pickaxe_pool_share_difficulty", "Asked of a share.", labels=_POOL)
    for pool in status.report.pools:
        name = [pool.url or pool.name, str(pool.number)]
        accepted.add_metric(name, pool.accepted)
        stale.add_metric(name, pool.stale)
        worth.add_metric(name, pool.accepted_difficulty)
        active.add_metric(name, float(pool.active))
        for reason, count in pool.rejected.items():
            rejected.add_metric([*name, reason], count)
        if pool.difficulty is not None:
            difficulty.add_metric(name, pool.difficulty)
    yield from (family for family in (accepted, rejected, stale, worth, active, difficulty) if family.samples)


def _energy(status: Status) -> Iterator[Metric]:
    energy = status.energy
    if energy is None or energy.watts is None:
        return
    power = GaugeMetricFamily("pickaxe_power_watts", "By devices measured together.", labels=["devices", "source"])
    for entry in energy.power:
        if entry.watts is not None:
            power.add_metric([",".join(entry.devices), entry.source], entry.watts)
    yield power
    yield _counter("pickaxe_energy_joules", "Since the start, of what is measured.", energy.joules)
    if energy.joules_per_th is not None:
        yield _gauge("pickaxe_energy_joules_per_terahash", "Of what is measured.", energy.joules_per_th)
    if energy.cost_per_day is not None:
        labels = {"currency": energy.currency}
        yield _gauge("pickaxe_energy_cost_per_day", "At the tariff given.", energy.cost_per_day, labels)


def _gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels or {}))
    family.add_metric(list((labels or {}).values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family
