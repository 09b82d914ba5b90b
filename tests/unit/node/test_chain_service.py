"""The writer thread: order, notifications before results, verdicts, and faults that stop the node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chain.chainstate import Chainstate
from chain.interfaces import HeaderInfo, MempoolTransaction, Verdict
from chain.mempool.pool import Mempool
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError, LocalFault
from chain.primitives.types import BlockHash, Txid, Wtxid
from chain.templates.assembler import assemble
from node.chain_service import ChainService
from node.chain_worker import ChainWorker
from tests.support.regtest import solve

REGTEST = network("regtest")


class Clock:
    def __init__(self) -> None:
        self.now = REGTEST.genesis.header.time + 3600

    def __call__(self) -> float:
        return float(self.now)


class Recorder:
    """What peers would be told."""

    def __init__(self) -> None:
        self.tips: list[int] = []
        self.rejected: list[str] = []

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        self.tips.append(tip.height)

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None:
        self.rejected.append(reason)

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        """Not asked about here."""

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None:
        """Not asked about here."""


@asynccontextmanager
async def _running(folder: Path, faults: list[LocalFault]) -> AsyncIterator[ChainService]:
    clock = Clock()
    service = ChainService(REGTEST, faults.append)

    def build(notify: object) -> ChainWorker:
        chain = Chainstate(REGTEST, folder, clock=clock, script_threads=0)
        return ChainWorker(chain, Mempool(chain, None, clock), clock, notify)  # type: ignore[arg-type]

    await service.open(build)
    try:
        yield service
    finally:
        await service.call(service.worker.chain.close)
        await service.close()


def _next_block(service: ChainService, extra: bytes = b"") -> Block:
    worker = service.worker
    return solve(assemble(worker.chain, worker.mempool, b"\x51", coinbase_extra=extra).block)


def test_calls_run_in_order_in_one_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path, []) as service:
            seen: list[int] = []
            await asyncio.gather(*(service.call(seen.append, n) for n in range(500)))
            assert seen == list(range(500))
            threads = {await service.call(threading.get_ident) for _ in range(3)}
            assert len(threads) == 1
            assert threading.get_ident() not in threads

    asyncio.run(scenario())


def test_exceptions_come_back_and_the_thread_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path, []) as service:
            with pytest.raises(ZeroDivisionError):
                await service.call(lambda: 1 // 0)
            assert await service.call(lambda: 7) == 7

    asyncio.run(scenario())


def test_listeners_hear_of_a_block_before_its_sender_has_the_verdict(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path, []) as service:
            recorder = Recorder()
            service.subscribe(recorder)
            block = await service.call(_next_block, service)
            outcome = await service.process_block(block.raw, requested=True)
            assert outcome.verdict is Verdict.ACCEPTED
            assert recorder.tips == [1]
            assert service.tip().hash == block.hash
            again = await service.process_block(block.raw, requested=True)
            assert again.verdict is Verdict.DUPLICATE
            assert await service.read_block(block.hash) == block.raw

    asyncio.run(scenario())


def test_verdicts_on_bad_blocks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path, []) as service:
            block = await service.call(_next_block, service)
            with pytest.raises(DecodeError):
                await service.process_block(block.raw[:-1], requested=True)
            assert (await service.process_block(block.raw + b"\0", requested=True)).verdict is Verdict.ACCEPTED
            second = await service.call(_next_block, service)
            raw = bytearray(second.raw)
            raw[-10] ^= 1  # in the coinbase: the merkle root does not match any more
            outcome = await service.process_block(bytes(raw), requested=True)
            assert outcome.verdict is Verdict.MUTATED
            orphan = bytearray(second.raw)
            orphan[4] ^= 1
            solved = solve(Block.parse(bytes(orphan)))
            outcome = await service.process_block(solved.raw, requested=True)
            assert outcome.verdict is Verdict.MISSING_PARENT
            assert service.tip().height == 1

    asyncio.run(scenario())


def test_waiting_for_a_tip(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path, []) as service:
            short = await service.wait_for_tip(lambda tip: tip.height == 5, 0.01)
            assert short.height == 0
            waiting = asyncio.create_task(service.wait_for_tip(lambda tip: tip.height == 1, 30))
            await asyncio.sleep(0)
            block = await service.call(_next_block, service)
            await service.process_block(block.raw, requested=True)
            assert (await waiting).height == 1
            forever = asyncio.create_task(service.wait_for_tip(lambda tip: False, None))
            await asyncio.sleep(0)
            service.interrupt()
            assert (await asyncio.wait_for(forever, 30)).height == 1

    asyncio.run(scenario())


def test_blocks_that_are_missing_on_the_way_to_a_header(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _running(tmp_path / "a", []) as maker, _running(tmp_path / "b", []) as taker:
            blocks = []
            for n in range(4):
                block = await maker.call(_next_block, maker, bytes([n]))
                await maker.process_block(block.raw, requested=True)
                blocks.append(block)
            outcome = await taker.process_headers([block.header.raw for block in blocks])
            assert (outcome.verdict, outcome.new) == (Verdict.ACCEPTED, 4)
            last = blocks[-1].hash
            assert [h.height for h in taker.missing_blocks(last, 10)] == [1, 2, 3, 4]
            assert [h.height for h in taker.missing_blocks(last, 2)] == [1, 2]
            assert [h.height for h in taker.missing_blocks(last, 10, window=3)] == [1, 2, 3]
            await taker.process_block(blocks[1].raw, requested=True)
            assert [h.height for h in taker.missing_blocks(last, 10)] == [1, 3, 4]
            assert taker.tip().height == 0
            await taker.process_block(blocks[0].raw, requested=True)
            assert taker.tip().height == 2
            assert taker.best_header().height == 4

    asyncio.run(scenario())


def test_a_fault_of_the_disk_is_reported_once_met(tmp_path: Path) -> None:
    async def scenario() -> None:
        faults: list[LocalFault] = []
        async with _running(tmp_path, faults) as service:
            block = await service.call(_next_block, service)

            def full(raw: bytes, *, historical: bool) -> tuple[int, int]:
                raise LocalFault("disk full")

            service.worker.chain.files.append_block = full  # type: ignore[method-assign]
            with pytest.raises(LocalFault):
                await service.call(service.worker.submit, block)
            assert [str(fault) for fault in faults] == ["disk full"]

    asyncio.run(scenario())
