"""Loads compiled code before the first block asks for it.

What reads blocks and checks scripts comes with Numba, whose import and cache take about a second (and the compiler's
own time in a new installation). A node has that second once it is up; the first block, which others wait for, has not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from chain import native

log = logging.getLogger("pickaxe.node")

DELAY_S: Final = 0.5  #: whoever waited for the node to start is served first
THREAD_NAME: Final = "warm-up"


PREPARATIONS: Final[Sequence[Callable[[], object]]] = (native.load,)


class WarmUp:
    """Runs each preparation once, in a thread of its own.

    A thread cannot be interrupted in an import or in the compiler, so nobody waits for it: it is a daemon, and the
    process ends by `end_process`. Whoever needs the same code meanwhile waits until it is there, as without the thread.
    The thread has the priority of all others: a lower one would have them wait while it holds the interpreter lock and
    is not let run.
    """

    def __init__(
        self, preparations: Sequence[Callable[[], object]] = PREPARATIONS, *, delay_s: float = DELAY_S
    ) -> None:
        self._preparations = preparations
        self._delay_s = delay_s

    async def run(self) -> None:
        """Wait, then let the thread go. Cancelled before, it never starts."""
        await asyncio.sleep(self._delay_s)
        threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()

    def _work(self) -> None:
        for prepare in self._preparations:
            try:
                prepare()
            except Exception as error:  # whoever needs it meets the same failure, and can say what it means there
                log.warning("Could not load compiled code ahead of time (%s: %s)", type(error).__name__, error)
        log.debug("Compiled code is loaded")


def end_process(status: int) -> NoReturn:
    """Exit with this status, and do not wait for a warm-up. Everything else must be closed and saved by now."""
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        # The interpreter would take the lock from the thread for good while it may be anywhere in the compiler: that
        # prints what it likes, or aborts.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
