"""What the outside may change in a run, where it is allowed to change anything."""

from __future__ import annotations

from typing import Protocol

from miner.work.source import PoolControl


class RunControl(Protocol):
    """All methods are called on the event loop and return at once."""

    @property
    def pools(self) -> PoolControl | None:
        """None where work comes from nodes."""

    def pause_device(self, name: str) -> None:
        """No work for this device until it is resumed; KeyError where there is none."""

    def resume_device(self, name: str) -> None:
        """Work again for it; KeyError where there is none."""

    def quit(self) -> None:
        """End the run as Ctrl-C does."""

    def restart(self) -> None:
        """End the run and start the program anew."""
