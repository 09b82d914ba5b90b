"""What can go wrong on purpose: bytes lost, flipped or doubled, dead chips, stuck nonces, heat."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Rates are probabilities per byte sent to the host (`to_host`) or received from it; counts are one-shot.

    `stuck_chip`: this chip repeats its last nonce instead of new ones; `wrong_nonce_rate`: chance that a nonce is
    replaced by one that means nothing; `stale_id_rate`: chance that it carries the id of the job before.
    """

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    drop_rate: float = 0.0
    flip_rate: float = 0.0
    duplicate_rate: float = 0.0
    host_drop_rate: float = 0.0
    drop_next: int = 0
    flip_next: int = 0
    duplicate_next: int = 0
    repeat_nonces: int = 0
    stuck_chip: int | None = None
    wrong_nonce_rate: float = 0.0
    stale_id_rate: float = 0.0
    intact: list[tuple[float, bytes]] | None = None  #: when not None: every reply left whole, with time.monotonic()

    def clear(self) -> None:
        """No faults from now on."""
        fresh = Faults(self.rng, intact=self.intact)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def chance(self, rate: float) -> bool:
        """True with that probability."""
        return rate > 0 and self.rng.random() < rate

    def damage_frame(self, frame: bytes) -> bytes:
        """A reply as it arrives at the host."""
        arrives = self._damage(frame)
        if self.intact is not None and arrives == frame:
            self.intact.append((time.monotonic(), frame))
        return arrives

    def _damage(self, frame: bytes) -> bytes:
        if self.drop_next:
            self.drop_next -= 1
            at = self.rng.randrange(len(frame))
            frame = frame[:at] + frame[at + 1 :]
        if self.flip_next:
            self.flip_next -= 1
            at = self.rng.randrange(len(frame))
            frame = frame[:at] + bytes((frame[at] ^ 1 << self.rng.randrange(8),)) + frame[at + 1 :]
        if self.duplicate_next:
            self.duplicate_next -= 1
            at = self.rng.randrange(len(frame))
            frame = frame[: at + 1] + frame[at:]
        if not (self.drop_rate or self.flip_rate or self.duplicate_rate):
            return frame
        damaged = bytearray()
        for byte in frame:
            if self.chance(self.drop_rate):
                continue
            damaged.append(byte ^ 1 << self.rng.randrange(8) if self.chance(self.flip_rate) else byte)
            if self.chance(self.duplicate_rate):
                damaged.append(byte)
        return bytes(damaged)

    def damage_input(self, data: bytes) -> bytes:
        """Bytes of the host as they arrive at the chips."""
        if not self.host_drop_rate:
            return data
        return bytes(byte for byte in data if not self.chance(self.host_drop_rate))
