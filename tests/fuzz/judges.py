"""What `make fuzz` tries, kind by kind: seeded input for two judges until they differ or enough was tried.

Every judge is a function (seeded randomness, how many, count(what, number)) that raises `Found` with the case at the
first difference.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from chain.chainstate import Chainstate
from chain.index import HeaderIndex
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.header import BlockHeader
from chain.primitives.transaction import Transaction
from chain.script.errors import ScriptError
from tests.fuzz.cases import BodyCase, Case, ChainCase, HeaderCase, ParserCase, SpendCase, our_header_verdict
from tests.fuzz.parsers import TARGETS
from tests.support.block_generator import BlockGenerator, Unparsed
from tests.support.kernel import KernelJudge, same_verdict, submit_to_ours
from tests.support.spends import SpendGenerator, damage

Count = Callable[[str, int], None]
Judge = Callable[[random.Random, int, Count], None]
REGTEST = network("regtest")
CHAIN_BLOCKS = 400  #: then a new chain begins: what a case must keep stays small
DAMAGED_PER_BLOCK = 12
HEADERS_PER_TREE = 3000


class Found(Exception):
    """The judges differ about this."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.kind)
        self.case = case


def _judge_spend(rng: random.Random, tx: Transaction, coins: list[bytes], count: Count) -> None:
    from tests.property.test_script_checks import flag_sets, judge, kernel

    for flags in flag_sets(rng):
        case = SpendCase(tx, tuple(coins), flags)
        try:
            errors = judge(tx, coins, flags)
            wrong = False
            if case.for_kernel(flags):
                wrong = kernel(tx, coins, flags) != [error is ScriptError.OK for error in errors]
        except Exception as error:
            raise Found(case) from error
        if wrong:
            raise Found(case)
        count("spends", len(errors))


def spends(rng: random.Random, number: int, count: Count) -> None:
    """Spends of every template, each damaged some times."""
    generator = SpendGenerator(rng)
    for _ in range(number // 7):
        tx, coins = generator.transaction()
        _judge_spend(rng, tx, coins, count)
        for _ in range(6):
            _judge_spend(rng, *damage(rng, tx, coins), count)


def scripts(rng: random.Random, number: int, count: Count) -> None:
    """Random operations, bare and behind each kind of hash."""
    from tests.property.test_script_checks import random_script, spends_of_script

    for _ in range(number // 5):
        for tx, coin in spends_of_script(rng, random_script(rng)):
            _judge_spend(rng, tx, [coin], count)


def blocks(rng: random.Random, number: int, count: Count) -> None:
    """Blocks damaged in some fifty ways, on chains that grow with those that were not damaged enough."""
    tried = 0
    while tried < number:
        with TemporaryDirectory() as folder:
            kernel = KernelJudge(Path(folder) / "kernel")
            try:
                with Chainstate(REGTEST, Path(folder) / "ours", script_threads=1) as ours:
                    tried += _one_chain(rng, kernel, ours, min(number - tried, CHAIN_BLOCKS * DAMAGED_PER_BLOCK), count)
            finally:
                kernel.close()


def _one_chain(rng: random.Random, kernel: KernelJudge, ours: Chainstate, number: int, count: Count) -> int:
    generator = BlockGenerator(rng)
    chain: list[bytes] = []

    def submit(raw: bytes) -> None:
        theirs = kernel.submit(raw)
        try:
            mine = submit_to_ours(ours, raw)
        except Exception as error:
            raise Found(ChainCase(tuple(chain), raw)) from error
        if not same_verdict(mine, theirs):
            raise Found(ChainCase(tuple(chain), raw))

    for _ in range(110):
        block = generator.draft().build()
        submit(block.raw)
        generator.adopt(block)
        chain.append(block.raw)
    tried = 0
    while tried < number and len(chain) < CHAIN_BLOCKS:
        if rng.random() < 0.05:
            generator.go_back(rng.randint(1, 6))
        draft = generator.draft()
        for _ in range(DAMAGED_PER_BLOCK):
            block = generator.damaged(draft)[1]
            before = ours.tip.hash
            submit(block.raw)
            tried += 1
            count("blocks", 1)
            if ours.tip.hash != before:  # not damaged enough
                break
        else:
            block = draft.build()
            submit(block.raw)
            tried += 1
            count("blocks", 1)
        block = Block.parse(block.raw) if isinstance(block, Unparsed) else block
        known = ours.index.get(block.hash)
        if known is not None and not known.failed and block.header.prev_hash in generator.index.entries:
            generator.adopt(block)
            chain.append(block.raw)
        if ours.tip.hash != generator.tip.hash and ours.tip.chainwork > generator.tip.chainwork:
            generator.go_to(ours.tip.hash)
    return tried


def headers(rng: random.Random, number: int, count: Count) -> None:
    """Headers on a tree of headers, most of them right in most fields."""
    from tests.property.test_kernel_rules import HeaderJudge, random_header

    for _ in range(0, number, HEADERS_PER_TREE):
        index = HeaderIndex(REGTEST)
        tips = [index.genesis]
        with TemporaryDirectory() as folder:
            judge = HeaderJudge(Path(folder))
            try:
                for _ in range(min(number, HEADERS_PER_TREE)):
                    header = random_header(rng, index, tips)
                    now = time.time()
                    if our_header_verdict(index, header, now) != judge.judge(header.raw):
                        path = deque([header.raw])
                        prev = index.get(header.prev_hash)
                        while prev is not None and prev.prev is not None:
                            path.appendleft(prev.header.raw)
                            prev = prev.prev
                        raise Found(HeaderCase(tuple(path), now))
                    count("headers", 1)
                    if our_header_verdict(index, header, now)[0] == "UNSET" and header.hash not in index.entries:
                        tips.append(index.add(BlockHeader(header.raw)))
            finally:
                judge.close()


def bodies(rng: random.Random, number: int, count: Count) -> None:
    """Blocks without context: values, counts and scripts near every bound, then damaged."""
    from tests.property.test_kernel_rules import damaged, made_up, repeated

    for _ in range(number):
        raw = made_up(rng).raw
        if rng.random() < 0.2:
            raw = repeated(rng, Block.parse(raw))
        elif rng.random() < 0.4:
            raw = damaged(rng, raw)
        name = rng.choice(("bitcoin", "regtest"))
        case = BodyCase(raw, name, rng.random() < 0.5, rng.random() < 0.6)
        if case.difference() is not None:
            raise Found(case)
        count("bodies", 1)


def parsers(rng: random.Random, number: int, count: Count) -> None:
    """Valid input of every parser, changed a little. `make fuzz` also lets atheris look for new paths through them."""
    names = list(TARGETS)
    seeds = {name: TARGETS[name].seeds() for name in names}
    for tried in range(number):
        name = rng.choice(names)
        data = mutate(rng, rng.choice(seeds[name]))
        if TARGETS[name].difference(data, memory=tried % 64 == 0):
            raise Found(ParserCase(name, data))
        count("parsed", 1)


def mutate(rng: random.Random, data: bytes) -> bytes:
    """Some bits, bytes, lengths and pieces changed."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at:at] = rng.choice((b"\xff" * rng.randrange(1, 10), bytes(rng.randrange(1, 5)), rng.randbytes(3)))
        elif kind == 2:
            del out[at : at + rng.randrange(1, 5)]
        elif kind == 3:
            other = rng.randrange(len(out) + 1)
            out[at:at] = out[other : other + rng.randrange(1, 40)]
        elif out:
            out[at % len(out)] = rng.choice((0, 1, 0x4C, 0x7F, 0x80, 0xFD, 0xFE, 0xFF))
    return bytes(out)


#: judge -> how many one round tries (about half a minute each on one core)
JUDGES: dict[str, tuple[Judge, int]] = {
    "spends": (spends, 4000),
    "scripts": (scripts, 4000),
    "blocks": (blocks, 6000),
    "headers": (headers, 12_000),
    "bodies": (bodies, 12_000),
    "parsers": (parsers, 60_000),
}
