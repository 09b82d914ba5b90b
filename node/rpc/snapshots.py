"""RPC: UTXO snapshots. Errors are in Bitcoin Core's words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from chain.index import BlockIndexEntry
from chain.primitives.target import difficulty
from chain.primitives.types import hash_to_hex
from chain.snapshot.dump import DumpResult
from chain.snapshot.format import MetadataError, SnapshotError, read_metadata
from node.networks import network_dir
from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc
from node.rpc.format import target_hex
from node.rpc.jsonio import JSON
from node.rpc.registry import Arg, Kind, rpc
from node.rpc.values import block_at

log = logging.getLogger("pickaxe.node")

_CATEGORY = "Blockchain"
_BUSY: Final = "dumptxoutset"  #: key of the set of files being written in worker.extras
_READER_POLL_S: Final = 0.1
_STOPPING: Final = "The node is stopping"
T = TypeVar("T")


@rpc(
    "dumptxoutset",
    _CATEGORY,
    Arg("path", Kind.STR, help="the file to write, below the data directory if relative"),
    Arg("type", Kind.STR, "", help='"latest" for the tip, "rollback" for an earlier block'),
    Arg(
        "options",
        Kind.OBJ,
        None,
        help="rollback: height or hash of the block (by default the network's highest known snapshot); in_memory: keep"
        " what a rollback changes in memory, not in a folder beside the file",
        options=("rollback", "in_memory"),
    ),
    help="Write all unspent outputs to a file that loadtxoutset of another node can read. The node goes on meanwhile."
    " The result is what a network's table needs to accept the snapshot.",
)
async def dumptxoutset(context: RpcContext, path_text: str, kind: str, options: dict[str, JSON] | None) -> JSON:
    options = options or {}
    in_memory = options.get("in_memory", False)
    if not isinstance(in_memory, bool):
        raise RpcError(Code.TYPE_ERROR, "JSON value of type in_memory is not of expected type bool")
    service = context.chain_service
    target = await service.call(_target, context, kind, options)
    path = _absolute(context, path_text)
    place = await asyncio.to_thread(os.path.realpath, path)
    try:
        exists, fifo = path.exists(), path.is_fifo()
    except OSError as error:
        raise invalid_parameter(f"Couldn't open file {path} for writing.") from error
    if exists and not fifo:
        raise invalid_parameter(
            f"{path} already exists. If you are sure this is what you want, move it out of the way first"
        )
    busy = context.worker.extras.setdefault(_BUSY, set())
    if not isinstance(busy, set) or place in busy:
        raise invalid_parameter(f"{path} is being written by another call of dumptxoutset")
    busy.add(place)
    try:
        result = await _dump(context, target, path, fifo=fifo, in_memory=in_memory)
    finally:
        busy.discard(place)
    return {
        "coins_written": result.coins_written,
        "base_hash": hash_to_hex(result.base.hash),
        "base_height": result.base.height,
        "path": str(path),
        "txoutset_hash": hash_to_hex(result.digest),
        "nchaintx": result.chain_tx_count,
    }


async def _dump(context: RpcContext, target: BlockIndexEntry, path: Path, *, fifo: bool, in_memory: bool) -> DumpResult:
    written = path if fifo else path.with_name(path.name + ".incomplete")
    try:
        sink = await _open_pipe(context, path) if fifo else await asyncio.to_thread(_FileSink, written, path)
    except OSError as error:
        raise invalid_parameter(f"Couldn't open file {written} for writing.") from error
    try:
        scratch = None if in_memory else path.parent / f"temp_utxo_{target.height}_{path.name}"
        parts = BytesIO()  # of one step: the chain's thread waits for no disk and for nobody who reads a pipe

        async def write() -> None:
            await sink.write(parts.getvalue())
            parts.seek(0)
            parts.truncate()

        steps = await context.chain_service.call(context.chain.dump_snapshot, target, parts, scratch_dir=scratch)
        result = await _run(context, steps, write)
        if not isinstance(result, DumpResult):
            raise RpcError(Code.INTERNAL_ERROR, _STOPPING)
        await sink.finish()
    except SnapshotError as error:
        raise misc(str(error)) from error
    except OSError as error:
        raise misc(f"Unable to write {written}: {error.strerror}") from error
    finally:
        sink.close()
    return result


class _Sink(Protocol):
    """Where a snapshot goes. OSError passes through."""

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Leave nothing half-done behind."""


class _FileSink:
    def __init__(self, written: Path, path: Path) -> None:
        self._written = written
        self._path = path
        self._file = written.open("wb")

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._file.write, data)

    async def finish(self) -> None:
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._written, self._path)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what is still buffered has no room on a full disk either
            self._file.close()
        self._written.unlink(missing_ok=True)


class _PipeSink:
    """A pipe, whose reader takes his time. RpcError if the node stops meanwhile."""

    def __init__(self, context: RpcContext, descriptor: int) -> None:
        self._context = context
        self._descriptor = descriptor

    async def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if self._context.chain_service.closing:
                raise RpcError(Code.INTERNAL_ERROR, _STOPPING)
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await _writable(self._descriptor)

    async def finish(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        os.close(self._descriptor)


async def _writable(descriptor: int) -> None:
    """Wait until there is room in a pipe, or for a moment."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READER_POLL_S):
                await ready.wait()
    finally:
        loop.remove_writer(descriptor)


async def _open_pipe(context: RpcContext, path: Path) -> _PipeSink:
    """A pipe that a reader has opened, waited for in a way that ends with the node. OSError passes through."""
    while not context.chain_service.closing:
        try:
            return _PipeSink(context, os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads yet
                raise
        await asyncio.sleep(_READER_POLL_S)
    raise RpcError(Code.INTERNAL_ERROR, _STOPPING)


def _target(context: RpcContext, kind: str, options: dict[str, JSON]) -> BlockIndexEntry:
    chain = context.chain
    if options.get("rollback") is not None:
        if kind not in ("", "rollback"):
            raise invalid_parameter(f'Invalid snapshot type "{kind}" specified with rollback option')
        target = block_at(context, options["rollback"])
    elif kind == "rollback":
        heights = [line.height for line in context.params.assumeutxo]
        if not heights:
            raise invalid_parameter("This network's table has no snapshot to roll back to: name a block with rollback")
        target = block_at(context, max(heights))
    elif kind == "latest":
        target = chain.tip
    else:
        raise invalid_parameter(f'Invalid snapshot type "{kind}" specified. Please specify "rollback" or "latest"')
    if not chain.index.in_active(target):
        raise invalid_parameter(f"Block {hash_to_hex(target.hash)} is not in the active chain")
    return target


@rpc(
    "loadtxoutset",
    _CATEGORY,
    Arg("path", Kind.STR, help="the snapshot, below the data directory if relative"),
    help="Go on from the unspent outputs in a file that dumptxoutset wrote, if this network's table knows their hash."
    " The node then syncs from there to the tip, and meanwhile downloads and validates all blocks before.",
)
async def loadtxoutset(context: RpcContext, path_text: str) -> JSON:
    path = _absolute(context, path_text)
    try:
        if not path.is_file():  # a pipe would hold up the node for as long as nobody writes
            raise FileNotFoundError(errno.ENOENT, "not a file")
        file = await asyncio.to_thread(path.open, "rb")
    except OSError as error:
        raise invalid_parameter(f"Couldn't open file {path} for reading.") from error
    with file:
        try:
            metadata = read_metadata(file, context.params)
            steps = await context.chain_service.call(context.worker.load_snapshot, file, metadata)
            if await _run(context, steps) is None and context.chain_service.closing:
                raise SnapshotError("Aborting after an interrupt was requested")
        except MetadataError as error:
            raise RpcError(Code.DESERIALIZATION_ERROR, f"Unable to parse metadata: {error}") from error
        except SnapshotError as error:
            raise RpcError(Code.INTERNAL_ERROR, f"Unable to load UTXO snapshot: {error}. ({path})") from error
    base = context.chain.index.entries[metadata.base_hash]
    return {
        "coins_loaded": metadata.coins_count,
        "tip_hash": hash_to_hex(base.hash),
        "base_height": base.height,
        "path": str(path),
    }


async def _run(
    context: RpcContext, steps: Iterator[T], between: Callable[[], Awaitable[None]] | None = None
) -> T | None:
    """Take steps in the chain's thread, other work in between, and after each `between`; the last one, None if the node
    is stopping.
    """
    service = context.chain_service
    last: T | None = None
    try:
        while not service.closing:
            step = await service.call(next, steps, None)
            if step is None:
                return last
            last = step
            if between is not None:
                await between()
        return None
    finally:
        close: Any = getattr(steps, "close", None)
        if close is not None:
            await service.call(close)


def _absolute(context: RpcContext, text: str) -> Path:
    """A path as a user gave it, below the data directory if relative."""
    if "\0" in text or not text.isprintable():
        raise invalid_parameter("A path holds printable characters only.")
    return (network_dir(context.config.datadir, context.params).absolute() / text).absolute()


@rpc("getchainstates", _CATEGORY, help="The active chain and, while a UTXO snapshot is validated, the chain below it.")
def getchainstates(context: RpcContext) -> JSON:
    chain, worker = context.chain, context.worker
    background = chain.background

    def describe(tip: BlockIndexEntry, cache_bytes: int, progress: float) -> dict[str, JSON]:
        return {
            "blocks": tip.height,
            "bestblockhash": hash_to_hex(tip.hash),
            "bits": f"{tip.nbits:08x}",
            "target": target_hex(tip.nbits),
            "difficulty": difficulty(tip.nbits),
            "verificationprogress": progress,
            "coins_db_cache_bytes": 0,  # the operating system's, which takes what is free
            "coins_tip_cache_bytes": cache_bytes,
        }

    active = describe(chain.tip, chain.coins.budget_bytes, worker.verification_progress(chain.tip))
    if chain.snapshot_base is not None:
        active["snapshot_blockhash"] = hash_to_hex(chain.snapshot_base)
    active["validated"] = background is None
    chainstates: list[JSON] = [active]
    if background is not None:
        below = describe(background.tip, background.coins.budget_bytes, worker.verification_progress(background.tip))
        below["validated"] = True
        chainstates.insert(0, below)
    return {"headers": chain.index.best_header.height, "chainstates": chainstates}
