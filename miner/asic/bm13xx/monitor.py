"""What is known about each chip of a chain: when it was last heard, what it found, how fast its counters run."""

from __future__ import annotations

from dataclasses import dataclass, field

from miner.asic.bm13xx.frames import RegisterReply
from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.bm13xx.registers import Register, celsius
from miner.asic.bm13xx.work import CheckedNonce, Outcome

MISSED_ROUNDS = 3  #: polls in a row without an answer after which a chip counts as lost
_SICK_AFTER = 64  #: nonces without a good one among them after which a chip is not believed any more
_RATE_WEIGHT = 0.3  #: of the newest sample in the rate by counters


@dataclass(slots=True)
class ChipState:
    """One chip. `work`: summed difficulty of its good nonces, in difficulty-1 units; `counter_rate`: hashes a second by
    its own counter, None until two readings; `hardware_errors`: its own count, ERROR_COUNTER."""

    index: int
    address: int
    missed: int = 0
    lost: bool = False
    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    work: int = 0
    bad_streak: int = 0
    hardware_errors: int = 0
    counter_rate: float | None = None
    temperature_c: float | None = None
    _counter: tuple[int, float] | None = None
    _heard: bool = False

    def count(self, nonce: CheckedNonce, difficulty: int) -> None:
        """A nonce of this chip."""
        self.outcomes[nonce.outcome] += 1
        if nonce.outcome is Outcome.GOOD:
            self.work += difficulty
            self.bad_streak = 0
        elif nonce.outcome in (Outcome.WRONG, Outcome.DUPLICATE):
            self.bad_streak += 1

    @property
    def sick(self) -> bool:
        """Whether it reports nothing but rubbish, or one nonce over and over."""
        return self.bad_streak >= _SICK_AFTER

    def round_over(self) -> None:
        """A poll has had its time."""
        self.missed = 0 if self._heard else self.missed + 1
        self._heard = False

    def heard(self) -> None:
        """It has answered."""
        self._heard = True

    def take_counter(self, value: int, now: float, unit: float) -> None:
        """A reading of the hash counter, which wraps at 32 bits and counts `unit` hashes."""
        if self._counter is not None:
            before, then = self._counter
            if now - then < 0.5:  # too short to tell a rate
                return
            delta = (value - before) & 0xFFFFFFFF
            if delta < 1 << 31:  # a counter that restarted at zero looks like a huge step
                rate = delta * unit / (now - then)
                old = self.counter_rate
                self.counter_rate = rate if old is None else old + _RATE_WEIGHT * (rate - old)
        self._counter = value, now


class Monitor:
    """The chips of one chain, by address and by index."""

    def __init__(self, model: ChipModel, zero_bits: int) -> None:
        self.model = model
        self.chips: list[ChipState] = []
        self.alive = 0  #: chips that are not lost; kept by set_chips and end_round
        self.surplus = 0  #: answers in the current poll that no known chip can have given
        self._unit = float(1 << zero_bits)
        self._by_address: dict[int, ChipState] = {}
        self._answered: set[int] = set()

    def set_chips(self, count: int) -> None:
        """A chain of that many has been addressed. Counts of chips that were there before are kept."""
        interval = self.model.address_interval(count)
        kept = self.chips[:count]
        self.chips = [*kept, *(ChipState(index, 0) for index in range(len(kept), count))]
        for chip in self.chips:
            chip.address = chip.index * interval
            chip.missed, chip.lost, chip.bad_streak, chip._counter = 0, False, 0, None
        self._by_address = {chip.address: chip for chip in self.chips}
        self.alive = count

    def registers_to_poll(self, turn: int) -> list[Register]:
        """What to ask all chips for in poll number `turn`: the counters each time, the temperature every other."""
        if not self.model.counters:
            return [Register.ERROR_COUNTER]
        wanted = [Register.ERROR_COUNTER, Register.HASH_COUNTER]
        if self.model.temperature and turn % 2 == 0:
            wanted.append(Register.TEMPERATURE)
        return wanted

    def begin_round(self) -> None:
        """A poll goes out."""
        self.surplus = 0
        self._answered.clear()

    def end_round(self) -> tuple[list[ChipState], list[ChipState]]:
        """Its time is over: the chips that are lost now, and those that are back."""
        lost, back = [], []
        for chip in self.chips:
            chip.round_over()
            if not chip.lost and chip.missed >= MISSED_ROUNDS:
                chip.lost = True
                lost.append(chip)
            elif chip.lost and chip.missed == 0:
                chip.lost = False
                back.append(chip)
        self.alive += len(back) - len(lost)
        return lost, back

    def take(self, reply: RegisterReply, now: float) -> None:
        """An answer. Those to nobody's question are ignored, but for counting strangers."""
        chip = self._by_address.get(reply.address)
        if reply.register == Register.ERROR_COUNTER:
            if chip is None or reply.address in self._answered:
                self.surplus += 1
            self._answered.add(reply.address)
        if chip is None:
            return
        chip.heard()
        if reply.register == Register.ERROR_COUNTER:
            chip.hardware_errors = reply.value
        elif reply.register == Register.HASH_COUNTER:
            chip.take_counter(reply.value, now, self._unit)
        elif reply.register == Register.TEMPERATURE:
            chip.temperature_c = celsius(reply.value)

    @property
    def hottest_c(self) -> float | None:
        """The highest temperature that any chip has reported."""
        known = [chip.temperature_c for chip in self.chips if chip.temperature_c is not None]
        return max(known, default=None)
