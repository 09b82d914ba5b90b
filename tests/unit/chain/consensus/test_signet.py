"""Signet solutions (BIP325): a real block, the same one tampered with, and challenges of our own."""

from __future__ import annotations

import random

import pytest

from chain.consensus.block import check_block, contextual_check_block
from chain.consensus.errors import ConsensusError
from chain.consensus.signet import SIGNET_HEADER, check_signet_solution, signet_transactions
from chain.index import HeaderIndex
from chain.params import REGTEST, SIGNET, signet_with_challenge
from chain.primitives.block import Block
from chain.primitives.merkle import merkle_root
from chain.primitives.transaction import TxOut
from chain.primitives.types import Amount
from chain.script.script import push_data
from tests.support.blocks import coinbase, commit, make_block

# Signet's block 1
BLOCK_1 = bytes.fromhex(
    "00000020f61eee3b63a380a477a063af32b2bbc97c9ff9f01f2c4225e973988108000000f575c83235984e7dc4afc1f30944c170462e84437ab6"
    "f2d52e16878a79e4678bd1914d5fae77031eccf40700010100000000010100000000000000000000000000000000000000000000000000000000"
    "00000000ffffffff025151feffffff0200f2052a010000001600149243f727dd5343293eb83174324019ec16c2630f0000000000000000776a24"
    "aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf94c4fecc7daa2490047304402205e423a8754336ca99d"
    "be16509b877ef1bf98d008836c725005b3c787c41ebe46022047246e4467ad7cc7f1ad98662afcaf14c115e0095a227c7b05c5182591c23e7e01"
    "000120000000000000000000000000000000000000000000000000000000000000000000000000"
)
OP_TRUE = b"\x51"


def test_a_real_block() -> None:
    block = Block.parse(BLOCK_1)
    index = HeaderIndex(SIGNET)
    check_block(block, SIGNET)
    contextual_check_block(block, index.genesis, SIGNET)
    assert check_signet_solution(SIGNET.genesis, SIGNET)
    assert check_signet_solution(block, REGTEST)  # a network without a challenge asks for no solution


def test_any_flipped_bit_of_what_is_signed_is_caught(rng: random.Random) -> None:
    """Header up to the time (the merkle root made to fit), the coinbase, and the signature itself."""
    start = BLOCK_1.index(SIGNET_HEADER)
    for _ in range(60):
        at = rng.choice([rng.randrange(0, 36), rng.randrange(68, 72), rng.randrange(start + 12, start + 74)])
        raw = bytearray(BLOCK_1)
        raw[at] ^= 1 << rng.randrange(8)
        assert not check_signet_solution(Block.parse(bytes(raw)), SIGNET), at
    for at in (start - 70, start - 40):  # commitment and coinbase output
        raw = bytearray(BLOCK_1)
        raw[at] ^= 1
        block = Block.parse(bytes(raw))
        raw[36:68] = merkle_root([tx.txid for tx in block.transactions])[0]
        assert not check_signet_solution(Block.parse(bytes(raw)), SIGNET), at


def test_the_signature_does_not_cover_nonce_and_target() -> None:
    raw = bytearray(BLOCK_1)
    raw[72:80] = bytes(8)
    assert check_signet_solution(Block.parse(bytes(raw)), SIGNET)


def test_refusal_has_cores_reason() -> None:
    other = signet_with_challenge(b"\x00")  # nobody can solve OP_0
    with pytest.raises(ConsensusError) as caught:
        check_block(Block.parse(BLOCK_1), other)
    assert str(caught.value) == "bad-signet-blksig, signet block signature validation failure"


def with_solution(solution: bytes | None) -> Block:
    index = HeaderIndex(REGTEST)
    txs = [coinbase(1)]
    script = commit(txs).script_pubkey
    if solution is not None:
        script += push_data(SIGNET_HEADER + solution)
    txs = [coinbase(1, [TxOut(Amount(0), script)], witness=(bytes(32),))]
    return make_block(index.genesis, REGTEST, txs)


def test_trivial_challenges_need_no_solution_but_a_commitment() -> None:
    params = signet_with_challenge(OP_TRUE)
    assert params.magic != SIGNET.magic
    assert check_signet_solution(with_solution(None), params)
    index = HeaderIndex(REGTEST)
    assert not check_signet_solution(make_block(index.genesis, REGTEST, [coinbase(1)]), params)
    assert signet_transactions(with_solution(None), OP_TRUE) is not None


def test_malformed_solutions() -> None:
    params = signet_with_challenge(b"\x51\x9d\x51")  # OP_1 OP_NUMEQUALVERIFY OP_1: the scriptSig must push 1
    assert check_signet_solution(with_solution(b"\x01\x51\x00"), params)
    assert not check_signet_solution(with_solution(b"\x01\x52\x00"), params)
    for solution in (
        b"\x01\x51",  # no witness count
        b"\x01\x51\x00\x00",  # a byte too many
        b"\x05\x51",  # cut short
        b"\x01\x51\x01",  # cut short in the witness
        b"\xfd\x01\x00\x51\x00",  # a length that is not minimal
    ):
        assert not check_signet_solution(with_solution(solution), params), solution.hex()
    assert not check_signet_solution(with_solution(b"\x01\x51\x01\x00"), params)  # unexpected witness
