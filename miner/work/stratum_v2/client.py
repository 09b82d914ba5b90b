"""The Stratum V2 client without sockets: bytes in, events out; bytes to send kept until they are fetched.

One StratumV2Client is one connection with one channel, used like a `miner.work.stratum.client.StratumClient` and with
the same events: an extended channel, where all devices share one extranonce space, or a standard one where the pool
opens no other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from chain.primitives.target import target_from_nbits
from miner.share import difficulty_of_target
from miner.work.coinbase import CoinbaseParts
from miner.work.job import Job
from miner.work.stratum.address import PoolAddress
from miner.work.stratum.client import (
    ANSWER_TIMEOUT_S,
    FLOOD_MESSAGES,
    FLOOD_WINDOW_S,
    JOBS_KEPT,
    MAX_COMPLAINTS,
    SHARES_KEPT,
    Authorized,
    ClientOptions,
    Closed,
    Complaint,
    DifficultySet,
    Event,
    NewWork,
    Reconnect,
    ShareAnswer,
    Step,
    Trouble,
    Unsent,
)
from miner.work.stratum.jobs import BadJob, check_bits, check_coinbase, coinbase_height
from miner.work.stratum.messages import DUPLICATE, LOW_DIFFICULTY, NOT_SUBSCRIBED, STALE, Rejection, clean_text
from miner.work.stratum_v2 import messages as sv2
from miner.work.stratum_v2.messages import Kind, ServerFlags
from miner.work.stratum_v2.noise import ANSWER_SIZE, Cipher, Initiator, NoiseError
from miner.work.stratum_v2.wire import BadMessage, Frame, FrameDecoder, encode_frame

VENDOR, FIRMWARE = "Pickaxe", "pickaxe/0.1"
SHARE_PATIENCE_S = 300.0  #: pools answer shares in batches (§5.3.13); one that answers none for so long has lost us
_EXTRANONCE_BYTES = 4  # for our own use, at least
_FIRST_UPDATE_S = 10.0  # when there is a measured rate to tell of
_UPDATE_S = 60.0  # the pool is told of our hash rate at most this often,
_UPDATE_CHANGE = 1.2  # and only when it has changed by more than this
_FIRST_RATE = 1e7  # said before anything is known: about one processor core
_MAX_TARGET = (1 << 256) - 1
_UNKNOWN_USER = "unknown-user"
_CODES = {
    "stale-share": STALE,
    "invalid-job-id": STALE,  # of a job that the pool has forgotten
    "duplicate-share": DUPLICATE,
    "difficulty-too-low": LOW_DIFFICULTY,
    "invalid-channel-id": NOT_SUBSCRIBED,
}


@dataclass(frozen=True, slots=True)
class ChannelWork:
    """A job and what was in force with it. `extranonce1`: the channel's prefix; `extranonce2_size` 0 where only the
    header is ours to vary; `received_at`: when `min_ntime` was sent, by the monotonic clock."""

    body: sv2.StandardJob | sv2.ExtendedJob
    prev_hash: bytes
    nbits: int
    min_ntime: int
    received_at: float
    extranonce1: bytes
    extranonce2_size: int
    share_target: int
    version_mask: int

    @property
    def difficulty(self) -> float:
        """What a share is worth."""
        return difficulty_of_target(self.share_target)

    def job(self, prefix: bytes, origin: Any) -> Job:
        """See miner.work.stratum.jobs.build_job. The time is rolled no faster than the clock goes (§5.3.11)."""
        body = self.body
        if isinstance(body, sv2.ExtendedJob):
            coinbase = CoinbaseParts(body.coinbase_prefix, body.coinbase_suffix, has_witness=False)
            gap = self.extranonce1 + bytes(self.extranonce2_size)
            height, path, root = coinbase_height(body.coinbase_prefix + gap) or 0, body.merkle_path, None
        else:
            coinbase, height, path, root = CoinbaseParts(b"", b"", has_witness=False), 0, (), body.merkle_root
        return Job(
            height=height,
            version=body.version,
            version_mask=self.version_mask,
            prev_hash=self.prev_hash,
            nbits=self.nbits,
            time=self.min_ntime,
            max_time=0xFFFFFFFF,
            target=min(target_from_nbits(self.nbits) or 0, self.share_target),
            share_target=self.share_target,
            coinbase=coinbase,
            merkle_branch=path,
            extranonce1=self.extranonce1 + prefix,
            extranonce2_size=self.extranonce2_size - len(prefix),
            single_solution=False,
            origin=origin,
            merkle_root=root,
            received_at=self.received_at,
        )


class StratumV2Client:
    """See the module. `clock` is monotonic, `wall_clock` Unix time for certificates; `hash_rate`: ours, asked for when
    the pool is told (0: not known yet)."""

    def __init__(
        self,
        options: ClientOptions,
        address: PoolAddress,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        hash_rate: Callable[[], float] = float,
        ephemeral: tuple[bytes, bytes] | None = None,
    ) -> None:
        if address.authority_key is None:
            raise ValueError("a Stratum V2 pool is known by its key")
        self._options = options
        self._address = address
        self._clock = clock
        self._wall_clock = wall_clock
        self._hash_rate = hash_rate
        self._handshake: Initiator | None = Initiator(address.authority_key, ephemeral)
        self._early = b""  # of the handshake's answer
        self._sender: Cipher | None = None
        self._decoder: FrameDecoder | None = None
        self._output = bytearray()
        self._events: list[Event] = []
        self._complaints = 0
        self._unasked: deque[float] = deque()
        self._deadline: tuple[float, str] | None = None  # for the answer that is awaited now, and what it is to
        self.step = Step.CONNECTED
        self._server_flags = 0
        self._standard = False  # the channel that is asked for, or open
        self._request = 0
        self._channel: int | None = None
        self._group: int | None = None
        self._prefix = b""
        self._extranonce_size = 0
        self._target = 0
        self._told_rate = 0.0
        self._next_update = 0.0
        self._prev: sv2.NewPrevHash | None = None
        self._prev_at = 0.0
        self._future: dict[int, ChannelWork] = {}  # without previous hash yet
        self._jobs: dict[int, ChannelWork] = {}  # those whose shares still count
        self._submitted: set[tuple[int, bytes, int, int, int]] = set()
        self._sequence = 0
        self._unanswered: dict[int, float] = {}  # shares and when they went out, in order

    def start(self, configure: bool = True) -> None:
        """Begin the handshake; there is nothing to configure before it."""
        if self._handshake is not None:
            self._output += self._handshake.hello
            self._await("the handshake")

    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes as they come; what they mean."""
        if self.step is Step.CLOSED:
            return []
        try:
            if self._handshake is not None:
                data = self._shake_hands(self._handshake, data)
            if self._decoder is not None:
                self._decoder.feed(data, self._on_frame)
        except NoiseError as error:
            self._close(str(error))
        except BadMessage as error:
            self._close(f"does not keep to Stratum V2: {error}")
        return self._take_events()

    def data_to_send(self) -> bytes:
        """What has to go out, once."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def next_deadline(self) -> float | None:
        """When check_timeouts should be called, by the clock; None: nothing is awaited."""
        times = [sent + SHARE_PATIENCE_S for sent in list(self._unanswered.values())[:1]]
        if self._deadline is not None:
            times.append(self._deadline[0])
        return min(times, default=None)

    def check_timeouts(self) -> list[Event]:
        """Give up on what was not answered in time; tell the pool of a changed hash rate."""
        now = self._clock()
        if self._deadline is not None and self._deadline[0] <= now:
            self._close(f"did not answer {self._deadline[1]} within {ANSWER_TIMEOUT_S:g} s")
        elif self._unanswered and next(iter(self._unanswered.values())) + SHARE_PATIENCE_S <= now:
            self._close(f"did not answer shares within {SHARE_PATIENCE_S:g} s")
        elif self.step is Step.AUTHORIZED and self._channel is not None and now >= self._next_update:
            self._next_update = now + _UPDATE_S
            rate = self._hash_rate()
            if rate > 0 and not self._told_rate / _UPDATE_CHANGE < rate < self._told_rate * _UPDATE_CHANGE:
                self._told_rate = rate
                payload = sv2.update_channel(self._channel, rate, self._easiest)
                self._send(Kind.UPDATE_CHANNEL, payload, for_channel=True)
        return self._take_events()

    def submit(self, work: ChannelWork, extranonce2: bytes, time: int, nonce: int, version: int) -> int | Unsent:
        """Submit a share of this work; the number that the answer will carry, or why it was not sent."""
        job = work.body.job
        if self._channel is None or self._jobs.get(job) is not work or self.step is not Step.AUTHORIZED:
            return Unsent.STALE
        share = (job, extranonce2, time, nonce, version & 0xFFFFFFFF)
        if share in self._submitted:
            return Unsent.DUPLICATE
        if len(self._submitted) >= SHARES_KEPT:
            self._submitted.clear()
        self._submitted.add(share)
        self._sequence += 1
        self._unanswered[self._sequence] = self._clock()
        extranonce = None if self._standard else extranonce2
        payload = sv2.submit_shares(self._channel, self._sequence, job, nonce, time, version, extranonce)
        kind = Kind.SUBMIT_SHARES_STANDARD if self._standard else Kind.SUBMIT_SHARES_EXTENDED
        self._send(kind, payload, for_channel=True)
        return self._sequence

    def goodbye(self) -> None:
        """We are leaving: close the channel."""
        if self._channel is not None and self.step is not Step.CLOSED:
            self._send(Kind.CLOSE_CHANNEL, sv2.close_channel(self._channel, "client-left"), for_channel=True)

    # --- the beginning ---

    @property
    def _easiest(self) -> int:
        """The easiest target that we want shares at."""
        return self._options.easiest_share_target

    def _shake_hands(self, handshake: Initiator, data: bytes) -> bytes:
        """Collect the server's answer; what follows it."""
        wanted = ANSWER_SIZE - len(self._early)
        self._early += data[:wanted]
        if len(self._early) < ANSWER_SIZE:
            return b""
        self._sender, receiver, _ = handshake.finish(self._early, self._wall_clock())
        self._decoder = FrameDecoder(receiver)
        self._handshake = None
        host, port = self._address.host, self._address.port
        self._send(Kind.SETUP_CONNECTION, sv2.setup_connection(host, port, 0, VENDOR, "", FIRMWARE))
        self._await("SetupConnection")
        return data[wanted:]

    def _on_setup(self, message: sv2.SetupSuccess) -> None:
        if self.step is not Step.CONNECTED:
            self._complain(Trouble.MALFORMED, "sets the connection up twice")
        elif message.version != sv2.PROTOCOL_VERSION:
            self._close(f"speaks version {message.version} of the protocol, not {sv2.PROTOCOL_VERSION}")
        else:
            self.step = Step.SUBSCRIBED
            self._server_flags = message.flags
            self._open_channel()

    def _open_channel(self) -> None:
        rate = self._hash_rate()
        self._told_rate = rate if rate > 0 else _FIRST_RATE
        self._request += 1
        kind = Kind.OPEN_STANDARD_MINING_CHANNEL if self._standard else Kind.OPEN_EXTENDED_MINING_CHANNEL
        size = None if self._standard else _EXTRANONCE_BYTES
        self._send(kind, sv2.open_channel(self._request, self._options.user, self._told_rate, self._easiest, size))
        self._await("the opening of a channel")

    def _on_opened(self, message: sv2.ChannelOpened) -> None:
        standard = message.extranonce_size is None
        if self.step is not Step.SUBSCRIBED or message.request != self._request or standard != self._standard:
            self._complain(Trouble.MALFORMED, "opens a channel that was not asked for")
            return
        size = message.extranonce_size or 0
        if not standard and not _EXTRANONCE_BYTES <= size <= 32:
            self._close(f"gives us {size} bytes of extranonce, which is not between {_EXTRANONCE_BYTES} and 32")
            return
        self._channel, self._group = message.channel, message.group
        self._prefix, self._extranonce_size = message.extranonce_prefix, size
        self._deadline = None
        self.step = Step.AUTHORIZED
        self._next_update = self._clock() + _FIRST_UPDATE_S
        self._events.append(Authorized())
        self._set_target(message.target)

    def _on_refused(self, message: sv2.ChannelRefused) -> None:
        code = clean_text(message.code, 100)
        if self.step is not Step.SUBSCRIBED or message.request != self._request:
            self._complain(Trouble.MALFORMED, "refuses a channel that was not asked for")
        elif code == _UNKNOWN_USER:
            self._close(f"refuses worker {clean_text(self._options.user, 60)} ({code})", refused=True)
        elif self._standard or self._server_flags & ServerFlags.REQUIRES_EXTENDED_CHANNELS:
            self._close(f"opens no channel for us ({code})")
        else:
            self._standard = True
            self._open_channel()

    # --- messages ---

    def _on_frame(self, frame: Frame) -> None:
        if self.step is Step.CLOSED:
            return
        now = self._clock()
        self._unasked.append(now)
        if len(self._unasked) > FLOOD_MESSAGES and now - self._unasked.popleft() < FLOOD_WINDOW_S:
            self._close("floods us with messages")
            return
        if frame.extension:
            return  # of an extension that we did not ask for
        try:
            message = sv2.parse(frame.kind, frame.payload)
        except BadMessage as error:
            name = Kind(frame.kind).name
            self._complain(Trouble.MALFORMED, f"sends a {name} that is none: {error}")
            return
        if message is not None:
            self._on_message(message)

    def _on_message(self, message: sv2.Message) -> None:
        match message:
            case sv2.SetupSuccess():
                self._on_setup(message)
            case sv2.SetupError(_, code):
                self._close(f"refuses the connection ({clean_text(code, 100)})")
            case sv2.ReconnectTo(host, port):
                self._events.append(Reconnect(host or None, port or None, 0.0))
            case sv2.ChannelOpened():
                self._on_opened(message)
            case sv2.ChannelRefused():
                self._on_refused(message)
            case sv2.GroupSet(group, channels):
                if self._channel in channels:
                    self._group = group
            case _ if message.channel not in (self._channel, self._group) or self._channel is None:
                self._complain(Trouble.MALFORMED, "sends a message for a channel that is not ours")
            case _:
                self._on_channel_message(message)

    def _on_channel_message(self, message: sv2.Message) -> None:
        match message:
            case sv2.StandardJob() | sv2.ExtendedJob():
                self._on_job(message)
            case sv2.NewPrevHash():
                self._on_prev_hash(message)
            case sv2.TargetSet(_, target):
                self._set_target(target)
            case sv2.ExtranoncePrefixSet(_, prefix):
                if len(prefix) != len(self._prefix):
                    self._complain(Trouble.MALFORMED, "changes the size of the extranonce prefix")
                else:
                    self._prefix = prefix
            case sv2.SharesAccepted(_, last, _, _):
                for number in [number for number in self._unanswered if number <= last]:
                    del self._unanswered[number]
                    self._events.append(ShareAnswer(number, None))
            case sv2.ShareRefused(_, number, code):
                if self._unanswered.pop(number, None) is None:
                    self._complain(Trouble.MALFORMED, "refuses a share that was not sent")
                else:
                    text = clean_text(code, 60)
                    self._events.append(ShareAnswer(number, Rejection(_CODES.get(code, 20), text, plain=True)))
            case sv2.ChannelClosed(_, reason):
                self._close(f"closed our channel ({clean_text(reason, 100) or 'no reason given'})")
            case sv2.UpdateRefused(_, code):
                self._complain(Trouble.MALFORMED, f"refuses what we say of our hash rate ({clean_text(code, 60)})")

    def _set_target(self, target: int) -> None:
        if not 0 < target <= _MAX_TARGET:
            self._complain(Trouble.DIFFICULTY, "sets a target of zero: no hash can be that hard")
            return
        self._target = min(target, self._easiest)
        self._future = {job: replace(work, share_target=self._target) for job, work in self._future.items()}
        self._events.append(DifficultySet(difficulty_of_target(target)))

    def _on_job(self, message: sv2.StandardJob | sv2.ExtendedJob) -> None:
        try:
            work = self._work_of(message)
            if message.min_ntime is None:
                while len(self._future) >= JOBS_KEPT:
                    del self._future[next(iter(self._future))]
                self._future[message.job] = work
                return
            if self._prev is None:
                raise BadJob("it came before any previous hash")
            check_bits(self._prev.nbits, self._options.easiest_target)
        except BadJob as error:
            self._complain(Trouble.BAD_JOB, f"sends a job that cannot be mined: {error}")
            return
        prev = self._prev
        self._mine(replace(work, prev_hash=prev.prev_hash, nbits=prev.nbits, min_ntime=message.min_ntime), clean=False)

    def _work_of(self, message: sv2.StandardJob | sv2.ExtendedJob) -> ChannelWork:
        """The job under what is in force; its previous hash is still to come. Raises BadJob."""
        if not self._target:
            raise BadJob("there is no target for its shares")
        size = 0 if self._standard else self._extranonce_size
        rolling = not self._server_flags & ServerFlags.REQUIRES_FIXED_VERSION
        if isinstance(message, sv2.ExtendedJob):
            check_coinbase(message.coinbase_prefix, self._prefix + bytes(size), message.coinbase_suffix)
            rolling = rolling and message.version_rolling
        elif not self._standard:
            raise BadJob("it is a standard job on an extended channel")
        return ChannelWork(
            body=message,
            prev_hash=bytes(32),
            nbits=0,
            min_ntime=0,
            received_at=self._clock(),
            extranonce1=self._prefix,
            extranonce2_size=size,
            share_target=self._target,
            version_mask=self._options.version_mask if rolling else 0,
        )

    def _on_prev_hash(self, message: sv2.NewPrevHash) -> None:
        """From now on only this job is worth anything (§5.3.17)."""
        self._prev = message
        work = self._future.get(message.job)
        self._future.clear()
        self._jobs.clear()
        self._submitted.clear()
        if work is None:
            self._close("names a job for the new block that it has not sent")
            return
        try:
            check_bits(message.nbits, self._options.easiest_target)
        except BadJob as error:
            self._complain(Trouble.BAD_JOB, f"sends a job that cannot be mined: {error}")
            self._close("starts a new block that cannot be mined")  # and takes nothing for the old one any more
            return
        work = replace(
            work,
            prev_hash=message.prev_hash,
            nbits=message.nbits,
            min_ntime=message.min_ntime,
            received_at=self._clock(),
        )
        self._mine(work, clean=True)

    def _mine(self, work: ChannelWork, *, clean: bool) -> None:
        self._jobs.pop(work.body.job, None)
        while len(self._jobs) >= JOBS_KEPT:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[work.body.job] = work
        self._events.append(NewWork(work, clean))

    # --- bookkeeping ---

    def _send(self, kind: Kind, payload: bytes, *, for_channel: bool = False) -> None:
        if self._sender is not None:
            self._output += encode_frame(self._sender, kind, payload, for_channel=for_channel)

    def _await(self, what: str) -> None:
        self._deadline = self._clock() + ANSWER_TIMEOUT_S, what

    def _complain(self, trouble: Trouble, text: str) -> None:
        self._complaints += 1
        self._events.append(Complaint(trouble, text))
        if self._complaints > MAX_COMPLAINTS:
            self._close(f"sends too much nonsense; the last: {text}")

    def _close(self, reason: str, refused: bool = False) -> None:
        if self.step is not Step.CLOSED:
            self.step = Step.CLOSED
            self._deadline = None
            self._unanswered.clear()
            self._events.append(Closed(reason, refused))

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
