"""`python -m tests.support.index_follower FOLDER BLOCKS SEED`: a process to be killed. It feeds a chain the blocks of a
file, with all indexes behind it that commit as often as they may."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from chain.chainstate import Chainstate
from chain.indexes import base
from chain.params import network
from chain.primitives.block import Block
from tests.support.index_chain import catch_up, open_all


def write_blocks(path: Path, blocks: list[Block]) -> None:
    """Hex, one a line."""
    path.write_text("\n".join(block.raw.hex() for block in blocks))


def main(folder: Path, blocks_file: Path, seed: int) -> None:
    rng = random.Random(seed)
    setattr(base, "PENDING_BYTES", 4_000)  # noqa: B010
    setattr(base, "COMMIT_INTERVAL_S", 0.0)  # noqa: B010
    blocks = [Block.parse(bytes.fromhex(line)) for line in blocks_file.read_text().split()]
    with Chainstate(network("regtest"), folder, script_threads=0) as chain:
        indexes = open_all(chain)
        print("ready", flush=True)
        for block in blocks:
            entry = chain.index.get(block.hash)
            if entry is None or not entry.have_data:
                chain.process_block(block)
                if rng.random() < 0.3:
                    chain.flush()
            for _ in range(rng.randrange(8)):
                indexes.work(0)
        chain.flush()
        catch_up(indexes)
        chain.flush()
        indexes.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
