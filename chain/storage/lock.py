"""One process per data directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chain.primitives.errors import UserError
from chain.storage.faults import storage_fault
from chain.storage.layout import LOCK_FILE

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DirectoryLock:
    """Holds `<directory>/.lock`; the operating system lets go of it however the process ends."""

    def __init__(self, directory: Path) -> None:
        """UserError if another node holds it."""
        path = directory / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"Cannot write to directory {directory} ({error.strerror}): check permissions or use another --datadir"
            ) from error
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(
                f"Cannot obtain a lock on directory {directory}. Pickaxe is probably already running."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise storage_fault(error, "locking", path) from error
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let others in. The file stays: removing it would open a race."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
