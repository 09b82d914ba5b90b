"""The address book: where other nodes are said to be (`new`) and where we have reached one (`tried`).

Both tables have a fixed number of slots, and the slot of an address follows from a secret key, its network group
and, for `new`, the group of the peer that told us: somebody who owns many addresses in few groups can fill few
slots, however much he gossips. The scheme and its numbers are Core's (addrman.h); what is kept simpler is that an
address takes one `new` slot rather than up to eight.

``peers.dat`` (little-endian): ``PKXADDR1``, 32-byte key, u32 count, then per address: an addrv2 entry (BIP155),
network id and length-prefixed bytes of the source, u8 tried, i64 last success, i64 last attempt, u16 failures; at
the end SHA-256d of everything before. Read up to 24 MiB, written by rename.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from chain.crypto.hashes import sha256, sha256d
from chain.primitives.errors import DecodeError
from chain.primitives.serialize import Reader, var_bytes
from p2p import log
from p2p.netaddress import NetAddress, TimedAddress

NEW_BUCKETS, TRIED_BUCKETS, BUCKET_SIZE = 1024, 256, 64
NEW_BUCKETS_PER_SOURCE_GROUP = 64
TRIED_BUCKETS_PER_GROUP = 8
HORIZON_S = 30 * 86400  #: addresses not seen for longer are worthless
RETRIES = 3  #: failures after which an address that never worked is worthless
MAX_FAILURES = 10
MIN_FAIL_S = 7 * 86400
UPDATE_INTERVAL_S = 20 * 60
TEST_WINDOW_S = 40 * 60
MAGIC = b"PKXADDR1"
MAX_FILE_BYTES = 24 << 20
MAX_COUNT = (NEW_BUCKETS + TRIED_BUCKETS) * BUCKET_SIZE


@dataclass(slots=True)
class Entry:
    """What we know of one address. Times are unix seconds, 0 for never."""

    address: NetAddress
    time: int
    services: int
    source: NetAddress
    last_success: int = 0
    last_attempt: int = 0
    failures: int = 0
    tried: bool = False
    slot: int = -1

    def terrible(self, now: float) -> bool:
        """Not worth a slot (Core: AddrInfo::IsTerrible)."""
        if now - self.last_attempt <= 60:
            return False
        if self.time > now + 600 or now - self.time > HORIZON_S:
            return True
        if not self.last_success and self.failures >= RETRIES:
            return True
        return now - self.last_success > MIN_FAIL_S and self.failures >= MAX_FAILURES

    def chance(self, now: float) -> float:
        """Relative chance of being picked: less right after an attempt, and less with every failure."""
        chance = 0.01 if now - self.last_attempt < 600 else 1.0
        return chance * 0.66 ** min(self.failures, 8)


class _Table:
    """Slots, with a list of the occupied ones so that a random entry costs O(1)."""

    def __init__(self) -> None:
        self.slots: dict[int, Entry] = {}
        self._order: list[int] = []
        self._where: dict[int, int] = {}

    def put(self, slot: int, entry: Entry) -> None:
        self.slots[slot] = entry
        entry.slot = slot
        self._where[slot] = len(self._order)
        self._order.append(slot)

    def remove(self, slot: int) -> None:
        del self.slots[slot]
        index = self._where.pop(slot)
        last = self._order.pop()
        if last != slot:
            self._order[index] = last
            self._where[last] = index

    def random(self, rng: random.Random) -> Entry:
        return self.slots[self._order[rng.randrange(len(self._order))]]

    def __len__(self) -> int:
        return len(self._order)


class AddrMan:
    """Bounded tables of addresses. Synchronous; the only I/O is `save` and loading at construction."""

    def __init__(self, clock: Callable[[], float], rng: random.Random, path: Path | None = None) -> None:
        self._clock = clock
        self._rng = rng
        self._path = path
        self._key = rng.randbytes(32) if not isinstance(rng, random.SystemRandom) else os.urandom(32)
        self._new = _Table()
        self._tried = _Table()
        self._entries: dict[NetAddress, Entry] = {}
        if path is not None:
            self._load(path)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def counts(self) -> tuple[int, int]:
        """(new, tried)."""
        return len(self._new), len(self._tried)

    def keyed_group(self, address: NetAddress) -> int:
        """The network group under our secret key: equal for equal groups, unpredictable to others."""
        return self._hash(b"group", address.group)

    # --- what others tell

    def add(self, addresses: Iterable[TimedAddress], *, source: NetAddress | None, time_penalty_s: int = 7200) -> int:
        """Take in gossip; returns how many were new to us. Addresses that no one can reach, and those for which there
        is no slot, are left out."""
        added = count = 0
        for seen in addresses:
            added += self._add(seen, source or seen.address, time_penalty_s)
            count += 1
        if added:
            new, tried = self.counts
            origin = source.host if source else "themselves"
            log.addrman.debug("Added %d addresses (of %d) from %s: %d tried, %d new", added, count, origin, tried, new)
        return added

    def _add(self, seen: TimedAddress, source: NetAddress, time_penalty_s: int) -> bool:
        address = seen.address
        if not address.is_routable or not address.is_valid or not address.port:
            return False
        now = int(self._clock())
        penalty = 0 if address == source else time_penalty_s
        entry = self._entries.get(address)
        if entry is not None:
            interval = 3600 if now - seen.time < 86400 else 86400
            if entry.time < seen.time - interval - penalty:
                entry.time = max(0, seen.time - penalty)
            entry.services |= seen.services
            return False
        entry = Entry(address, max(0, seen.time - penalty), seen.services, source)
        slot = self._new_slot(entry)
        occupant = self._new.slots.get(slot)
        if occupant is not None:
            if not occupant.terrible(now):
                return False
            self._forget(occupant)
        self._entries[address] = entry
        self._new.put(slot, entry)
        log.addrman.debug("Added %s to new[%d][%d]", address, *divmod(slot, BUCKET_SIZE))
        return True

    # --- what we find out

    def good(self, address: NetAddress) -> bool:
        """We completed a handshake with it: it moves to `tried`. False if it is unknown, or its slot there is held by
        one that works as well."""
        entry = self._entries.get(address)
        now = int(self._clock())
        if entry is None:
            return False
        entry.last_success = entry.last_attempt = now
        entry.failures = 0
        if entry.tried:
            return True
        slot = self._tried_slot(entry)
        occupant = self._tried.slots.get(slot)
        if occupant is not None:
            if now - occupant.last_success < TEST_WINDOW_S * 6 and not occupant.failures:
                return False  # the one that was there first stays while it works
            self._tried.remove(slot)
            self._back_to_new(occupant)
        self._new.remove(entry.slot)
        entry.tried = True
        self._tried.put(slot, entry)
        log.addrman.debug("Moved %s to tried[%d][%d]", address, *divmod(slot, BUCKET_SIZE))
        return True

    def attempt(self, address: NetAddress, *, count_failure: bool) -> None:
        """We tried to connect to it."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.last_attempt = int(self._clock())
            entry.failures += count_failure

    def connected(self, address: NetAddress) -> None:
        """A connection to it has ended well: it was there until now."""
        entry = self._entries.get(address)
        now = int(self._clock())
        if entry is not None and now - entry.time > UPDATE_INTERVAL_S:
            entry.time = now

    def set_services(self, address: NetAddress, services: int) -> None:
        """It told us itself what it offers."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.services = services

    # --- what we want to know

    def select(self, *, new_only: bool = False) -> TimedAddress | None:
        """A random address worth trying; a coin decides between the tables."""
        now = self._clock()
        if not self._entries or (new_only and not len(self._new)):
            return None
        use_tried = not new_only and len(self._tried) > 0 and (not len(self._new) or self._rng.random() < 0.5)
        table = self._tried if use_tried else self._new
        factor = 1.0
        while True:
            entry = table.random(self._rng)
            if self._rng.random() < factor * entry.chance(now):
                return TimedAddress(entry.time, entry.services, entry.address)
            factor *= 1.2

    def last_attempt(self, address: NetAddress) -> int:
        """Unix seconds of the last attempt, 0 for none."""
        entry = self._entries.get(address)
        return 0 if entry is None else entry.last_attempt

    def sample(self, count: int | None, max_percent: int | None, network: str | None) -> list[TimedAddress]:
        """Random addresses of at most `count` and `max_percent` of all, leaving out the worthless; of one network if it
        is named."""
        now = self._clock()
        limit = len(self._entries)
        if max_percent is not None:
            limit = limit * max_percent // 100
        if count is not None:
            limit = min(limit, count)
        entries = [e for e in self._entries.values() if network is None or e.address.network_name == network]
        self._rng.shuffle(entries)
        good = (TimedAddress(e.time, e.services, e.address) for e in entries if not e.terrible(now))
        return [seen for seen, _ in zip(good, range(limit), strict=False)]

    # --- slots

    def _hash(self, *parts: bytes) -> int:
        data = self._key + b"".join(var_bytes(part) for part in parts)
        return int.from_bytes(sha256(data)[:8], "little")

    def _new_slot(self, entry: Entry) -> int:
        source_group = entry.source.group
        inner = self._hash(b"new", entry.address.group, source_group) % NEW_BUCKETS_PER_SOURCE_GROUP
        bucket = self._hash(b"new", source_group, inner.to_bytes(8, "little")) % NEW_BUCKETS
        return bucket * BUCKET_SIZE + self._hash(b"N", bucket.to_bytes(4, "little"), entry.address.key) % BUCKET_SIZE

    def _tried_slot(self, entry: Entry) -> int:
        inner = self._hash(b"tried", entry.address.key) % TRIED_BUCKETS_PER_GROUP
        bucket = self._hash(b"tried", entry.address.group, inner.to_bytes(8, "little")) % TRIED_BUCKETS
        return bucket * BUCKET_SIZE + self._hash(b"K", bucket.to_bytes(4, "little"), entry.address.key) % BUCKET_SIZE

    def _forget(self, entry: Entry) -> None:
        (self._tried if entry.tried else self._new).remove(entry.slot)
        del self._entries[entry.address]

    def _back_to_new(self, entry: Entry) -> None:
        entry.tried = False
        slot = self._new_slot(entry)
        occupant = self._new.slots.get(slot)
        if occupant is not None:
            self._forget(occupant)
        self._new.put(slot, entry)

    # --- disk

    def save(self) -> None:
        """Write peers.dat, whole or not at all. A disk that refuses is logged: the node can live without it."""
        if self._path is None:
            return
        partial = self._path.with_suffix(".dat.new")
        try:
            partial.write_bytes(self.to_bytes())
            os.replace(partial, self._path)
        except OSError as error:
            log.addrman.warning("Cannot write %s: %s", self._path, error)

    def to_bytes(self) -> bytes:
        """The content of peers.dat."""
        parts = [MAGIC, self._key, len(self._entries).to_bytes(4, "little")]
        for e in self._entries.values():
            parts += [
                TimedAddress(e.time, e.services, e.address).encode_v2(),
                bytes([e.source.network]) + var_bytes(e.source.address),
                bytes([e.tried])
                + e.last_success.to_bytes(8, "little", signed=True)
                + e.last_attempt.to_bytes(8, "little", signed=True),
                min(e.failures, 0xFFFF).to_bytes(2, "little"),
            ]
        body = b"".join(parts)
        return body + sha256d(body)

    def from_bytes(self, data: bytes) -> None:
        """Replace everything by the content of a peers.dat. DecodeError if it is not one; nothing has changed then."""
        body, checksum = data[:-32], data[-32:]
        if len(data) < len(MAGIC) + 68 or sha256d(body) != checksum:
            raise DecodeError("the checksum is wrong")
        reader = Reader(body)
        if reader.bytes(len(MAGIC)) != MAGIC:
            raise DecodeError("it has another format")
        key, count = reader.bytes(32), reader.u32()
        if count > MAX_COUNT:
            raise DecodeError(f"{count} addresses are more than the tables hold")
        entries = []
        for _ in range(count):
            seen = TimedAddress.decode_v2(reader)
            source = NetAddress(reader.u8(), reader.var_bytes(512), 0)
            tried, success, attempt, failures = reader.u8() != 0, reader.i64(), reader.i64(), reader.u16()
            entries.append(Entry(seen.address, seen.time, seen.services, source, success, attempt, failures, tried))
        reader.finish()
        self._key, self._new, self._tried, self._entries = key, _Table(), _Table(), {}
        for entry in entries:
            table, slot = (self._tried, self._tried_slot(entry)) if entry.tried else (self._new, self._new_slot(entry))
            if slot not in table.slots and entry.address not in self._entries:
                table.put(slot, entry)
                self._entries[entry.address] = entry

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise DecodeError("it is too large")
            self.from_bytes(path.read_bytes())
            log.addrman.info("Loaded %d addresses from %s", len(self), path.name)
        except FileNotFoundError:
            return
        except (OSError, DecodeError) as error:
            aside = path.with_suffix(".dat.bad")
            log.addrman.warning(
                "%s cannot be used (%s); it is kept as %s and a new one is begun", path.name, error, aside.name
            )
            try:
                os.replace(path, aside)
            except OSError as rename_error:
                log.addrman.warning("Cannot rename %s: %s", path, rename_error)
