"""Sets that forget their oldest entries: what a peer knows already, what was rejected lately.

Core uses rolling bloom filters; exact sets of short keys cost a little more memory, and never claim to have seen
what they have not.
"""

from __future__ import annotations


class RollingSet:
    """Remembers at least the last `capacity` hashes added, at most twice as many. Two generations, so that forgetting
    is one assignment."""

    __slots__ = ("_capacity", "_new", "_old")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, key: bytes) -> None:
        """Remember a key."""
        if len(self._new) >= self._capacity:
            self._old, self._new = self._new, set()
        self._new.add(key)

    def __contains__(self, key: bytes) -> bool:
        return key in self._new or key in self._old

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def clear(self) -> None:
        """Forget everything."""
        self._new.clear()
        self._old.clear()
