"""Where the miner's words go: terminals of all kinds, pipes that close, disks that fill up."""

from __future__ import annotations

import errno
import os

from rich.console import Console


class OutputConsole(Console):
    """A console whose reader may leave. Raises BrokenPipeError then, as any other file does: the SystemExit that rich
    raises tears through the event loop and leaves a traceback behind."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    @property
    def redraws(self) -> bool:
        """Whether it can show a live screen: a terminal that can move its cursor (TERM=dumb cannot)."""
        return self.is_terminal and not self.is_dumb_terminal
