"""Header rules and context-free block rules against libbitcoinkernel's: the same verdict on what a seeded generator
makes and damages.

PICKAXE_DIFFERENTIAL_HEADERS and PICKAXE_DIFFERENTIAL_CHECKS set how many of each are tried (1,500 and 1,500 by default:
a few seconds).
"""

from __future__ import annotations

import bz2
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.consensus.block import accept_header, check_block, duplicate_invalid
from chain.consensus.errors import ConsensusError
from chain.consensus.pow import check_proof_of_work, next_nbits
from chain.index import BlockIndexEntry, HeaderIndex
from chain.params import BITCOIN, REGTEST
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.primitives.header import BlockHeader
from chain.primitives.merkle import merkle_root
from chain.primitives.serialize import read_compact_size_at
from chain.primitives.transaction import Transaction, TxIn, TxOut
from chain.primitives.types import Amount, OutPoint
from tests.support.blocks import coinbase

pbk = pytest.importorskip("pbk", reason="py-bitcoinkernel, a development dependency, is not installed")
bindings = pytest.importorskip("pbk.capi.bindings")  # pbk's own method throws the verdict away

HEADERS = int(os.environ.get("PICKAXE_DIFFERENTIAL_HEADERS", "1500"))
CHECKS = int(os.environ.get("PICKAXE_DIFFERENTIAL_CHECKS", "1500"))
REASON = re.compile(r"Consensus::(?:Contextual)?CheckBlockHeader: [0-9a-f]{64}, (.*)\n")


class HeaderJudge:
    """A regtest header tree of libbitcoinkernel's, and its words."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        pbk.logging_set_options(pbk.LoggingOptions(log_timestamps=False))
        pbk.enable_log_category(pbk.LogCategory.VALIDATION)
        self.connection = pbk.LoggingConnection(self.log)
        options = pbk.ContextOptions()
        options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        chain_options = pbk.ChainstateManagerOptions(pbk.Context(options), str(folder), str(folder / "blocks"))
        chain_options.update_block_tree_db_in_memory(True)
        chain_options.update_chainstate_db_in_memory(True)
        self.chain = pbk.ChainstateManager(chain_options)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def judge(self, raw: bytes) -> tuple[str, str]:
        """(result, reason and debug); reasons that Core does not log are empty."""
        self.lines.clear()
        state = pbk.BlockValidationState()
        bindings.btck_chainstate_manager_process_block_header(self.chain, pbk.BlockHeader(raw), state)
        text = next((found[1] for found in map(REASON.search, self.lines) if found), "")
        return state.block_validation_result.name, text

    def close(self) -> None:
        del self.chain
        del self.connection
        pbk.disable_log_category(pbk.LogCategory.VALIDATION)


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[HeaderJudge]:
    made = HeaderJudge(tmp_path)
    yield made
    made.close()


def random_header(rng: random.Random, index: HeaderIndex, tips: list[BlockIndexEntry]) -> BlockHeader:
    """Mostly on a recent tip and right in most fields, with work done for whatever nBits it carries where that is
    possible.
    """
    prev = tips[-1] if rng.random() < 0.7 else rng.choice(tips)
    median = prev.median_time_past()
    now = int(time.time())
    when = rng.choice(
        [prev.time + 1, prev.time + 600, median, median + 1, median - 1, prev.time + 1201, now + 7100, now + 7300]
    )
    nbits: int = next_nbits(prev, when, REGTEST)
    if rng.random() < 0.1:
        nbits = rng.choice([0, 0x1D00FFFF, 0x207FFFFE, 0x20800000, 0x2100FFFF, 0x207FFFFF, 0x200FFFFF, 0x01003456])
    version = rng.choice([4, 4, 4, 4, 4, 0x20000000, 0x7FFFFFFF, 3, 2, 1, 0, -1, -(2**31)])
    prev_hash = rng.randbytes(32) if rng.random() < 0.02 else prev.hash
    for nonce in range(64):
        header = BlockHeader.build(version, prev_hash, rng.randbytes(32), when, nbits, nonce)
        if check_proof_of_work(header.hash, nbits, REGTEST) or rng.random() < 0.02:
            break
    return header


def our_verdict(index: HeaderIndex, header: BlockHeader) -> tuple[str, str]:
    try:
        known = index.get(header.hash)
        if known is None:
            accept_header(header, index.entries, REGTEST, time.time())
        elif known.failed:
            raise duplicate_invalid(header.hash)
    except ConsensusError as error:
        return error.result.name, str(error)
    return "UNSET", ""


def test_headers_get_the_same_verdict_in_the_same_words(rng: random.Random, judge: HeaderJudge) -> None:
    index = HeaderIndex(REGTEST)
    tips = [index.genesis]
    seen: Counter[str] = Counter()
    for _ in range(HEADERS):
        header = random_header(rng, index, tips)
        ours = our_verdict(index, header)
        kernel = judge.judge(header.raw)
        if ours[1] in ("prev-blk-not-found", "bad-prevblk"):  # Core logs these in other words
            ours = (ours[0], "")
        assert ours == kernel, header.raw.hex()
        seen[ours[1] or ours[0]] += 1
        if ours[0] == "UNSET":
            tips.append(index.add(header))
    if HEADERS >= 1000:
        wanted = {
            "UNSET",
            "high-hash",
            "bad-diffbits",
            "time-too-old",
            "time-too-new",
            "bad-version(0x00000003)",
            "MISSING_PREV",
        }
        assert wanted <= {text.partition(",")[0] for text in seen}, seen
    print(f"judged {HEADERS} headers")


def small_blocks(vectors: Path) -> list[bytes]:
    packed = bz2.decompress((vectors / "blocks" / "mainnet" / "blocks1-256.dat.bz2").read_bytes())
    blocks, pos = [], 0
    while pos + 8 <= len(packed):
        size = int.from_bytes(packed[pos + 4 : pos + 8], "little")
        blocks.append(packed[pos + 8 : pos + 8 + size])
        pos += 8 + size
    blocks.append((vectors / "blocks" / "mainnet" / "block482683.raw").read_bytes())
    return blocks


def made_up(rng: random.Random) -> Block:
    """A few transactions with values, counts and scripts near every bound; no work."""
    height = rng.randrange(1, 1000)
    txs = [coinbase(height, extra=bytes(rng.choice([0, 1, 5, 97, 98, 99, 120])))]
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8])):
        inputs = [
            TxIn(
                OutPoint(rng.choice([bytes(32), b"\1" * 32, rng.randbytes(32)]) + rng.choice([b"\xff" * 4, bytes(4)])),
                rng.choice([b"", b"\xac" * rng.randrange(4), rng.randbytes(3)]),
                rng.choice([0, 0xFFFFFFFF]),
                rng.choice([(), (), (b"x",)]),
            )
            for _ in range(rng.choice([1, 1, 1, 2, 3]))
        ]
        bounds = [0, 1, 5_000, 21 * 10**14, 21 * 10**14 + 1, 2**63 - 1, -1, -(2**63)]
        weights = [9, 9, 9, 3, 1, 1, 1, 1]
        outputs = [
            TxOut(
                Amount(rng.choices(bounds, weights)[0]),
                rng.choice([b"", b"\x51", b"\xac" * 9, b"\xae" * rng.choice([1, 999, 1001])]),
            )
            for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))
        ]
        txs.append(Transaction.build(rng.choice([1, 2, 0xFFFFFFFF]), inputs, outputs, rng.choice([0, 7])))
    if rng.random() < 0.1:
        txs.append(rng.choice(txs))
    if rng.random() < 0.1:
        rng.shuffle(txs)
    root = merkle_root([tx.txid for tx in txs])[0] if rng.random() < 0.9 else rng.randbytes(32)
    return Block.build(
        BlockHeader.build(1, rng.randbytes(32), root, 1_300_000_000, 0x207FFFFF, rng.getrandbits(32)), txs
    )


def faulty(rng: random.Random, number: int) -> Block:
    """Right but for one thing, by turns: blocks made up at random are seldom wrong in these alone. No work."""
    inputs = [TxIn(OutPoint(rng.randbytes(32) + bytes(4)), b"", 0, ())]
    outputs = [TxOut(Amount(1), b"\x51")]
    if number % 3 == 0:
        inputs *= 2
    elif number % 3 == 1:
        outputs = [TxOut(Amount(-1), b"\x51")]
    else:
        outputs = [TxOut(Amount(1), b"\xae" * 1001)]
    txs = [coinbase(rng.randrange(1, 1000)), Transaction.build(2, inputs, outputs, 0)]
    root = merkle_root([tx.txid for tx in txs])[0]
    header = BlockHeader.build(1, rng.randbytes(32), root, 1_300_000_000, 0x207FFFFF, rng.getrandbits(32))
    return Block.build(header, txs)


def damaged(rng: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    kind = rng.randrange(6)
    if kind == 0:
        data[rng.randrange(80, len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:
        del data[rng.randrange(len(data)) :]
    elif kind == 3:
        at = rng.randrange(81, len(data))
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 4:
        data += rng.randbytes(rng.randrange(1, 40))
    return bytes(data)


def repeated(rng: random.Random, block: Block) -> bytes:
    """The last transactions once more: for odd counts the root stays (CVE-2012-2459)."""
    txs = block.transactions
    count = rng.choice([1, 2, 4])
    return Block.build(block.header, [*txs, *txs[-count:]]).raw


def decode(raw: bytes) -> Block:
    """Like Core, which reads a block and does not look at what comes after it."""
    count, end = read_compact_size_at(raw, 80)
    for _ in range(count):
        _, end = Transaction.parse_from(raw, end)
    return Block.parse(raw[:end])


@pytest.mark.usefixtures("both_readings")
def test_blocks_without_context_get_the_same_verdict(rng: random.Random, vectors: Path) -> None:
    kernel_params = {
        BITCOIN.name: pbk.ChainParameters(pbk.ChainType.MAINNET),
        REGTEST.name: pbk.ChainParameters(pbk.ChainType.REGTEST),
    }
    real = small_blocks(vectors)
    seen: Counter[str] = Counter()
    for number in range(CHECKS):
        params = rng.choice([BITCOIN, REGTEST])
        block = made_up(rng)
        raw = block.raw if rng.random() < 0.6 else rng.choice(real)
        if number % 20 == 0:
            raw = faulty(rng, number // 20).raw
        elif rng.random() < 0.2:
            raw = repeated(rng, Block.parse(raw))
        elif rng.random() < 0.4:
            raw = damaged(rng, raw)
        pow_too, merkle_too = rng.random() < 0.5, rng.random() < 0.6
        flags = pbk.BlockCheckFlags.BASE
        flags |= pbk.BlockCheckFlags.POW if pow_too else flags
        flags |= pbk.BlockCheckFlags.MERKLE if merkle_too else flags
        try:
            state = pbk.Block(raw).check(kernel_params[params.name].consensus_params, flags)
            kernel = state.block_validation_result.name
        except RuntimeError:
            kernel = "undecodable"
        reason = ""
        try:
            check_block(decode(raw), params, check_pow=pow_too, check_merkle=merkle_too)
            ours = "UNSET"
        except ConsensusError as error:
            ours, reason = error.result.name, error.reason
        except DecodeError:
            ours = "undecodable"
        assert ours == kernel, (reason, pow_too, merkle_too, params.name, raw.hex())
        seen[reason or ours] += 1
    if CHECKS >= 1000:
        assert {"UNSET", "undecodable", "high-hash", "bad-txnmrklroot", "bad-txns-duplicate", "bad-cb-missing"} <= set(
            seen
        ), seen
        assert {"bad-cb-multiple", "bad-txns-vout-negative", "bad-txns-inputs-duplicate", "bad-blk-sigops"} <= set(
            seen
        ), seen
    print(f"judged {CHECKS} bodies")
