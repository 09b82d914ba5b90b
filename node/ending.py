"""How a program ends in peace: its work is done and said, and a second Ctrl-C has nothing left to break off."""

from __future__ import annotations

import contextlib
import signal


def take_no_more_signals() -> None:
    """For the last step within an event loop: the loop closes the pipe through which signals come before it takes their
    handlers away, and Python complains of one that comes between. Closing it gives Ctrl-C back to Python, so call this
    again when it is closed."""
    with contextlib.suppress(ValueError):  # not in the main thread, which gets none
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
