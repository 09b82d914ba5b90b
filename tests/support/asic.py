"""A driver and an emulated chain joined without a port, in simulated time: seconds of mining in a fraction of one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from miner.asic.bm13xx.driver import ChainDriver, DriverOptions, ResetChain, Send, SetBaud
from miner.asic.bm13xx.events import Event, NonceChecked
from miner.asic.bm13xx.models import MODELS
from miner.asic.bm13xx.work import ChainJob, CheckedNonce
from miner.asic.emulator.chain import EmulatedChain

_STEP_S = 0.005
E = TypeVar("E")

#: Waits cut to what simulated chips need, so that a start-up is two seconds.
FAST = {"ramp_step_s": 0.005, "settle_s": 0.001, "chip_pause_s": 0.0, "answer_timeout_s": 0.3, "quiet_s": 0.1}


def chain_job(rng: random.Random, mask: int = 0x1FFF_E000, owner: object = None) -> ChainJob:
    """A job over a random header."""
    return ChainJob(rng.randbytes(76) + bytes(4), 0x2000_0000, mask, owner)


@dataclass
class Simulation:
    """See the module. `reset_line`: whether the board has one; `fastest_baud`: what its bridge can do."""

    chain: EmulatedChain
    driver: ChainDriver
    reset_line: bool = False
    now: float = 0.0
    host_baud: int = 115_200
    sent: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    hashing: bool = True
    fastest_baud: int = 10_000_000

    @classmethod
    def of(cls, model: str, chips: int = 1, zero_bits: int = 6, **options: object) -> Simulation:
        """A chain and its driver, which is told the model."""
        settings = {**FAST, "zero_bits": zero_bits, "ticket": 4, **options}
        chain = EmulatedChain(MODELS[model], chips, zero_bits)
        return cls(chain, ChainDriver(MODELS[model], DriverOptions(**settings)))  # type: ignore[arg-type]

    def start(self) -> Simulation:
        """Begin start-up."""
        self.driver.start(self.now)
        return self

    def up(self, limit_s: float = 30.0) -> Simulation:
        """Start and wait until the chain runs."""
        self.start().until(lambda: self.driver.state.value == "running", limit_s)
        return self

    def until(self, reached: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Let time pass until then; AssertionError after `limit_s`."""
        deadline = self.now + limit_s
        while not reached():
            assert self.now < deadline, f"not within {limit_s} s; events: {self.events[-5:]}"
            self.step()

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        while self.now < end:
            self.step()

    def step(self) -> None:
        """One step of simulated time."""
        for action in self.driver.actions(self.now):
            if isinstance(action, Send):
                self.sent.append(action.data)
                if self._understood():
                    self.chain.receive_data(action.data, self.now)
            elif isinstance(action, SetBaud):
                self.host_baud = action.baud
            elif isinstance(action, ResetChain) and self.reset_line:
                self.chain.reset()
                self.host_baud = self.driver.baud = 115_200
        self.events += self.driver.events()
        if self.hashing:
            self.chain.run(self.now, budget_s=5.0 if self.chain.zero_bits < 32 else 0.0)  # unscaled: known answers only
        received = self.chain.bytes_to_send(self.now)
        if received and self._understood():
            self.events += self.driver.receive_data(received, self.now)
        self.now += _STEP_S

    def _understood(self) -> bool:
        return self.host_baud <= self.fastest_baud and self.chain.hears(self.host_baud)

    def of_type(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def nonces(self) -> list[CheckedNonce]:
        """All nonces so far."""
        return [event.result for event in self.of_type(NonceChecked)]

    def frames_sent(self) -> list[str]:
        """What the driver wrote, frame by frame, as hex."""
        stream, frames = b"".join(self.sent), []
        while stream:
            size = stream[3] + 2
            frames.append(stream[:size].hex(" ").upper())
            stream = stream[size:]
        return frames
