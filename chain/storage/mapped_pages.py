"""Keeps the pages of a memory-mapped database from counting as this process's memory for longer than they are of use.

Every look-up leaves its page mapped, and the kernel maps the pages beside it along (64 KiB in all). They belong to the
page cache, which lends them and takes them back; but they are counted in the process's resident memory until it runs
short, so that a node with a small cache would seem to hold its whole database, and limits on memory, which containers
and people set, would act on that. Unmapping them costs a fault when one is needed again, and no reading from disk.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

KEPT_LOOKUPS = 768  #: look-ups between two unmappings: 48 MiB of pages at most

_MADV_DONTNEED = 4  # Linux: of a shared file mapping it drops the mapped pages, never data


def _madvise() -> Callable[[int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


class MappedPages:
    """The mapping of one file. Where the system cannot do it (anything but Linux) nothing is unmapped."""

    def __init__(self, path: Path) -> None:
        self._path = os.fsencode(path.resolve())
        self._madvise = _madvise()
        self._lookups = 0
        self._mapping: tuple[int, int] | None = None

    def moved(self) -> None:
        """The file was mapped anew."""
        self._mapping = None

    def touched(self, lookups: int) -> None:
        """So many pages were looked at. Safe at any time: pages in use are mapped again as they are read."""
        self._lookups += lookups
        if self._lookups >= KEPT_LOOKUPS:
            self._lookups = 0
            if self._madvise is not None:
                if self._mapping is None:
                    self._mapping = self._find()
                self._madvise(*self._mapping, _MADV_DONTNEED)

    def _find(self) -> tuple[int, int]:
        """(address, size) of the mapping; size 0 if there is none."""
        try:
            lines = Path("/proc/self/maps").read_bytes().splitlines()
        except OSError:
            return 0, 0
        for line in lines:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5] == self._path:
                begin, end = (int(part, 16) for part in fields[0].split(b"-"))
                return begin, end - begin
        return 0, 0
