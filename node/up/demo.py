"""The demo itself: starts the parts, watches them, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chain.consensus.constants import COINBASE_MATURITY
from chain.consensus.subsidy import block_subsidy, total_subsidy
from chain.params import NetworkParams, network
from chain.primitives.errors import LocalFault, UserError
from chain.storage.lock import DirectoryLock
from miner.cpu.tuner import tuned
from node.ending import take_no_more_signals
from node.networks import network_dir
from node.up.people import People
from node.up.processes import Child, choose_port, is_taken
from node.up.state import BlockLine, DemoState
from wallet.sync.broadcast import Refused
from wallet.sync.rpc import NodeAddress, NodeError, RpcClient, RpcError

NETWORK = "dev"
START_TIMEOUT_S = 60.0
PORT_TRIES = 3  #: a port that is free may be taken before the node comes to it
REFRESH_S = 0.25
PAYMENT_INTERVAL_S = 2.0
HASHES_PER_DIFFICULTY = 1 << 32  #: expected, at difficulty 1


class Screen(Protocol):
    """Where the demo shows itself."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, state: DemoState) -> None: ...


@dataclass(frozen=True)
class DemoOptions:
    """What the command line says. `blocks`: stop after that many; `pace_s`: mean time between two blocks."""

    datadir: Path
    blocks: int | None
    pace_s: float
    threads: int


class Demo:
    """One run of `pickaxe up`. `state` is what the screen shows and the summary sums up."""

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self.state = DemoState()
        self._options = options
        self._screen = screen
        self._params: NetworkParams = network(NETWORK)
        self._stop = asyncio.Event()
        self._children: list[Child] = []

    async def run(self) -> None:
        """Until Ctrl-C, the last block wanted, or the end of a part; LocalFault or UserError say which part and why."""
        logs = self._options.datadir / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--datadir {self._options.datadir} cannot be created: {error.strerror}") from error
        lock = DirectoryLock(self._options.datadir)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        try:
            with self._screen:
                self._screen.show(self.state)
                await self._run_parts(logs)
        finally:
            for child in reversed(self._children):
                await child.stop()
            lock.release()
            take_no_more_signals()

    async def _run_parts(self, logs: Path) -> None:
        started = await self._start_node(logs / "node.log")
        if started is None:
            return
        node, address = started
        async with RpcClient(address) as rpc:
            people = People(self._options.datadir, self._params, rpc)
            try:
                await self._with_wallets(node, rpc, people, logs, address)
            finally:
                people.close()

    async def _with_wallets(
        self, node: Child, rpc: RpcClient, people: People, logs: Path, address: NodeAddress
    ) -> None:
        await self._look(rpc)
        self.state.start_height = self.state.height
        payout = people.wallets["miner"].new_address()
        watch = asyncio.create_task(self._watch(rpc, people))
        mine = asyncio.create_task(self._mine(payout, address, logs))
        ended = asyncio.create_task(node.wait())
        stopped = asyncio.create_task(self._stop.wait())
        tasks: list[asyncio.Task[Any]] = [watch, mine, ended, stopped]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not stopped.done():
                raise LocalFault(f"the node stopped: {node.last_words()}")
            for task in (watch, mine):
                if task.done():
                    task.result()  # raises what ended it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(NodeError, RpcError):
            await self._look(rpc)
            await people.sync()
            self._take_balances(people)
        self._screen.show(self.state)

    # -- the parts

    async def _start_node(self, log: Path) -> tuple[Child, NodeAddress] | None:
        """A node that answers, and where; None if Ctrl-C came first."""
        cookie = network_dir(self._options.datadir, self._params) / ".cookie"
        tries = 0
        while True:
            tries += 1
            ports = choose_port(self._params.rpc_port), choose_port(self._params.default_port)
            address = NodeAddress(f"http://127.0.0.1:{ports[0]}", cookie)
            node = Child("node", self._node_arguments(*ports), log)
            await self._start(node)
            try:
                answered = await self._or_stopped(self._until_answering(node, address))
                return (node, address) if answered else None
            except LocalFault:
                if node.running or tries == PORT_TRIES or not any(map(is_taken, ports)):
                    raise
                self._children.remove(node)  # another program was quicker with a port

    def _node_arguments(self, rpc_port: int, port: int) -> list[str]:
        return [
            "node",
            *("--network", NETWORK, "--datadir", str(self._options.datadir)),
            *("--rpc-port", str(rpc_port), "--bind", f"127.0.0.1:{port}"),
        ]

    async def _start(self, child: Child) -> None:
        self._children.append(child)
        await child.start()

    async def _until_answering(self, node: Child, address: NodeAddress) -> None:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while True:
            if not node.running:
                await node.wait()  # for its last words
                raise LocalFault(f"the node did not start: {node.last_words()}")
            with contextlib.suppress(NodeError, RpcError):
                async with RpcClient(address) as rpc:
                    await rpc.call("getblockcount")
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise LocalFault(f"the node did not answer within {START_TIMEOUT_S:.0f} s: see {node.log}")
            await asyncio.sleep(0.05)

    async def _or_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work; False if Ctrl-C came first."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        return False

    async def _mine(self, payout: str, address: NodeAddress, logs: Path) -> None:
        """First to maturity as fast as blocks are found, then at the pace; ends after the last block wanted."""
        left = self._options.blocks
        warm_up = COINBASE_MATURITY + 1 - self.state.height
        if warm_up > 0:
            self.state.doing = "mining the first hundred blocks, after which coins can be spent"
            count = warm_up if left is None else min(warm_up, left)
            await self._run_miner(payout, address, logs, count, 0.0)
            if left is not None:
                left -= count
        if left is None or left > 0:
            self.state.doing = "mining and paying"
            await self._run_miner(payout, address, logs, left, self._options.pace_s)

    async def _run_miner(
        self, payout: str, address: NodeAddress, logs: Path, blocks: int | None, pace_s: float
    ) -> None:
        log = logs / "miner.log"
        arguments = [
            "mine",
            "--network",
            NETWORK,
            "--address",
            payout,
            "--json",
            "--threads",
            str(self._options.threads),
        ]
        arguments += ["--rpc-url", address.url, "--rpc-cookie", str(address.cookie)]
        if blocks is not None:
            arguments += ["--blocks", str(blocks)]
        if pace_s:
            # Any hash makes a block on this network. Looking for harder ones instead gives blocks at about the pace
            # and the miner something to do.
            rate = (await asyncio.to_thread(tuned)).rate * self._options.threads
            arguments += ["--min-difficulty", str(rate * pace_s / HASHES_PER_DIFFICULTY)]
        read_from = log.stat().st_size if log.exists() else 0
        miner = Child("miner", arguments, log)
        await self._start(miner)
        follow = asyncio.create_task(self._follow(log, read_from))
        try:
            status = await miner.wait()
            await asyncio.sleep(2 * REFRESH_S)  # its last status line
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)
            self.state.close_miner_run()
        self._children.remove(miner)
        if status:
            raise LocalFault(f"the miner stopped: {miner.last_words()}")

    async def _follow(self, log: Path, position: int) -> None:
        """Read the miner's status lines as they are written."""
        rest = b""
        with log.open("rb") as file:
            file.seek(position)
            while True:
                rest += file.read()
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        self.state.take_miner_line(json.loads(line))
                await asyncio.sleep(REFRESH_S)

    # -- what the screen shows

    async def _watch(self, rpc: RpcClient, people: People) -> None:
        next_payment = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self._look(rpc)
            await people.sync()
            if loop.time() >= next_payment:
                next_payment = loop.time() + PAYMENT_INTERVAL_S
                try:
                    payment = await people.pay()
                except Refused as error:
                    self.state.events.append(str(error))
                    payment = None
                if payment is not None:
                    self.state.payments += 1
                    self.state.paid += payment.amount
                    self.state.events.append(str(payment))
            self._take_balances(people)
            self._screen.show(self.state)
            await asyncio.sleep(REFRESH_S)

    async def _look(self, rpc: RpcClient) -> None:
        info, mempool = await rpc.batch([("getblockchaininfo", ()), ("getmempoolinfo", ())])
        for answer in (info, mempool):
            if isinstance(answer, RpcError):
                raise answer
        state = self.state
        known = state.height if state.blocks else max(0, info["blocks"] - (state.blocks.maxlen or 0))
        for height in range(max(known + 1, info["blocks"] - (state.blocks.maxlen or 0) + 1), info["blocks"] + 1):
            block = await rpc.call("getblock", await rpc.call("getblockhash", height), 1)
            state.blocks.append(BlockLine(height, block["hash"], block["nTx"], block["size"], block["time"]))
        state.height = info["blocks"]
        # The genesis block's coins cannot be spent.
        state.supply = total_subsidy(state.height, self._params) - block_subsidy(0, self._params)
        state.mempool_count, state.mempool_bytes = mempool["size"], mempool["bytes"]

    def _take_balances(self, people: People) -> None:
        for name, wallet in people.wallets.items():
            balance = wallet.balance()
            self.state.balances[name] = (balance.confirmed, balance.pending, balance.immature)
