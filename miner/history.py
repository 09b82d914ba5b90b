"""The course of a run in bounded memory, for charts: when it is full, neighbours are merged and time goes on at half
the detail."""

from __future__ import annotations

from dataclasses import dataclass

CAPACITY = 720
_FIRST_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Means over an interval that ended `at_s` after the start, and counts at its end. `watts`, `temperature_c` (the
    hottest sensor): None where unknown."""

    at_s: float
    rate: float
    watts: float | None
    temperature_c: float | None
    accepted: int
    errors: int


class History:
    """At most `capacity` samples of the whole run; `interval_s` is their present distance."""

    def __init__(self, capacity: int = CAPACITY, interval_s: float = _FIRST_INTERVAL_S) -> None:
        if capacity < 2 or capacity % 2:
            raise ValueError("the capacity is an even number, so that neighbours can be paired")
        self.interval_s = interval_s
        self._capacity = capacity
        self._samples: list[Sample] = []
        self._pending: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Record what was just measured; more often than `interval_s` is averaged."""
        self._pending.append(sample)
        last_at_s = self._samples[-1].at_s if self._samples else 0.0
        if sample.at_s - last_at_s >= self.interval_s - _FIRST_INTERVAL_S / 2:
            self._samples.append(_merge(self._pending))
            self._pending.clear()
            if len(self._samples) >= self._capacity:
                pairs = zip(self._samples[::2], self._samples[1::2], strict=True)
                self._samples = [_merge(list(pair)) for pair in pairs]
                self.interval_s *= 2

    def samples(self) -> list[Sample]:
        """The oldest first."""
        return list(self._samples)


def _merge(samples: list[Sample]) -> Sample:
    last = samples[-1]
    watts = [sample.watts for sample in samples if sample.watts is not None]
    temperatures = [sample.temperature_c for sample in samples if sample.temperature_c is not None]
    return Sample(
        at_s=last.at_s,
        rate=sum(sample.rate for sample in samples) / len(samples),
        watts=sum(watts) / len(watts) if watts else None,
        temperature_c=max(temperatures) if temperatures else None,
        accepted=last.accepted,
        errors=last.errors,
    )
