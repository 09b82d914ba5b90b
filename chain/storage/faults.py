"""Turning what the operating system and LMDB raise into one line for the user."""

from __future__ import annotations

import errno
from pathlib import Path

import lmdb

from chain.primitives.errors import LocalFault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DAMAGE = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.PageNotFoundError)


class DiskFull(LocalFault):
    """No space is left where the chain is stored, or so it seems. What was written before is intact."""


def storage_fault(error: OSError | lmdb.Error, doing: str, path: Path) -> LocalFault:
    """The LocalFault to raise for `error`, met while `doing` something to `path`."""
    if isinstance(error, DAMAGE):
        return LocalFault(f"The database in {path} is damaged ({error}); start with --reindex to rebuild it")
    number = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
    if number == errno.EIO and isinstance(error, lmdb.Error):
        # LMDB says so of a write that was cut short, which is how most disks say that they are full.
        return DiskFull(
            f"The disk is full or failing ({doing} {path}): free some space and start again. Nothing is lost."
        )
    if number in _FULL:
        return DiskFull(f"The disk is full ({doing} {path}): free some space and start again. Nothing is lost.")
    return LocalFault(f"Failed {doing} {path}: {error}")
