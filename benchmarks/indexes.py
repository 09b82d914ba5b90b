"""What do the optional indexes cost?

    python -m benchmarks.indexes [--rounds 3] [--transactions 10000]

First table: processor time to index a chain of dense blocks, one index at a time, beside connecting the same blocks
(script checks included) in the same process. Second: how much longer a node takes to connect blocks that arrive one
after another while all indexes are built behind it. The blocks are those of `benchmarks.replay_chain`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.replay_chain import CACHE, describe, read_blocks, replay_chain
from chain import native
from chain.chainstate import Chainstate
from chain.indexes.follow import INDEXES_DIR, IndexSet
from chain.mempool.pool import Mempool
from chain.params import network
from chain.primitives.block import Block
from chain.primitives.errors import LocalFault
from node.chain_service import ChainService
from node.chain_worker import ChainWorker
from node.indexes import INDEXES, IndexDriver

REGTEST = network("regtest")


def costs(raws: list[bytes], folder: Path) -> list[tuple[str, float, int]]:
    """(what, processor seconds, bytes on disk), connecting first."""
    with Chainstate(REGTEST, folder, script_threads=0) as chain:
        start = time.process_time()
        for raw in raws:
            chain.process_block(Block.parse(raw))
        chain.flush()
        found = [("connecting", time.process_time() - start, 0)]
        for kind in INDEXES:
            index = kind(chain, folder / INDEXES_DIR)
            indexes = IndexSet(chain, [index])
            start = time.process_time()
            while indexes.work(60):
                pass
            index.commit()
            found.append((index.title, time.process_time() - start, index.size_on_disk()))
            indexes.close()
    return found


async def arrive(raws: list[bytes], folder: Path, *, indexed: bool) -> tuple[float, int]:
    """(seconds until the last block is connected, height of the lowest index then)."""

    def failed(fault: LocalFault) -> None:
        raise fault

    service = ChainService(REGTEST, failed)

    def build(notify: object) -> ChainWorker:
        chain = Chainstate(REGTEST, folder, script_threads=1)
        worker = ChainWorker(chain, Mempool(chain), time.time, notify)  # type: ignore[arg-type]
        if indexed:
            worker.indexes = IndexSet(chain, [kind(chain, folder / INDEXES_DIR) for kind in INDEXES])
        return worker

    worker = await service.open(build)
    driver = IndexDriver(service)
    service.subscribe(driver)
    task = asyncio.create_task(driver.run())
    headers = [raw[:80] for raw in raws]
    for at in range(0, len(headers), 2_000):
        await service.process_headers(headers[at : at + 2_000])
    start = time.perf_counter()
    for raw in raws:
        await service.process_block(raw, requested=True)
    seconds = time.perf_counter() - start
    lowest = min((index.height for index in worker.indexes), default=0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    def close() -> None:
        worker.indexes.close()
        worker.chain.close()

    await service.call(close)
    await service.close()
    return seconds, lowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transactions", type=int, default=10_000)
    arguments = parser.parse_args()
    chain = replay_chain(CACHE, arguments.transactions)
    print(describe(chain))
    raws = read_blocks(chain.path)
    native.load()
    with tempfile.TemporaryDirectory() as scratch:
        rows = costs(raws, Path(scratch) / "costs")
        count = sum(len(Block.parse(raw).transactions) for raw in raws)
        print(f"{'':28}{'µs/transaction':>16}{'of connecting':>16}{'bytes/transaction':>20}")
        for name, seconds, size in rows:
            share = seconds / rows[0][1]
            print(f"{name:28}{1e6 * seconds / count:16.1f}{share:16.2f}{size / count:20.0f}")
        best: dict[bool, float] = {}
        for number in range(arguments.rounds):
            for indexed in (False, True):
                folder = Path(scratch) / f"arrive{number}{indexed}"
                seconds, lowest = asyncio.run(arrive(raws, folder, indexed=indexed))
                best[indexed] = min(best.get(indexed, seconds), seconds)
        print(f"connecting while all are built: {best[True] / best[False]:.2f}× as long as without indexes", end="")
        print(f" (they had come to height {lowest} of {len(raws)} by then)")


if __name__ == "__main__":
    main()
