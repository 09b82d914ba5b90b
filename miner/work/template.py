"""A getblocktemplate answer (BIP22, BIP23, BIP145), checked and turned into a job; and a share turned into a block."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from chain.crypto.hashes import sha256d
from chain.primitives.amount import MAX_MONEY
from chain.primitives.merkle import merkle_branch
from chain.primitives.serialize import write_compact_size
from chain.primitives.target import target_from_nbits
from chain.primitives.types import ZERO_HASH, hash_from_hex
from miner.work.coinbase import EXTRANONCE_SIZE, TAG, CoinbaseParts, build_coinbase, witness_commitment_script
from miner.work.job import OWN_SHARE_TARGET, VERSION_ROLLING_MASK, Job

EXTRANONCE1_SIZE = 4
#: Rules that a miner must know to build a valid block, marked so by the node (BIP9), and that we know.
_KNOWN_REQUIRED_RULES = {"segwit"}
#: Seconds that the time may be rolled past the template's. Versions are rolled first, so only a fast device comes here.
_TIME_ROLL_S = 60


class BadTemplate(Exception):
    """The node's template cannot be mined; one line saying why."""


@dataclass(frozen=True, slots=True)
class Template:
    """What submission needs to know of a template, and what is left to check of it. `data_hex`: the transactions after
    the coinbase as the node wrote them; `wtxids`: their hashes as it says; `commitment`: the witness commitment's
    script that it gave, None for none; `node`: which of the nodes it is of."""

    data_hex: tuple[str, ...]
    wtxids: tuple[bytes, ...]
    commitment: bytes | None
    longpoll_id: str | None
    work_id: str | None
    prev_hash: bytes
    node: int = 0

    def check(self) -> None:
        """Each transaction against its hash, and the witness commitment against all; raises BadTemplate. Tens of
        milliseconds for a full block: long enough for devices to begin meanwhile."""
        for number, (data, wtxid) in enumerate(zip(self.data_hex, self.wtxids, strict=True), 1):
            try:
                raw = bytes.fromhex(data)
            except ValueError:
                raise BadTemplate(f"transaction {number} of the node's template is not hexadecimal") from None
            if sha256d(raw) != wtxid:
                raise BadTemplate(
                    f"transaction {number} of the node's template does not have the hash it is listed with"
                )
        if self.commitment is not None and self.commitment != witness_commitment_script(self.wtxids):
            raise BadTemplate("the witness commitment of the node's template is not that of its transactions")


def job_from_template(
    answer: Any,
    payout: bytes,
    *,
    version_rolling: bool = True,
    extranonce1: bytes = b"",
    check: bool = True,
    node: int = 0,
) -> Job:
    """Check a getblocktemplate result and build the job that mines it to `payout`; raises BadTemplate.

    Checked: all fields and their ranges, the target against the bits, and that we know every rule the node insists on;
    then `Template.check`, unless that is left for later.
    """
    if not isinstance(answer, dict):
        raise BadTemplate("the node's template is not an object")
    rules = answer.get("rules", [])
    if isinstance(rules, list):
        unknown = sorted(
            rule for rule in map(str, rules) if rule.startswith("!") and rule[1:] not in _KNOWN_REQUIRED_RULES
        )
        if unknown:
            raise BadTemplate(f"the network requires a rule that this miner does not know: {unknown[0][1:40]}")
    try:
        job = _build_job(answer, payout, version_rolling, extranonce1, node)
        if check:
            job.origin.check()
        return job
    except KeyError as error:
        raise BadTemplate(f"the node's template lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise BadTemplate(f"the node's template is malformed: {error}") from None


def _build_job(answer: dict[str, Any], payout: bytes, version_rolling: bool, extranonce1: bytes, node: int) -> Job:
    height = _integer(answer, "height", 0, 0x7FFFFFFF)
    nbits = int.from_bytes(_hex(answer, "bits", 4), "big")
    target = target_from_nbits(nbits)
    if target is None:
        raise BadTemplate(f"the node's template has impossible bits {nbits:08x}")
    if "target" in answer and int.from_bytes(_hex(answer, "target", 32), "big") != target:
        raise BadTemplate("the target of the node's template is not that of its bits")
    prev_hash = hash_from_hex(answer["previousblockhash"])
    time = _integer(answer, "curtime", 0, 0xFFFFFFFF)
    time = max(time, _integer(answer, "mintime", 0, 0xFFFFFFFF) if "mintime" in answer else 0)
    version = _integer(answer, "version", -0x80000000, 0xFFFFFFFF)

    entries = answer["transactions"]
    if not isinstance(entries, list):
        raise BadTemplate("the node's template is malformed: transactions is not a list")
    data_hex, txids, wtxids = _transactions(entries)
    commitment = None
    if answer.get("default_witness_commitment") is not None:
        commitment = _hex(answer, "default_witness_commitment")
    coinbase = _coinbase(answer, height, payout, txids, wtxids, commitment)
    work_id = answer.get("workid")
    longpoll_id = answer.get("longpollid")
    return Job(
        height=height,
        version=version,
        version_mask=VERSION_ROLLING_MASK if version_rolling else 0,
        prev_hash=prev_hash,
        nbits=nbits,
        time=time,
        max_time=min(
            time + _TIME_ROLL_S, _integer(answer, "maxtime", 0, 0xFFFFFFFF) if "maxtime" in answer else 0xFFFFFFFF
        ),
        target=target,
        share_target=max(target, OWN_SHARE_TARGET),
        coinbase=coinbase,
        merkle_branch=tuple(merkle_branch([ZERO_HASH, *txids], 0)),
        extranonce1=extranonce1 or os.urandom(EXTRANONCE1_SIZE),
        extranonce2_size=EXTRANONCE_SIZE - EXTRANONCE1_SIZE,
        single_solution=True,
        origin=Template(
            tuple(data_hex),
            tuple(wtxids),
            commitment,
            longpoll_id if isinstance(longpoll_id, str) else None,
            work_id if isinstance(work_id, str) else None,
            prev_hash,
            node,
        ),
    )


def _transactions(entries: list[Any]) -> tuple[list[str], list[bytes], list[bytes]]:
    """The transactions as hexadecimal digits, their txids and wtxids."""
    data_hex, txids, wtxids = [], [], []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise BadTemplate(f"the node's template is malformed: transaction {number} is not an object")
        data = entry["data"]
        if not isinstance(data, str):
            raise BadTemplate(f"the node's template is malformed: transaction {number} is not text")
        wtxid = hash_from_hex(entry["hash"])
        data_hex.append(data)
        wtxids.append(wtxid)
        txids.append(hash_from_hex(entry["txid"]) if "txid" in entry else wtxid)
    return data_hex, txids, wtxids


def _coinbase(
    answer: dict[str, Any],
    height: int,
    payout: bytes,
    txids: list[bytes],
    wtxids: list[bytes],
    commitment: bytes | None,
) -> CoinbaseParts:
    if commitment is None and wtxids != txids:
        commitment = witness_commitment_script(wtxids)
    extra = TAG
    auxiliary = answer.get("coinbaseaux")
    if isinstance(auxiliary, dict):
        flags = b"".join(bytes.fromhex(value) for value in auxiliary.values() if isinstance(value, str))
        extra = flags[:32] + extra
    value = _integer(answer, "coinbasevalue", 0, MAX_MONEY)
    return build_coinbase(height, value, payout, commitment, extra)


def solved_block(job: Job, extranonce2: int, header: bytes) -> bytes:
    """The serialized block of a solution."""
    template: Template = job.origin
    coinbase = job.coinbase.serialized(job.extranonce(extranonce2))
    transactions = map(bytes.fromhex, template.data_hex)
    return b"".join([header, write_compact_size(1 + len(template.data_hex)), coinbase, *transactions])


def _integer(answer: dict[str, Any], name: str, low: int, high: int) -> int:
    value = answer[name]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadTemplate(f"the node's template has an impossible {name}: {str(value)[:40]}")
    return value


def _hex(answer: dict[str, Any], name: str, size: int | None = None) -> bytes:
    data = bytes.fromhex(answer[name])
    if size is not None and len(data) != size:
        raise BadTemplate(f"the node's template has {len(data)} bytes of {name}, not {size}")
    return data
