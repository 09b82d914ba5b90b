"""mining.notify, checked, and the job that it makes together with what the session knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from chain.primitives.errors import DecodeError
from chain.primitives.target import DIFFICULTY_1_TARGET, target_from_nbits
from chain.primitives.transaction import Transaction
from miner.work.coinbase import CoinbaseParts
from miner.work.job import Job
from miner.work.stratum.messages import clean_text

#: Seconds that the time may be rolled past the pool's. Pools take some minutes more, but our own networks allow only
#: 600 s ahead of the clock (max_future_drift_s), and a pool's time may be ahead already.
TIME_ROLL_S = 60
MAX_EXTRANONCE1_BYTES = 32
MAX_EXTRANONCE2_BYTES = 16
_MAX_JOB_ID = 128
_MAX_BRANCHES = 24  # more transactions than 2**24 fit no block
_MAX_TARGET = (1 << 256) - 1


class BadJob(ValueError):
    """A message that cannot be mined on; one clause saying why."""


@dataclass(frozen=True, slots=True)
class Notify:
    """The parameters of mining.notify as bytes and integers; `prev_hash` in internal order."""

    job_id: str
    prev_hash: bytes
    coinbase1: bytes
    coinbase2: bytes
    merkle_branch: tuple[bytes, ...]
    version: int
    nbits: int
    time: int
    clean: bool


@dataclass(frozen=True, slots=True)
class Work:
    """A notify and what was in force with it: everything that a job and its shares depend on."""

    notify: Notify
    extranonce1: bytes
    extranonce2_size: int
    difficulty: float
    share_target: int
    version_mask: int

    def job(self, prefix: bytes, origin: Any) -> Job:
        """See build_job."""
        return build_job(self, prefix, origin)


def parse_notify(params: list[Any]) -> Notify:
    """Check the parameters of mining.notify; raises BadJob."""
    if len(params) < 9:
        raise BadJob(f"it has {len(params)} fields, not 9")
    job_id, prev_hash, coinbase1, coinbase2, branch, version, nbits, time, clean = params[:9]
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID:
        raise BadJob("its number is not text")
    if not isinstance(branch, list) or len(branch) > _MAX_BRANCHES:
        raise BadJob("its merkle branch is not a list that fits a block")
    if not isinstance(clean, bool):
        raise BadJob("its last field is neither true nor false")
    return Notify(
        job_id,
        swap_words(hex_field(prev_hash, "previous hash", 32)),
        hex_field(coinbase1, "coinbase"),
        hex_field(coinbase2, "coinbase"),
        tuple(hex_field(entry, "merkle branch", 32) for entry in branch),
        int.from_bytes(hex_field(version, "version", 4)),
        int.from_bytes(hex_field(nbits, "nbits", 4)),
        int.from_bytes(hex_field(time, "time", 4)),
        clean,
    )


def check_work(work: Work, easiest_target: int) -> None:
    """Raise BadJob for work whose blocks nobody would take: an impossible target, one easier than the network's
    easiest, or a coinbase that is no coinbase transaction."""
    check_bits(work.notify.nbits, easiest_target)
    check_coinbase(work.notify.coinbase1, work.extranonce1 + bytes(work.extranonce2_size), work.notify.coinbase2)


def check_bits(nbits: int, easiest_target: int) -> None:
    """Raise BadJob for an impossible target, or one easier than the network's easiest."""
    target = target_from_nbits(nbits)
    if target is None:
        raise BadJob(f"its bits {nbits:08x} are impossible")
    if target > easiest_target:
        raise BadJob(f"its bits {nbits:08x} are easier than this network allows: is the pool on another?")


def check_coinbase(before: bytes, extranonce: bytes, after: bytes) -> None:
    """Raise BadJob unless these make a coinbase transaction without witness."""
    try:
        coinbase = Transaction.parse(before + extranonce + after)
    except DecodeError as error:
        raise BadJob(f"its coinbase is no transaction ({clean_text(error, 80)})") from None
    if not coinbase.is_coinbase or coinbase.has_witness:
        raise BadJob("its coinbase is not a coinbase transaction without witness")


def build_job(work: Work, prefix: bytes = b"", origin: Any = None) -> Job:
    """The job for checked work.

    `prefix`: leading bytes of extranonce2, kept out of the search so that the same work published again is searched
    elsewhere. A block must meet both targets: a hash that the network would take but the pool would not is no share.
    """
    notify = work.notify
    network_target = target_from_nbits(notify.nbits) or 0
    return Job(
        height=coinbase_height(notify.coinbase1 + work.extranonce1 + bytes(work.extranonce2_size)) or 0,
        version=notify.version,
        version_mask=work.version_mask,
        prev_hash=notify.prev_hash,
        nbits=notify.nbits,
        time=notify.time,
        max_time=min(notify.time + TIME_ROLL_S, 0xFFFFFFFF),
        target=min(network_target, work.share_target),
        share_target=work.share_target,
        coinbase=CoinbaseParts(notify.coinbase1, notify.coinbase2, has_witness=False),
        merkle_branch=notify.merkle_branch,
        extranonce1=work.extranonce1 + prefix,
        extranonce2_size=work.extranonce2_size - len(prefix),
        single_solution=False,
        origin=origin,
    )


def parse_difficulty(value: object) -> float:
    """A difficulty as pools send it: any positive number that some hash can meet. Raises BadJob."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadJob("it is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise BadJob("it is not a positive finite number")
    if target_of_share(number) == 0:
        raise BadJob("no hash can be that hard")
    return number


def target_of_share(difficulty: float) -> int:
    """The largest hash, as a 256-bit integer, that is a share at this pool difficulty: (0xFFFF << 208) / difficulty,
    exactly, rounded down."""
    return min(_MAX_TARGET, int(DIFFICULTY_1_TARGET / Fraction(difficulty)))


def swap_words(data: bytes) -> bytes:
    """Reverse the bytes inside every 4-byte word: Stratum's order of the previous hash to internal order and back."""
    return b"".join(data[index : index + 4][::-1] for index in range(0, len(data), 4))


def hex_field(value: object, name: str, size: int | None = None) -> bytes:
    """A field of hexadecimal digits, nothing else; raises BadJob."""
    if not isinstance(value, str) or (size is not None and len(value) != 2 * size) or not value.isascii():
        raise BadJob(f"its {name} is not {'hexadecimal' if size is None else f'{2 * size} hexadecimal digits'}")
    try:
        data = bytes.fromhex(value)
    except ValueError:
        data = b""
    if 2 * len(data) != len(value):  # fromhex skips blanks
        raise BadJob(f"its {name} is not hexadecimal")
    return data


def coinbase_height(coinbase_start: bytes) -> int | None:
    """The height that leads a coinbase's input script (BIP34), from the transaction's first bytes; None where it cannot
    be read."""
    script = coinbase_start[4 + 1 + 36 + 1 :]  # version, input count, null outpoint, script length below 253
    if not script:
        return None
    size = script[0]
    if size == 0:
        return 0
    if 0x51 <= size <= 0x60:
        return size - 0x50
    if size > 4 or len(script) <= size:
        return None
    return int.from_bytes(script[1 : 1 + size], "little")
