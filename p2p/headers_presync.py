"""Following a chain of headers that has too little work to be stored (yet), in bounded memory. Source: Core's
headerssync.h.

First pass: every header's proof of work is checked and its work added up, and of every 600th or so one bit of a
salted hash is kept. Only when the chain has shown enough work is it downloaded again from its start, checked against
these bits, and handed on for storing. A peer that would fill our memory with cheap headers thus has to do the work
first; one that shows another chain in the second pass is caught by the bits it cannot predict.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chain.crypto.hashes import siphash24
from chain.interfaces import HeaderInfo
from chain.params import NetworkParams, Retargeting
from chain.primitives.header import BlockHeader
from chain.primitives.target import target_from_nbits, work_from_target
from chain.primitives.types import BlockHash

MAX_HEADERS_PER_S = 6  #: a chain cannot be longer than its timestamps allow (median time past must grow every 6 blocks)
MAX_FUTURE_S = 2 * 3600


@dataclass(slots=True)
class Progress:
    """What one headers message led to."""

    success: bool = False  #: it was part of the sync
    request_more: bool = False  #: send getheaders with `locator`
    ready: list[BlockHeader] = field(default_factory=list)  #: to be stored now, without further checks of their work


class HeadersPresync:
    """One low-work sync with one peer, from `start` (which we have stored) on."""

    def __init__(
        self,
        params: NetworkParams,
        start: HeaderInfo,
        minimum_work: int,
        now: float,
        rng: random.Random,
    ) -> None:
        period = params.header_commitment_period  # headers for each stored bit
        self.start = start
        self._params = params
        self._minimum_work = minimum_work
        self._period = period
        self._buffer_size = (
            params.header_redownload_buffer
        )  # held back in the second pass, so that commitments stand behind what is released
        self._offset = rng.randrange(period)
        self._salt = (rng.getrandbits(64), rng.getrandbits(64))
        self._max_commitments = int(MAX_HEADERS_PER_S * max(now - start.time + MAX_FUTURE_S, 0)) // period
        self._commitments: deque[int] = deque()
        self._redownloading = False
        self._height = int(start.height)
        self._last: BlockHash = start.hash
        self._last_nbits = start.nbits
        self._work = int(start.chainwork)
        self._buffer: deque[BlockHeader] = deque()
        self._release_all = False
        self.done = False

    @property
    def presync_height(self) -> int:
        """How far the first pass is; -1 in the second."""
        return -1 if self._redownloading or self.done else self._height

    def locator(self, start_locator: Sequence[BlockHash]) -> list[BlockHash]:
        """For the next getheaders: where we are, then `start_locator` (of the stored header where it all began)."""
        return [self._last, *start_locator] if self._last != self.start.hash else list(start_locator)

    def process(self, headers: Sequence[BlockHeader], *, full: bool) -> Progress:
        """Take in a message's headers: continuous, each with its claimed proof of work. `full`: it had as many as a
        message can."""
        if self.done:
            return Progress()
        progress = self._redownload(headers, full) if self._redownloading else self._first_pass(headers, full)
        if not progress.success:
            self.done = True
        return progress

    def _first_pass(self, headers: Sequence[BlockHeader], full: bool) -> Progress:
        if headers[0].prev_hash != self._last:
            return Progress()  # another chain: start over some other time
        for header in headers:
            if not self._advance(header):
                return Progress()
            if self._height % self._period == self._offset:
                self._commitments.append(self._bit(header))
                if len(self._commitments) > self._max_commitments:
                    return Progress()  # longer than time allows
        if self._work >= self._minimum_work:
            self._rewind()
            return Progress(success=True, request_more=True)
        if full:
            return Progress(success=True, request_more=True)
        self.done = True  # the chain ends without enough work
        return Progress(success=True)

    def _rewind(self) -> None:
        self._redownloading = True
        self._height = int(self.start.height)
        self._last = self.start.hash
        self._last_nbits = self.start.nbits
        self._work = int(self.start.chainwork)

    def _redownload(self, headers: Sequence[BlockHeader], full: bool) -> Progress:
        if headers[0].prev_hash != self._last:
            return Progress()
        for header in headers:
            if not self._advance(header):
                return Progress()
            if self._work >= self._minimum_work:
                self._release_all = True
            committed = not self._release_all and self._height % self._period == self._offset
            if committed and (not self._commitments or self._commitments.popleft() != self._bit(header)):
                return Progress()  # not the chain of the first pass
            self._buffer.append(header)
        ready = []
        while self._buffer and (self._release_all or len(self._buffer) > self._buffer_size):
            ready.append(self._buffer.popleft())
        if self._release_all:
            self.done = True
            return Progress(success=True, ready=ready)
        if not full:
            return Progress()  # it ends before the work that it had shown
        return Progress(success=True, request_more=True, ready=ready)

    def _advance(self, header: BlockHeader) -> bool:
        """Add one header to the running totals; False if its difficulty cannot follow the one before."""
        if not permitted_transition(self._params, self._height + 1, self._last_nbits, header.nbits):
            return False
        target = target_from_nbits(header.nbits)
        self._height += 1
        self._last, self._last_nbits = header.hash, header.nbits
        self._work += 0 if target is None else int(work_from_target(target))
        return True

    def _bit(self, header: BlockHeader) -> int:
        return siphash24(self._salt[0], self._salt[1], header.hash) & 1


def permitted_transition(params: NetworkParams, height: int, old_nbits: int, new_nbits: int) -> bool:
    """Whether a header at `height` could have these nbits, going by the header before it alone (Core:
    PermittedDifficultyTransition)."""
    if params.retargeting != Retargeting.BITCOIN or params.allow_min_difficulty:
        return True
    if height % params.retarget_interval:
        return old_nbits == new_nbits
    old, new = target_from_nbits(old_nbits), target_from_nbits(new_nbits)
    if old is None or new is None:
        return False
    # the rounding of nbits can move a bound by less than 1 part in 2**15
    return old // 4 - (old >> 16) <= new <= min(old * 4, params.pow_limit)
