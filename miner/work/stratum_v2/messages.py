"""The messages of the mining protocol (§3.6, §5.3, §8): those that a client sends as bytes, those that it gets as
values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TypeAlias

from miner.work.stratum_v2.wire import Reader, counted, f32, integer, text

PROTOCOL_VERSION = 2
_MINING_PROTOCOL = 0


class Kind(IntEnum):
    """Message types (§8)."""

    SETUP_CONNECTION = 0x00
    SETUP_CONNECTION_SUCCESS = 0x01
    SETUP_CONNECTION_ERROR = 0x02
    CHANNEL_ENDPOINT_CHANGED = 0x03
    RECONNECT = 0x04
    OPEN_STANDARD_MINING_CHANNEL = 0x10
    OPEN_STANDARD_MINING_CHANNEL_SUCCESS = 0x11
    OPEN_MINING_CHANNEL_ERROR = 0x12
    OPEN_EXTENDED_MINING_CHANNEL = 0x13
    OPEN_EXTENDED_MINING_CHANNEL_SUCCESS = 0x14
    NEW_MINING_JOB = 0x15
    UPDATE_CHANNEL = 0x16
    UPDATE_CHANNEL_ERROR = 0x17
    CLOSE_CHANNEL = 0x18
    SET_EXTRANONCE_PREFIX = 0x19
    SUBMIT_SHARES_STANDARD = 0x1A
    SUBMIT_SHARES_EXTENDED = 0x1B
    SUBMIT_SHARES_SUCCESS = 0x1C
    SUBMIT_SHARES_ERROR = 0x1D
    NEW_EXTENDED_MINING_JOB = 0x1F
    SET_NEW_PREV_HASH = 0x20
    SET_TARGET = 0x21
    SET_GROUP_CHANNEL = 0x25


class ServerFlags(IntFlag):
    """What a server insists on (§5.3.1)."""

    REQUIRES_FIXED_VERSION = 1
    REQUIRES_EXTENDED_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class SetupSuccess:
    """The version and the server's flags."""

    version: int
    flags: int


@dataclass(frozen=True, slots=True)
class SetupError:
    """The flags that the server does not know, and its code."""

    flags: int
    code: str


@dataclass(frozen=True, slots=True)
class ReconnectTo:
    """Elsewhere; empty and 0 for where we are."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """A channel; `extranonce_size` None for a standard one."""

    request: int
    channel: int
    target: int
    extranonce_prefix: bytes
    extranonce_size: int | None
    group: int


@dataclass(frozen=True, slots=True)
class ChannelRefused:
    """No channel, and why."""

    request: int
    code: str


@dataclass(frozen=True, slots=True)
class StandardJob:
    """NewMiningJob: a merkle root. `min_ntime` None: for a previous hash that is still to come."""

    channel: int
    job: int
    min_ntime: int | None
    version: int
    merkle_root: bytes


@dataclass(frozen=True, slots=True)
class ExtendedJob:
    """NewExtendedMiningJob: a coinbase around an extranonce, and the path to the root."""

    channel: int
    job: int
    min_ntime: int | None
    version: int
    version_rolling: bool
    merkle_path: tuple[bytes, ...]
    coinbase_prefix: bytes
    coinbase_suffix: bytes


@dataclass(frozen=True, slots=True)
class NewPrevHash:
    """A new block: only this job is valid now."""

    channel: int
    job: int
    prev_hash: bytes
    min_ntime: int
    nbits: int


@dataclass(frozen=True, slots=True)
class TargetSet:
    """The easiest hash that counts, from the next job on."""

    channel: int
    target: int


@dataclass(frozen=True, slots=True)
class ExtranoncePrefixSet:
    """The fixed part of the extranonce, from the next job on."""

    channel: int
    prefix: bytes


@dataclass(frozen=True, slots=True)
class SharesAccepted:
    """All shares up to this number that were not refused; `difficulty`: what they were worth together."""

    channel: int
    last: int
    count: int
    difficulty: int


@dataclass(frozen=True, slots=True)
class ShareRefused:
    """One share, and why."""

    channel: int
    number: int
    code: str


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """The channel is no more."""

    channel: int
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """What we said of our hash rate or target was no good."""

    channel: int
    code: str


@dataclass(frozen=True, slots=True)
class GroupSet:
    """These channels now belong to this group."""

    group: int
    channels: tuple[int, ...]


Message: TypeAlias = (
    SetupSuccess
    | SetupError
    | ReconnectTo
    | ChannelOpened
    | ChannelRefused
    | StandardJob
    | ExtendedJob
    | NewPrevHash
    | TargetSet
    | ExtranoncePrefixSet
    | SharesAccepted
    | ShareRefused
    | ChannelClosed
    | UpdateRefused
    | GroupSet
)

#: What a client may get. Bytes after the last field belong to extensions (§3.4.3) and are left alone.
_PARSERS: dict[int, Callable[[Reader], Message]] = {
    Kind.SETUP_CONNECTION_SUCCESS: lambda r: SetupSuccess(r.integer(2), r.integer(4)),
    Kind.SETUP_CONNECTION_ERROR: lambda r: SetupError(r.integer(4), r.text()),
    Kind.RECONNECT: lambda r: ReconnectTo(r.text(), r.integer(2)),
    Kind.OPEN_STANDARD_MINING_CHANNEL_SUCCESS: lambda r: _standard_opened(r),
    Kind.OPEN_EXTENDED_MINING_CHANNEL_SUCCESS: lambda r: _extended_opened(r),
    Kind.OPEN_MINING_CHANNEL_ERROR: lambda r: ChannelRefused(r.integer(4), r.text()),
    Kind.NEW_MINING_JOB: lambda r: StandardJob(r.integer(4), r.integer(4), r.option_u32(), r.integer(4), r.take(32)),
    Kind.NEW_EXTENDED_MINING_JOB: lambda r: ExtendedJob(
        *(r.integer(4), r.integer(4), r.option_u32(), r.integer(4), r.boolean(), r.hashes()),
        coinbase_prefix=r.counted(2, 0xFFFF),
        coinbase_suffix=r.counted(2, 0xFFFF),
    ),
    Kind.SET_NEW_PREV_HASH: lambda r: NewPrevHash(r.integer(4), r.integer(4), r.take(32), r.integer(4), r.integer(4)),
    Kind.SET_TARGET: lambda r: TargetSet(r.integer(4), r.integer(32)),
    Kind.SET_EXTRANONCE_PREFIX: lambda r: ExtranoncePrefixSet(r.integer(4), r.counted(1, 32)),
    Kind.SUBMIT_SHARES_SUCCESS: lambda r: SharesAccepted(r.integer(4), r.integer(4), r.integer(4), r.integer(8)),
    Kind.SUBMIT_SHARES_ERROR: lambda r: ShareRefused(r.integer(4), r.integer(4), r.text()),
    Kind.CLOSE_CHANNEL: lambda r: ChannelClosed(r.integer(4), r.text()),
    Kind.UPDATE_CHANNEL_ERROR: lambda r: UpdateRefused(r.integer(4), r.text()),
    Kind.SET_GROUP_CHANNEL: lambda r: GroupSet(r.integer(4), r.numbers()),
}


def parse(kind: int, payload: bytes) -> Message | None:
    """The message, None for one that means nothing to a client; raises BadMessage."""
    parser = _PARSERS.get(kind)
    return None if parser is None else parser(Reader(payload))


def _standard_opened(r: Reader) -> ChannelOpened:
    request, channel, target, prefix = r.integer(4), r.integer(4), r.integer(32), r.counted(1, 32)
    return ChannelOpened(request, channel, target, prefix, None, r.integer(4))


def _extended_opened(r: Reader) -> ChannelOpened:
    request, channel, target, size = r.integer(4), r.integer(4), r.integer(32), r.integer(2)
    return ChannelOpened(request, channel, target, r.counted(1, 32), size, r.integer(4))


# --- what a client sends ---


def setup_connection(host: str, port: int, flags: int, vendor: str, hardware: str, firmware: str) -> bytes:
    """SetupConnection for the mining protocol; no device id, which is telemetry (§3.6.1)."""
    numbers = bytes([_MINING_PROTOCOL]) + 2 * integer(PROTOCOL_VERSION, 2) + integer(flags, 4)
    return numbers + text(host) + integer(port, 2) + text(vendor) + text(hardware) + text(firmware) + text("")


def open_channel(request: int, user: str, hash_rate: float, max_target: int, min_extranonce: int | None) -> bytes:
    """OpenStandardMiningChannel, or OpenExtendedMiningChannel where an extranonce is wanted."""
    payload = integer(request, 4) + text(user) + f32(hash_rate) + integer(max_target, 32)
    return payload if min_extranonce is None else payload + integer(min_extranonce, 2)


def update_channel(channel: int, hash_rate: float, max_target: int) -> bytes:
    """UpdateChannel."""
    return integer(channel, 4) + f32(hash_rate) + integer(max_target, 32)


def close_channel(channel: int, reason: str) -> bytes:
    """CloseChannel."""
    return integer(channel, 4) + text(reason)


def submit_shares(
    channel: int, number: int, job: int, nonce: int, ntime: int, version: int, extranonce: bytes | None
) -> bytes:
    """SubmitSharesStandard, or SubmitSharesExtended with an extranonce."""
    fields = (channel, number, job, nonce, ntime, version & 0xFFFFFFFF)
    payload = b"".join(integer(value, 4) for value in fields)
    return payload if extranonce is None else payload + counted(extranonce, 1)
