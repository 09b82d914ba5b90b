"""libbitcoinkernel as judge of whole blocks: Bitcoin Core's own verdict, and its words for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chain.chainstate import Chainstate
from chain.consensus.errors import BlockResult, ConsensusError
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError

pbk = pytest.importorskip("pbk", reason="py-bitcoinkernel, a development dependency, is not installed")

_ACCEPT = re.compile(r"ProcessNewBlock: AcceptBlock FAILED \((.*)\)\n", re.DOTALL)
_CONNECT = re.compile(r"ConnectTip: ConnectBlock ([0-9a-f]{64}) failed, (.*)\n", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """What became of a block. `text` is "" if it is not known to be invalid, else "reason, debug"."""

    text: str
    result: BlockResult | None
    tip_hex: str


def kernel_block(raw: bytes) -> Any:
    """A block of libbitcoinkernel's; RuntimeError if `raw` is none. pbk's own constructor makes a Python number of
    every byte first, which takes longer than to judge the block.
    """
    block = pbk.Block.__new__(pbk.Block)
    super(pbk.Block, block).__init__(raw, len(raw))
    return block


class KernelJudge:
    """A regtest chain of libbitcoinkernel's in `folder`, its databases in memory."""

    def __init__(self, folder: Path, *, workers: int = 1, reindex: bool = False) -> None:
        """With `reindex` it takes the blocks that lie in `folder`/blocks."""
        self._logs: list[str] = []
        self._results: dict[str, Any] = {}
        pbk.logging_set_options(pbk.LoggingOptions(log_timestamps=False))
        self._connection = pbk.LoggingConnection(self._log)
        options = pbk.ContextOptions()
        options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        options.set_validation_interface(pbk.ValidationInterfaceCallbacks(block_checked=self._checked))
        context = pbk.Context(options)
        chain_options = pbk.ChainstateManagerOptions(context, str(folder), str(folder / "blocks"))
        chain_options.set_worker_threads_num(workers)
        chain_options.update_block_tree_db_in_memory(True)
        chain_options.update_chainstate_db_in_memory(True)
        if reindex:
            chain_options.set_wipe_dbs(True, True)
        self.chain = pbk.ChainstateManager(chain_options)
        if reindex:
            self.chain.import_blocks([])

    def _log(self, line: str) -> None:
        self._logs.append(line)

    def _checked(self, _: object, block: Any, state: Any) -> None:
        self._results[str(block.block_hash)] = state.block_validation_result.name

    @property
    def tip_hex(self) -> str:
        return str(self.chain.get_active_chain().block_tree_entries[-1].block_hash)

    def submit(self, raw: bytes) -> Verdict:
        """Process a serialized block."""
        self._logs.clear()
        self._results.clear()
        try:
            block = kernel_block(raw)
        except RuntimeError:
            return Verdict("undecodable", None, self.tip_hex)
        block_hex = str(block.block_hash)
        text = ""
        try:
            self.chain.process_block(block)
        except pbk.ProcessBlockException:
            text = next((m[1] for m in map(_ACCEPT.search, self._logs) if m), "no reason logged")
        for match in map(_CONNECT.search, self._logs):
            if match and match[1] == block_hex:
                text = match[2]
        result = BlockResult[self._results[block_hex]] if text and block_hex in self._results else None
        return Verdict(text, result, self.tip_hex)

    def submit_header(self, raw: bytes) -> str:
        """Process 80 bytes: the kind of failure, "" if there is none."""
        try:
            state = self.chain.process_block_header(pbk.BlockHeader(raw))
        except pbk.ProcessBlockHeaderException:
            return "refused"
        return "" if state.validation_mode.name == "VALID" else str(state.block_validation_result.name)

    def close(self) -> None:
        """Let go of the log: it is one for the whole process."""
        del self.chain
        del self._connection


_SCRIPT_FAILURE = re.compile(r"block-script-verify-flag-failed \(.*\), (input .*), spending")


def same_verdict(ours: Verdict, kernel: Verdict) -> bool:
    """Whether the judges agree to the word. With several bad inputs Core names the one that a worker happened to find
    first; then only result and tip count.
    """
    ours_at, kernel_at = _SCRIPT_FAILURE.match(ours.text), _SCRIPT_FAILURE.match(kernel.text)
    if ours_at and kernel_at and ours_at[1] != kernel_at[1]:
        return (ours.result, ours.tip_hex) == (kernel.result, kernel.tip_hex)
    return ours == kernel


def submit_to_ours(chain: Chainstate, raw: bytes) -> Verdict:
    """The same question to us."""
    error: ConsensusError | None = None
    try:
        chain.process_block(Block.parse(raw))
    except DecodeError:
        return Verdict("undecodable", None, chain.tip.hash[::-1].hex())
    except ConsensusError as refused:
        error = refused
        chain.drain_events()
    text, result = (str(error), error.result) if error is not None else ("", None)
    return Verdict(text, result, chain.tip.hash[::-1].hex())
