"""Partial merkle trees: what is proven comes out, anything altered does not."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives.errors import DecodeError
from chain.primitives.merkle import merkle_root
from node.rpc.merkle_proof import MerkleProof

HEADER = bytes(36) + b"R" * 32 + bytes(12)


@given(st.integers(1, 40), st.data())
def test_a_proof_leads_to_the_root_and_names_what_it_proves(count: int, data: st.DataObject) -> None:
    txids = [sha256(bytes([n])).digest() for n in range(count)]
    wanted = data.draw(st.sets(st.sampled_from(txids), min_size=1))
    proof = MerkleProof.parse(MerkleProof.build(HEADER, txids, wanted).serialize())
    root, matched = proof.extract()
    assert root == merkle_root(txids)[0]
    assert [txid for _, txid in matched] == [txid for txid in txids if txid in wanted]
    assert [position for position, _ in matched] == [i for i, txid in enumerate(txids) if txid in wanted]


def test_an_altered_hash_gives_another_root(rng: random.Random) -> None:
    txids = [rng.randbytes(32) for _ in range(9)]
    raw = bytearray(MerkleProof.build(HEADER, txids, {txids[4]}).serialize())
    raw[90] ^= 1
    root, _ = MerkleProof.parse(bytes(raw)).extract()
    assert root != merkle_root(txids)[0]


def test_malformed_proofs(rng: random.Random) -> None:
    txids = [rng.randbytes(32) for _ in range(5)]
    proof = MerkleProof.build(HEADER, txids, {txids[0]})
    raw = proof.serialize()
    with pytest.raises(DecodeError):
        MerkleProof.parse(raw[:-1])
    with pytest.raises(DecodeError):
        MerkleProof.parse(raw + b"\0")
    proof.hashes.append(bytes(32))
    assert proof.extract() == (None, [])
    assert MerkleProof(HEADER, 0, [], []).extract() == (None, [])


def test_two_equal_branches_prove_nothing() -> None:
    """CVE-2012-2459: a tree whose last pair repeats has the root of a shorter one."""
    leaf = b"\x11" * 32
    proof = MerkleProof(HEADER, 2, [leaf, leaf], [True, True, True, False, False, False, False, False])
    assert proof.extract() == (None, [])
