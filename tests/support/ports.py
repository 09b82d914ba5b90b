"""Ports for servers that have to know theirs before they start, or that come back at the same one."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket

#: Below what systems hand out to sockets that name no port: none of those can take one before its server does.
_FIRST, _COUNT = 20_000, 12_000
_WORKERS = 16  #: of pytest-xdist, each with ports of its own
_steps = itertools.count(random.SystemRandom().randrange(_COUNT))


def free_port() -> int:
    """One that nobody listens at, and that was not given before for long."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    for _ in range(_COUNT // _WORKERS):
        port = _FIRST + next(_steps) * _WORKERS % _COUNT + worker
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
