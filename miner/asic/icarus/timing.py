"""From the moments at which nonces come to the hash rate: a line through (hashes done, seconds since the work was
sent), whose slope is the time for a hash and whose height at zero is what the line and the host cost (REFERENCE.md §6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

_FEWEST = 5  #: points that a line is drawn through
_KEPT = 200  #: newest points
_EDGE_HASHES = 0xFFFF  #: too near to either end of the range to tell
_BELIEVABLE = 4.0  #: factor around the model's figure within which a fit counts


@dataclass(slots=True)
class TimingModel:
    """`nominal_s`: seconds a hash by the model's data; `largest`: hashes in a whole range."""

    nominal_s: float
    largest: int = 1 << 32
    _points: list[tuple[float, float]] = field(default_factory=list)
    _fit: tuple[float, float] | None = None

    def add(self, hashes: int, elapsed_s: float) -> None:
        """A nonce came so long after its work, so far into the range."""
        edge = min(_EDGE_HASHES, self.largest // 64)
        if not edge <= hashes <= self.largest - edge or elapsed_s <= 0:
            return
        self._points.append((float(hashes), elapsed_s))
        del self._points[:-_KEPT]
        if len(self._points) >= _FEWEST:
            self._fit = self._line()

    @property
    def measured(self) -> bool:
        """Whether there is a believable fit."""
        return self._fit is not None

    @property
    def seconds_per_hash(self) -> float:
        """Measured where that is believable, else by the model's data."""
        return self._fit[0] if self._fit is not None else self.nominal_s

    @property
    def overhead_s(self) -> float:
        """Time that passes before the first hash."""
        return self._fit[1] if self._fit is not None else 0.0

    @property
    def range_s(self) -> float:
        """How long a whole range lasts."""
        return self.largest * self.seconds_per_hash

    def _line(self) -> tuple[float, float] | None:
        count = len(self._points)
        mean_x = sum(x for x, _ in self._points) / count
        mean_y = sum(y for _, y in self._points) / count
        spread = sum((x - mean_x) ** 2 for x, _ in self._points)
        if not spread:
            return None
        slope = sum((x - mean_x) * (y - mean_y) for x, y in self._points) / spread
        if not self.nominal_s / _BELIEVABLE <= slope <= self.nominal_s * _BELIEVABLE:
            return None
        return slope, max(0.0, mean_y - slope * mean_x)
