"""Jobs whose answers are known, so that an unscaled chain can answer truthfully without 2^32 hashes (REFERENCE.md
§11.1, §18)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from miner.asic.bm13xx.models.model import ChipModel
from miner.asic.emulator.hashing import midstate
from miner.asic.emulator.wire import Work

#: Header without version and nonce, then (version, nonce as on the wire) of difficulty-1 hashes.
_ANSWERS: tuple[tuple[str, tuple[tuple[int, str], ...]], ...] = (
    (
        "fd55646bc162b96dfcd4f201a3f4670d1d3996bc96520100000000000000000006ddf5f08c36414b95ea54db71a0c28761a98bcf6355919e"
        "044f88725519a7cbd7685468043a0217",
        ((0x20B44000, "4c035275"), (0x20000000, "8148d7f8"), (0x20000000, "99c889a1")),
    ),
    (
        "4595850c738349a3fa5274a511b72ec265a4f23d5243050000000000000000005bdc1968499c3393873edf8e07a1c3a50a97fc3a9d1a376b"
        "bf77087dd63778ebb52570643aae0517",
        ((0x20000004, "3699effc"), (0x20000004, "d19e020a")),
    ),
)


def known_answers(work: Work, model: ChipModel, version_field_mask: int) -> Iterator[tuple[int, int, int, int]]:
    """(slot, version field, nonce, leading zero bits) for each known answer that a job allows."""
    for body_hex, answers in _ANSWERS:
        body = bytes.fromhex(body_hex)
        if body[60:] != work.tail:
            continue
        for version, wire in answers:
            head = version.to_bytes(4, "little") + body[:60]
            nonce = bytes.fromhex(wire)
            digest = hashlib.sha256(hashlib.sha256(head + work.tail + nonce).digest()).digest()
            zeros = 256 - int.from_bytes(digest, "little").bit_length()
            number = int.from_bytes(nonce, "little")
            rolled = (version ^ work.version) >> 13 & 0xFFFF
            if work.midstates:
                if midstate(head) in work.midstates:
                    yield work.midstates.index(midstate(head)), 0, number, zeros
            elif work.head == head[4:] and work.version | rolled << 13 == version and not rolled & ~version_field_mask:
                yield rolled % model.sub_cores, rolled, number, zeros
