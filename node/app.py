"""Composition and life of a node: one asyncio process that starts in order, runs until told to stop, and stops in
order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chain.chainstate import Chainstate
from chain.interfaces import HeaderInfo, MempoolTransaction, Verdict
from chain.mempool.policy import DEFAULT_MIN_RELAY_FEE_RATE, MempoolLimits, MempoolPolicy
from chain.mempool.pool import Mempool
from chain.params import NetworkParams
from chain.primitives.errors import LocalFault, UserError
from chain.primitives.types import ZERO_HASH, BlockHash, Txid, Wtxid, hash_from_hex, hash_to_hex
from chain.storage.block_files import MAX_FILE_SIZE
from chain.storage.lock import DirectoryLock
from node.chain_service import ChainService
from node.chain_worker import ChainWorker, Notice
from node.clock import Clock
from node.config import NodeConfig, user_agent
from node.ending import take_no_more_signals
from node.indexes import IndexDriver, check_not_pruned, open_indexes
from node.log import FILE_ONLY, NodeLog
from node.networks import blocks_dir, network_dir, params_for
from node.peers import build_peer_config
from node.rpc.auth import Authenticator, write_private
from node.rpc.context import RpcContext
from node.rpc.mempool import MEMPOOL_FILE
from node.rpc.server import IPNetwork, RpcServer
from node.rpc.table import MODULES
from node.warm_up import WarmUp
from p2p.manager import PeerManager

log = logging.getLogger("pickaxe.node")

FAST_PRUNE_FILE_BYTES: Final = 0x10000  #: Core's -fastprune
MAINTENANCE_S: Final = 60.0
REBROADCAST_S: Final = 600.0  #: our own transactions that no peer has asked for yet are announced again
FUTURE_TIP_MESSAGE: Final = (
    "The block database contains a block which appears to be from the future."
    " This may be due to your computer's date and time being set incorrectly."
    " Only rebuild the block database if you are sure that your computer's date and time are correct.\n"
    "Please restart with -reindex or -reindex-chainstate to recover."
)
INDEXES_MESSAGE: Final = (
    "A fatal internal error occurred, see debug.log for details: Failed to start indexes, shutting down…"
)
DAMAGE_MESSAGE: Final = (
    "Corrupted block database detected: please restart with -reindex or -reindex-chainstate to recover."
)
UNPRUNE_MESSAGE: Final = (
    "You need to rebuild the database using -reindex to go back to unpruned mode.  This will redownload the entire"
    " blockchain"
)
BIND_ADVICE: Final = "choose an address of this computer and a free port with --bind HOST:PORT, or --no-listen"
PORT_FILE: Final = "rpc.port"


class InitError(Exception):
    """The node cannot start; the text is shown without a prefix."""


def run_node(config: NodeConfig, *, core_layout: bool = False, warnings: Sequence[str] = ()) -> int:
    """Run a node until it is stopped. Returns the exit status; failures are one line on stderr, 'Error: …'.

    `core_layout` also makes the empty folders that software for Bitcoin Core expects.
    """
    try:
        try:
            return asyncio.run(_main(config, core_layout, warnings))
        finally:
            take_no_more_signals()
    except KeyboardInterrupt:  # as the loop gave the signal back
        return 0
    except (UserError, LocalFault) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except InitError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:  # a defect of ours: still one line, the rest is in debug.log
        print(f"Error: internal error ({type(error).__name__}: {error}); see debug.log", file=sys.stderr)
        return 1


async def _main(config: NodeConfig, core_layout: bool, warnings: Sequence[str]) -> int:
    node = Node(config, core_layout=core_layout)
    try:
        await node.start(warnings)
        await node.run()
    except (UserError, LocalFault, InitError) as error:
        node.note(error)
        raise
    except Exception as error:
        node.note(error)
        raise
    finally:
        await node.close()
        take_no_more_signals()
    if node.fault is not None:
        raise node.fault
    return 0


class Node:
    """One running node. `start`, `run`, `close`, in this order; `stop` makes `run` return."""

    def __init__(self, config: NodeConfig, *, core_layout: bool = False) -> None:
        self.config = config
        self.params: NetworkParams = params_for(config)
        self.folder = network_dir(config.datadir, self.params)
        self.clock = Clock(config.mocktime)
        self.fault: LocalFault | None = None
        self._core_layout = core_layout
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._mocked = asyncio.Event()
        self._imported = asyncio.Event()
        self._index_driver: IndexDriver | None = None
        self._next_rebroadcast = self._loop.time() + REBROADCAST_S
        self._log: NodeLog | None = None
        self._service: ChainService | None = None
        self._rpc: RpcServer | None = None
        self._peers: PeerManager | None = None
        self._pid_file: Path | None = None
        self._opened = False

    # ------------------------------------------------------------------ starting

    async def start(self, warnings: Sequence[str] = ()) -> None:
        """Everything up to the first answer. UserError, LocalFault or InitError when it cannot be."""
        self._make_folders()
        blocks_dir(self.config, self.params)  # a mistake in it is said before anything starts
        DirectoryLock(self.folder).release()  # before the cookie of a node that runs already is overwritten
        self._start_log(warnings)
        self._trap_signals()
        self._service = ChainService(self.params, self._on_fault)
        self._rpc = await self._start_rpc()
        self._rpc.warmup_status = "Loading block index…"
        await self._service.open(self._open_chain)
        self._opened = True
        await self._service.call(self._check_tip)
        if self.config.reindex or self.config.reindex_chainstate:
            self._rpc.warmup_status = "Reindexing blocks on disk…"
            await self._import(lambda chain: chain.reindex(), "Reindexing")
        await self._service.call(self._check_indexes)
        self._peers = PeerManager(
            self._service, build_peer_config(self.config, self.params, self.folder), clock=self.clock
        )
        self._peers.network_active = self.config.network_active
        self._peers.engine.transactions.on_served = self._service.transaction_served
        self._service.subscribe(self._peers)
        self._service.subscribe(_TipWatch(self._note_height))
        self._index_driver = IndexDriver(self._service)
        self._service.subscribe(self._index_driver)
        try:
            await self._peers.start()
        except UserError as error:
            if self._core_layout:
                raise
            raise UserError(f"{str(error).rstrip('.')}: {BIND_ADVICE}.") from error
        context = RpcContext(
            config=self.config,
            params=self.params,
            clock=self.clock,
            chain_service=self._service,
            log=self._need_log(),
            server=self._rpc,
            stop=self.stop,
            mock_scheduler=self._mock_scheduler,
            peers=self._peers,
            log_path=self._need_log().path,
        )
        log.debug("%d RPC modules", len(MODULES))
        self._rpc.ready(context)
        log.info("Done loading")

    def _make_folders(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._core_layout:
                (self.folder / "wallets").mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"Cannot create directory {self.folder}: {error.strerror}.") from error

    def _start_log(self, warnings: Sequence[str]) -> None:
        config = self.config
        path: Path | None = None
        if config.log_file not in ("", "0"):
            chosen = Path(config.log_file)
            path = chosen if chosen.is_absolute() else self.folder / chosen
        self._log = NodeLog(
            path,
            console=config.print_to_console,
            categories=config.debug,
            exclude=config.debug_exclude,
            shrink=config.shrink_log,
        )
        log.info("%s starting on %s, data in %s", user_agent(config), self.params.name, self.folder)
        for warning in warnings:
            log.warning("%s", warning)
        for name in self._log.unknown:
            log.warning("Unsupported logging category -debug=%s.", name)

    def _need_log(self) -> NodeLog:
        if self._log is None:
            raise RuntimeError("the log is not open")
        return self._log

    def _trap_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self.stop)
        with contextlib.suppress(ValueError, OSError):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))

    async def _start_rpc(self) -> RpcServer:
        config = self.config
        cookie = self.folder / (config.rpc_cookie_file or ".cookie")
        try:
            authenticator = Authenticator(
                user=config.rpc_user, password=config.rpc_password, rpcauth=config.rpc_auth, cookie_path=cookie
            )
        except OSError as error:
            raise LocalFault(f"Cannot write {cookie}: {error.strerror}") from error
        if config.pid_file:
            pid_path = self.folder / config.pid_file
            try:
                write_private(pid_path, f"{os.getpid()}\n")
            except OSError as error:
                authenticator.close()
                raise LocalFault(f"Cannot write {pid_path}: {error.strerror}") from error
            self._pid_file = pid_path  # from here on it is ours, to be deleted at the end
        server = RpcServer(
            authenticator,
            threads=config.rpc_threads,
            work_queue=config.rpc_work_queue,
            idle_timeout_s=config.rpc_timeout_s,
            allow=[_subnet(text) for text in config.rpc_allow_ip],
        )
        if config.rpc_server:
            port = config.rpc_port or self.params.rpc_port
            addresses = [_host_port(text, port) for text in config.rpc_bind]
            if addresses and not config.rpc_allow_ip and not all(map(_is_loopback, addresses)):
                log.warning("--rpc-bind was ignored because --rpc-allow-ip was not given: RPC is on loopback only")
                addresses = []
            addresses = addresses or [("127.0.0.1", port)]
            try:
                await server.start(addresses)
            except OSError as error:
                authenticator.close()
                where = ", ".join(f"{host}:{number}" for host, number in addresses)
                log.error("Unable to bind RPC to %s: %s", where, error.strerror, extra=self._last_line)
                raise UserError(
                    f"Unable to start HTTP server on {where} ({error.strerror}): stop what uses the port or choose"
                    " another with --rpc-port. See debug log for details."
                ) from error
            with contextlib.suppress(OSError):
                (self.folder / PORT_FILE).write_text(str(server.port))
        return server

    def _open_chain(self, notify: Callable[[Notice], None]) -> ChainWorker:
        config = self.config
        assumed = config.assume_valid
        chain = Chainstate(
            self.params,
            self.folder,
            blocks_dir=blocks_dir(config, self.params),
            clock=self.clock,
            dbcache_bytes=config.dbcache_mib << 20,
            script_threads=_script_threads(config.script_threads),
            assumevalid=None if not assumed else _hash_option("assumevalid", assumed),
            minimum_chain_work=_work_option(config.minimum_chain_work),
            max_tip_age_s=config.max_tip_age_s,
            reindex=config.reindex,
            reindex_chainstate=config.reindex_chainstate,
            max_block_file_size=FAST_PRUNE_FILE_BYTES if config.fast_prune else MAX_FILE_SIZE,
        )
        try:
            for remark in chain.remarks:
                log.info("%s", remark)
            if not config.prune_mib and chain.has_pruned_blocks:
                raise UserError(UNPRUNE_MESSAGE)
            mempool = Mempool(chain, mempool_policy(config, self.params), self.clock)
            worker = ChainWorker(chain, mempool, self.clock, notify)
            worker.indexes = open_indexes(config, chain, self.folder)
        except BaseException:
            chain.close()
            raise
        return worker

    def _check_tip(self) -> None:
        chain = self._need_service().worker.chain
        if chain.tip.height and chain.tip.time > self.clock() + self.params.max_future_drift_s:
            raise InitError(FUTURE_TIP_MESSAGE)
        if chain.tip.height:
            checks = self.config.check_level, max(self.config.check_blocks, 0)
            damage = self._need_service().worker.find_damage(*checks)
            if damage is not None and self._core_layout:
                raise UserError(DAMAGE_MESSAGE)
            if damage is not None:
                raise UserError(f"Corrupted block database detected. {damage}")

    def _check_indexes(self) -> None:
        try:
            check_not_pruned(self._need_service().worker.indexes)
        except UserError as error:
            if self._core_layout:
                raise UserError(f"{error}\nError: {INDEXES_MESSAGE}") from error
            raise

    def _need_service(self) -> ChainService:
        if self._service is None:
            raise RuntimeError("the chain is not open")
        return self._service

    # ------------------------------------------------------------------ running

    async def run(self) -> None:
        """Serve until `stop`. A task that fails stops the node and its failure comes out here."""
        peers = self._peers
        if peers is None:
            raise RuntimeError("start first")
        stopper = asyncio.create_task(self._stop.wait())
        try:
            async with asyncio.TaskGroup() as group:
                work = [
                    group.create_task(peers.run(), name="peers"),
                    group.create_task(self._background(), name="import"),
                    group.create_task(self._maintain(), name="maintenance"),
                    group.create_task(self._keep_indexes(), name="indexes"),
                    group.create_task(self._validate_snapshot(), name="snapshot validation"),
                    group.create_task(WarmUp().run(), name="warm-up"),
                ]
                await stopper
                self._need_service().interrupt()
                peers.stop()
                for task in work[1:]:
                    task.cancel()
        except* LocalFault as faults:
            self.fault = self.fault or _first(faults)
        except* UserError as errors:
            raise UserError(str(_first(errors))) from errors
        finally:
            stopper.cancel()

    def stop(self) -> None:
        """Begin the shutdown. May be called more than once."""
        if not self._stop.is_set():
            log.info("Shutdown requested")
            self._stop.set()

    def note(self, error: Exception) -> None:
        """Put a failure into the log, if that is open yet; a defect of ours with its traceback."""
        if self._log is not None:
            ours = not isinstance(error, UserError | LocalFault | InitError)
            # Without a file the console is the only place for a defect's traceback.
            shown = ours and self._log.path is None
            log.error("%s", error, exc_info=error if ours else None, extra=None if shown else self._last_line)

    @property
    def _last_line(self) -> Mapping[str, bool] | None:
        """For what `run_node` says at the end anyway; Core has it twice."""
        return None if self._core_layout else FILE_ONLY

    def _on_fault(self, fault: LocalFault) -> None:
        if self.fault is None:
            log.error("%s", fault, extra=None if self._peers is not None else self._last_line)
            self.fault = fault
        self.stop()

    async def _background(self) -> None:
        """What needs the chain but may take long: --loadblock files, then the saved mempool."""
        for name in self.config.load_block:
            path = Path(name)
            log.info("Importing blocks file %s...", path)
            await self._import(_loader(path), f"Importing {path.name}")
        service = self._need_service()
        self._imported.set()
        self._note_height(service.tip().height)
        await service.call(self._load_mempool)

    async def _keep_indexes(self) -> None:
        await self._imported.wait()
        if self._index_driver is not None:
            await self._index_driver.run()

    async def _validate_snapshot(self) -> None:
        """Bring the background chain below a UTXO snapshot on, whenever there is one that can advance."""
        service = self._need_service()
        worker = service.worker
        await self._imported.wait()

        def can_advance() -> bool:
            background = worker.chain.background
            return background is not None and background.can_advance

        while not service.closing:
            if await service.wait_for_change(can_advance, None):
                await service.call(worker.advance_background)
                if self._index_driver is not None:
                    self._index_driver.wake()

    async def _import(self, start: Callable[[Chainstate], Any], what: str) -> None:
        service = self._need_service()
        worker = service.worker
        steps = await service.call(start, worker.chain)
        last = asyncio.get_running_loop().time()
        progress = None
        while not self._stop.is_set():
            try:
                step = await service.call(next, steps, None)
            except LocalFault as fault:
                self._on_fault(fault)
                raise
            if step is None:
                break
            progress = step
            await service.call(worker.follow, step.events)
            now = asyncio.get_running_loop().time()
            if now - last >= 5:
                last = now
                share = 100 * step.bytes_done / step.bytes_total if step.bytes_total else 100.0
                log.info("%s: %.1f%%, %d blocks, height %d", what, share, step.accepted, worker.chain.index.height)
        if progress is not None:
            tip = worker.chain.tip
            log.info(
                "%s done: %d blocks accepted, %d refused, tip %s at height %d",
                what,
                progress.accepted,
                progress.refused,
                hash_to_hex(tip.hash),
                tip.height,
            )

    def _load_mempool(self) -> None:
        worker = self._need_service().worker
        path = self.folder / MEMPOOL_FILE
        if self.config.persist_mempool and path.exists():
            worker.load_mempool(path)
        worker.mempool.loaded = True

    def _note_height(self, height: int) -> None:
        if 0 < self.config.stop_at_height <= height:
            self.stop()

    async def _maintain(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAINTENANCE_S):
                    await self._mocked.wait()
            mocked = self._mocked.is_set()
            self._mocked.clear()
            await self._maintain_once(mocked)

    async def _maintain_once(self, mocked: bool) -> None:
        service = self._need_service()
        await service.call(service.worker.expire_mempool)
        now = self._loop.time()
        if self._peers is not None and (mocked or now >= self._next_rebroadcast):
            self._next_rebroadcast = now + REBROADCAST_S
            for txid in await service.call(lambda: list(service.worker.mempool.unbroadcast)):
                waiting = service.transaction_by_txid(txid)
                if waiting is not None:
                    self._peers.relay_transaction(waiting.txid, waiting.wtxid)
        if self.config.prune_mib > 1:
            await service.call(self._prune)

    def _prune(self) -> None:
        worker = self._need_service().worker
        if worker.chain.files.size_on_disk() > self.config.prune_mib << 20:
            worker.prune(worker.chain.tip.height)

    def _mock_scheduler(self, delta_s: int) -> None:
        """What is due within so many seconds happens now: all our periodic work is more frequent than that."""
        log.debug("mockscheduler: forward %d s", delta_s)
        self._mocked.set()

    # ------------------------------------------------------------------ stopping

    async def close(self) -> None:
        """Let go of everything, in the reverse order. Safe after a failed start."""
        if self._rpc is not None:
            await self._rpc.close()
        service = self._service
        if service is not None:
            try:
                if self._opened:
                    await service.call(self._close_chain)
            except LocalFault as fault:
                self.fault = self.fault or fault
            finally:
                await service.close()
        for path in (self._pid_file, self.folder / PORT_FILE if self._rpc is not None else None):
            if path is not None:
                path.unlink(missing_ok=True)
        if self._log is not None:
            log.info("Shutdown done")
            self._log.close()

    def _close_chain(self) -> None:
        worker = self._need_service().worker
        try:
            if self.config.persist_mempool and worker.mempool.loaded and self.fault is None:
                worker.save_mempool(self.folder / MEMPOOL_FILE)
            if worker.indexes and not worker.chain.has_failed:
                worker.chain.flush()  # the indexes may be as far as it is
            worker.indexes.close()
        finally:
            worker.chain.close()


class _TipWatch:
    """Hears of new tips only."""

    def __init__(self, on_height: Callable[[int], None]) -> None:
        self._on_height = on_height

    def on_tip_changed(
        self, tip: HeaderInfo, connected: Sequence[BlockHash], disconnected: Sequence[BlockHash]
    ) -> None:
        self._on_height(tip.height)

    def on_block_rejected(self, block_hash: BlockHash, verdict: Verdict, reason: str) -> None:
        """Of no interest here."""

    def on_transaction_accepted(self, transaction: MempoolTransaction) -> None:
        """Of no interest here."""

    def on_transaction_removed(self, txid: Txid, wtxid: Wtxid, reason: str) -> None:
        """Of no interest here."""


def mempool_policy(config: NodeConfig, params: NetworkParams) -> MempoolPolicy:
    """The mempool's view of the settings."""
    nonstandard = config.accept_nonstandard
    if nonstandard and not params.is_test_chain:
        raise UserError(f"acceptnonstdtxn is not currently supported for {params.chain_name} chain")
    min_relay_fee = config.min_relay_fee
    if min_relay_fee == DEFAULT_MIN_RELAY_FEE_RATE:  # left alone, it follows a higher incremental rate, as in Core
        min_relay_fee = max(min_relay_fee, config.incremental_relay_fee)
    largest = config.limit_cluster_kvb * 1000
    if (
        config.max_mempool_mb < 0 or 0 < config.max_mempool_mb * 1_000_000 < largest * 40
    ):  # Core's bound: the largest cluster's memory
        raise UserError(f"-maxmempool must be at least {-(-largest * 40 // 1_000_000)} MB")
    return MempoolPolicy(
        min_relay_fee_rate=min_relay_fee,
        incremental_relay_fee_rate=config.incremental_relay_fee,
        dust_relay_fee_rate=config.dust_relay_fee,
        max_datacarrier_bytes=config.data_carrier_bytes if config.data_carrier else None,
        permit_bare_multisig=config.permit_bare_multisig,
        require_standard=not nonstandard,
        bytes_per_sigop=config.bytes_per_sigop,
        max_mempool_bytes=config.max_mempool_mb * 1_000_000,
        expiry_s=config.mempool_expiry_h * 3600,
        limits=MempoolLimits(
            ancestor_count=config.limit_ancestor_count or None,
            ancestor_vsize=largest if config.limit_ancestor_count else None,
            descendant_count=config.limit_descendant_count or None,
            descendant_vsize=largest if config.limit_descendant_count else None,
            cluster_count=config.limit_cluster_count,
            cluster_vsize=largest,
        ),
    )


def _loader(path: Path) -> Callable[[Chainstate], Any]:
    return lambda chain: chain.load_block_file(path)


def _first(group: BaseExceptionGroup[Any]) -> Any:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _script_threads(par: int) -> int:
    """Core's -par: 0 is one a core, negative leaves so many cores free; the calling thread is one of them."""
    cores = os.cpu_count() or 1
    threads = cores if par == 0 else cores + par if par < 0 else par
    return max(0, min(threads, 16) - 1)


def _hash_option(name: str, text: str) -> bytes:
    if text == "0":
        return ZERO_HASH
    try:
        return hash_from_hex(text.removeprefix("0x").rjust(64, "0"))
    except ValueError:
        raise UserError(
            f"Invalid {name} block hash specified ({text}), must be up to 64 hex digits (or 0 to disable)"
        ) from None


def _work_option(text: str) -> int | None:
    if not text:
        return None
    digits = text.removeprefix("0x")
    if len(digits) > 64 or not digits or any(c not in "0123456789abcdefABCDEF" for c in digits):
        raise UserError(f"Invalid minimum work specified ({text}), must be up to 64 hex digits")
    return int(digits, 16)


def _subnet(text: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UserError(
            f"Invalid -rpcallowip subnet specification: {text}. Valid values are a single IP (e.g. 1.2.3.4), a"
            " network/netmask (e.g. 1.2.3.4/255.255.255.0), a network/CIDR (e.g. 1.2.3.4/24), all ipv4 (0.0.0.0/0),"
            " or all ipv6 (::/0)."
        ) from None


def _is_loopback(address: tuple[str, int]) -> bool:
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


def _host_port(text: str, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:]) if rest.startswith(":") and rest[1:].isdigit() else default_port
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and ":" not in host:
        return host, int(port)
    return text, default_port
