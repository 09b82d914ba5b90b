"""Whom to ask for an announced transaction, and when. Source: Core's txrequest.h.

Every (peer, hash) that was announced is a candidate. At any time at most one peer is being asked for a hash;
outbound peers come first, and among equals the order is random, so that a peer cannot make itself the one that is
asked. A request that is not answered in a minute goes to the next candidate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple


class TxAnnouncement(NamedTuple):
    """A transaction by its txid or (`by_wtxid`) wtxid."""

    by_wtxid: bool
    hash: bytes


class State(Enum):
    """Of one announcement by one peer (Core: txrequest.h)."""

    CANDIDATE = auto()  #: may be asked
    REQUESTED = auto()  #: was asked
    COMPLETED = auto()  #: answered, or asked in vain: not asked again


@dataclass(slots=True, eq=False)
class _Candidate:
    peer_id: int
    announcement: TxAnnouncement
    preferred: bool
    time: float  #: not to be asked before; once requested, when the request expires
    priority: float
    state: State = State.CANDIDATE


class TxRequests:
    """All candidates. Bounded by its caller: `count` per peer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._by_hash: dict[bytes, list[_Candidate]] = {}
        self._by_peer: dict[int, dict[bytes, _Candidate]] = {}
        self._in_flight: dict[int, int] = {}

    def count(self, peer_id: int) -> int:
        """Announcements kept for a peer."""
        return len(self._by_peer.get(peer_id, ()))

    def count_in_flight(self, peer_id: int) -> int:
        """Requests to a peer that wait for an answer."""
        return self._in_flight.get(peer_id, 0)

    def candidates(self, tx_hash: bytes) -> list[int]:
        """Ids of the peers that announced it and have not failed to deliver."""
        return [c.peer_id for c in self._by_hash.get(tx_hash, ()) if c.state != State.COMPLETED]

    def __len__(self) -> int:
        return sum(map(len, self._by_peer.values()))

    def announced(self, peer_id: int, announcement: TxAnnouncement, preferred: bool, time: float) -> None:
        """A peer has it; ask no earlier than `time`. Announcing again changes nothing."""
        mine = self._by_peer.setdefault(peer_id, {})
        if announcement.hash in mine:
            return
        candidate = _Candidate(peer_id, announcement, preferred, time, self._rng.random())
        mine[announcement.hash] = candidate
        self._by_hash.setdefault(announcement.hash, []).append(candidate)

    def requestable(self, peer_id: int, now: float) -> tuple[list[TxAnnouncement], list[tuple[int, TxAnnouncement]]]:
        """(what to ask this peer for now, in the order announced; requests to anybody that have expired on the way)."""
        chosen: list[TxAnnouncement] = []
        expired: list[tuple[int, TxAnnouncement]] = []
        for candidate in list(self._by_peer.get(peer_id, {}).values()):
            if candidate.state == State.REQUESTED and candidate.time <= now:
                expired.append((candidate.peer_id, candidate.announcement))
                self._complete(candidate)
            elif candidate.state == State.CANDIDATE and candidate.time <= now:
                rivals = self._by_hash[candidate.announcement.hash]
                for rival in list(rivals):
                    if rival.state == State.REQUESTED and rival.time <= now:
                        expired.append((rival.peer_id, rival.announcement))
                        self._complete(rival)
                if self._best(rivals, now) is candidate:
                    chosen.append(candidate.announcement)
        return chosen, expired

    def _best(self, rivals: list[_Candidate], now: float) -> _Candidate | None:
        if any(r.state == State.REQUESTED for r in rivals):
            return None
        ready = [r for r in rivals if r.state == State.CANDIDATE and r.time <= now]
        return max(ready, key=lambda r: (r.preferred, r.priority), default=None)

    def requested(self, peer_id: int, tx_hash: bytes, expires: float) -> None:
        """The peer has been asked."""
        candidate = self._by_peer.get(peer_id, {}).get(tx_hash)
        if candidate is None:
            return
        for rival in self._by_hash[tx_hash]:
            if rival.state == State.REQUESTED and rival is not candidate:
                self._complete(rival)
        if candidate.state != State.REQUESTED:
            self._in_flight[peer_id] = self.count_in_flight(peer_id) + 1
        candidate.state, candidate.time = State.REQUESTED, expires

    def answered(self, peer_id: int, tx_hash: bytes) -> None:
        """The peer sent it, or said that it has not got it: it will not be asked again."""
        candidate = self._by_peer.get(peer_id, {}).get(tx_hash)
        if candidate is not None:
            self._complete(candidate)

    def forget(self, tx_hash: bytes) -> None:
        """We have it, or do not want it any more."""
        for candidate in self._by_hash.pop(tx_hash, ()):
            self._drop_from_peer(candidate)

    def disconnected(self, peer_id: int) -> None:
        """Forget a peer's announcements."""
        for candidate in list(self._by_peer.get(peer_id, {}).values()):
            rivals = self._by_hash[candidate.announcement.hash]
            rivals.remove(candidate)
            if not any(r.state != State.COMPLETED for r in rivals):
                self.forget(candidate.announcement.hash)
        self._by_peer.pop(peer_id, None)
        self._in_flight.pop(peer_id, None)

    def _complete(self, candidate: _Candidate) -> None:
        if candidate.state == State.REQUESTED:
            self._in_flight[candidate.peer_id] -= 1
        candidate.state = State.COMPLETED
        rivals = self._by_hash.get(candidate.announcement.hash, [])
        if all(r.state == State.COMPLETED for r in rivals):  # nobody left to ask
            self.forget(candidate.announcement.hash)

    def _drop_from_peer(self, candidate: _Candidate) -> None:
        if candidate.state == State.REQUESTED:
            self._in_flight[candidate.peer_id] -= 1
        mine = self._by_peer.get(candidate.peer_id)
        if mine is not None:
            mine.pop(candidate.announcement.hash, None)
            if not mine:
                del self._by_peer[candidate.peer_id]
