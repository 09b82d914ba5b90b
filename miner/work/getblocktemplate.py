"""Work from a node's getblocktemplate: long polling, several nodes in turn, and submission of what was found."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chain.params import NetworkParams
from chain.primitives.errors import UserError
from chain.primitives.types import hash_to_hex
from miner.share import Share
from miner.work.job import Job
from miner.work.rpc import Endpoint, NodeClient, NodeUnreachable, RpcError, WrongPassword, sleep_or_event
from miner.work.source import PoolReport, Submission
from miner.work.stratum.messages import clean_text
from miner.work.template import EXTRANONCE1_SIZE, BadTemplate, Template, job_from_template, solved_block

REFRESH_S = 30.0  #: new transactions and a fresh time at least this often, with or without long polling
LONGPOLL_TIMEOUT_S = 3600.0
STALE_AFTER_S = 60.0  #: without word from any node for this long, work is assumed to be stale and stops
RETURN_S = 60.0  #: how often the nodes before the one in use are asked whether they are back
SUBMIT_PATIENCE_S = 60.0  #: how long a block found is offered to a node that does not answer
_OTHERS_S = 2.0  # for the other nodes to answer when one has refused a block
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_MAX_LINE = 800
_METHOD_NOT_FOUND = -32601
_PREVIOUS_GONE = {
    "inconclusive",
    "stale-prevblk",
    "stale-work",
    "prev-blk-not-found",
    "bad-prevblk",
    "inconclusive-not-best-prevblk",
}
#: RPC codes that pass by themselves: not connected, in initial download, warming up.
_WAIT_CODES = {-9, -10, -28}


@dataclass(slots=True)
class _Block:
    """One on offer. `missed`: the nodes that have not answered at least once; `given_up`: its finder has been told that
    it was refused."""

    data_hex: str
    hash_hex: str
    missed: set[int] = field(default_factory=set)
    taken: bool = False
    given_up: bool = False


class TemplateSource:
    """A WorkSource over nodes. Keeps the newest job of the first node in `endpoints` that answers, and returns to an
    earlier one when that is back and not behind.

    `on_job(job)`: mine this instead of whatever was mined before; None: stop, there is no valid work.
    `on_message(text)`: one line for the user, each only when something changes.
    `easiest_target`: offer only blocks at least this hard, whatever the network would take.
    """

    parallel_submissions = 1  # the next block builds on the answer

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        params: NetworkParams,
        payout: bytes,
        *,
        on_job: Callable[[Job | None], None],
        on_message: Callable[[str], None],
        version_rolling: bool = True,
        easiest_target: int | None = None,
    ) -> None:
        if params.signet_challenge is not None:
            raise UserError(f"blocks of network '{params.name}' must be signed by its operators: it cannot be mined")
        self._clients = [NodeClient(endpoint) for endpoint in endpoints]
        self._params = params
        self._payout = payout
        self._on_job = on_job
        self._on_message = on_message
        self._version_rolling = version_rolling
        self._easiest_target = easiest_target
        self.hash_rate: Callable[[], float] = float  # a node does not ask
        self._next_extranonce1 = int.from_bytes(os.urandom(EXTRANONCE1_SIZE))
        self._current = 0
        self._returned: int | None = None  # an earlier node that is back
        self._checked: set[int] = set()
        self._refresh = asyncio.Event()
        self._last_message = ""
        self._announced: int | None = None
        self._last_contact = 0.0
        self._job: Job | None = None
        self._offers: set[asyncio.Task[Submission]] = set()  # of blocks to nodes

    @property
    def node(self) -> str:
        """Address of the node that work comes from now."""
        return str(self._clients[self._current].endpoint)

    async def run(self) -> None:
        """Fetch and publish work until cancelled. Raises UserError for what waiting cannot mend."""
        watch = asyncio.create_task(self._watch_earlier())
        try:
            await self._fetch()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _fetch(self) -> None:
        failures = 0
        longpoll_id: str | None = None
        loop = asyncio.get_running_loop()
        while True:
            if self._returned is not None:
                self._current, self._returned, longpoll_id, failures = self._returned, None, None, 0
            try:
                await self._check_network(self._current)
                longpoll_id = await self._next_job(longpoll_id)
                self._last_contact = loop.time()
                failures = 0
            except (NodeUnreachable, WrongPassword, BadTemplate, RpcError) as error:
                longpoll_id = None
                if isinstance(error, WrongPassword) and self._job is None and self._password_is_fixed():
                    raise UserError(str(error)) from None
                if isinstance(error, RpcError) and error.code not in _WAIT_CODES and len(self._clients) == 1:
                    message = f"node {self.node} gives no work: {error}"
                else:
                    message = str(error)
                self._current = (self._current + 1) % len(self._clients)
                self._checked.discard(self._current)
                self._announced = None
                pause = _BACKOFF_S[min(failures // len(self._clients), len(_BACKOFF_S) - 1)]
                failures += 1
                self._say(f"{message}; trying {'again' if len(self._clients) == 1 else self.node} in {pause:g} s")
                if self._job is not None and loop.time() - self._last_contact > STALE_AFTER_S:
                    self._publish(None)
                await asyncio.sleep(pause)

    def request_refresh(self, solved: Job) -> None:
        """Fetch a new template now, unless the job in force already is a newer one than `solved`."""
        if self._job is None or self._job.prev_hash == solved.prev_hash:
            self._refresh.set()

    async def submit(self, share: Share) -> Submission:
        """Offer a block to every node: its own may be gone, or cut off from the others. Done with the first that takes
        it; else with a refusal, its own node's where that answers. Nodes that do not answer are not waited for then:
        they are offered it beside the work."""
        template: Template = share.unit.job.origin
        block = _Block(
            solved_block(share.unit.job, share.unit.extranonce2, share.header).hex(), hash_to_hex(share.hash)
        )
        own = template.node % len(self._clients)
        offers = [
            asyncio.create_task(self._offer(number, block, template.work_id if number == own else None))
            for number in range(len(self._clients))
        ]
        self._offers.update(offers)
        for offer in offers:
            offer.add_done_callback(self._offers.discard)
        waiting, refusal = set(offers), None
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=_OTHERS_S, return_when=asyncio.FIRST_COMPLETED)
            for offer in done:
                answer = offer.result()
                if answer.accepted:
                    block.taken = True
                    return answer
                if refusal is None or offer is offers[own]:
                    refusal = answer
            if refusal is not None and not done and (offers[own] not in waiting or own in block.missed):
                break
        block.given_up = True
        return refusal or Submission(False, False, None)

    async def _offer(self, number: int, block: _Block, work_id: str | None) -> Submission:
        """Offer a block to one node, again while that does not answer or is starting, for up to SUBMIT_PATIENCE_S and
        until another has taken it."""
        arguments: list[Any] = [block.data_hex]
        if work_id is not None:
            arguments.append({"workid": work_id})
        deadline = asyncio.get_running_loop().time() + SUBMIT_PATIENCE_S
        # Then "duplicate" means that the node had taken it although we did not hear the answer, or has it from another.
        offered_before = len(self._clients) > 1
        while True:
            try:
                answer = await self._clients[number].call("submitblock", *arguments)
                break
            except (RpcError, NodeUnreachable, WrongPassword) as error:
                if isinstance(error, RpcError) and error.code not in _WAIT_CODES:
                    return Submission(False, False, str(error))
                if block.taken or asyncio.get_running_loop().time() > deadline:
                    return Submission(False, False, str(error))
                block.missed.add(number)
                offered_before = offered_before or not isinstance(error, RpcError)
                await asyncio.sleep(1.0)
        if answer is None or (answer == "duplicate" and offered_before):
            if block.given_up and not block.taken:
                block.taken = True
                self._on_message(f"node {self._clients[number].endpoint} took a block after all: {block.hash_hex}")
            return Submission(True, False, None)
        reason = clean_text(answer, 100)
        return Submission(False, reason in _PREVIOUS_GONE, reason)

    @property
    def pool_control(self) -> None:
        """There are no pools to control."""
        return None

    def pools(self) -> list[PoolReport]:
        """None: work comes from nodes."""
        return []

    async def close(self) -> None:
        """Drop all connections."""
        for offer in self._offers:
            offer.cancel()
        await asyncio.gather(*self._offers, return_exceptions=True)
        for client in self._clients:
            await client.close()

    async def _next_job(self, longpoll_id: str | None) -> str | None:
        """Publish the next template: the long poll's, or a plain one when refresh is asked for or due."""
        client = self._clients[self._current]
        request: dict[str, Any] = {"rules": ["segwit"], "capabilities": ["longpoll", "workid"]}
        answer: Any = None
        if longpoll_id is not None:
            answer = await self._long_poll(client, {**request, "longpollid": longpoll_id})
        polled = answer is not None
        if not polled:
            self._refresh.clear()
            answer = await client.call("getblocktemplate", request)
        # Another one for every job: a template that comes twice (asked for and long-polled) is not searched twice.
        self._next_extranonce1 = (self._next_extranonce1 + 1) % (1 << 8 * EXTRANONCE1_SIZE)
        extranonce1 = self._next_extranonce1.to_bytes(EXTRANONCE1_SIZE)
        job = job_from_template(
            answer,
            self._payout,
            version_rolling=self._version_rolling,
            extranonce1=extranonce1,
            check=False,
            node=self._current,
        )
        if self._easiest_target is not None:
            job = job.no_easier_than(self._easiest_target)
        self._publish(job)
        template: Template = job.origin
        try:  # devices are at work already: a template that fails is a rarity, a moment on the old block is not
            await asyncio.to_thread(template.check)
        except BadTemplate:
            self._publish(None)
            raise
        self._last_message = ""
        if self._announced != self._current:
            self._announced = self._current
            self._on_message(f"mining on node {self.node}")
        # a node without long polling, or with a proxy before it that answers from memory what is known already
        if template.longpoll_id is None or (polled and template.longpoll_id == longpoll_id):
            await sleep_or_event(self._refresh, REFRESH_S / 6)
        return template.longpoll_id

    async def _long_poll(self, client: NodeClient, request: dict[str, Any]) -> Any:
        """The long poll's answer, or None when a refresh is asked for or due first."""
        poll = asyncio.create_task(client.call("getblocktemplate", request, timeout_s=LONGPOLL_TIMEOUT_S))
        refresh = asyncio.create_task(self._refresh.wait())
        try:
            await asyncio.wait({poll, refresh}, timeout=REFRESH_S, return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else None
        finally:
            poll.cancel()
            refresh.cancel()
            await asyncio.gather(poll, refresh, return_exceptions=True)

    async def _watch_earlier(self) -> None:
        """Look every now and then whether a node before the one in use has work again."""
        while True:
            await asyncio.sleep(RETURN_S)
            for number in range(self._current):
                try:
                    await self._check_network(number)
                    answer = await self._clients[number].call("getblocktemplate", {"rules": ["segwit"]})
                    job = job_from_template(answer, self._payout)
                except (NodeUnreachable, WrongPassword, BadTemplate, RpcError):
                    continue
                if number < self._current and (self._job is None or job.height >= self._job.height):
                    self._returned = number
                    self._refresh.set()
                    break

    async def _check_network(self, number: int) -> None:
        """Once per node: its genesis block must be that of the chosen network."""
        if number in self._checked:
            return
        client = self._clients[number]
        try:
            genesis = await client.call("getblockhash", 0)
        except RpcError as error:
            if error.code != _METHOD_NOT_FOUND:  # a proxy that only knows the mining calls is taken at its word
                raise
            genesis = None
        expected = hash_to_hex(self._params.genesis_hash)
        if genesis is not None and genesis != expected:
            its = clean_text(genesis, 64)
            message = f"node {client.endpoint} is not on network '{self._params.name}' (its genesis block is {its})"
            if len(self._clients) == 1:
                raise UserError(f"{message}: choose its network with --network")
            raise BadTemplate(message)
        self._checked.add(number)

    def _password_is_fixed(self) -> bool:
        """Whether the same credentials would be refused again: a cookie may be rewritten by a node that restarts."""
        return len(self._clients) == 1 and self._clients[0].endpoint.user is not None

    def _publish(self, job: Job | None) -> None:
        if job is not None and self._job is not None and job.prev_hash != self._job.prev_hash:
            self._refresh.clear()  # the long poll was quicker than the refresh that a solution asked for
        self._job = job
        self._on_job(job)

    def _say(self, message: str) -> None:
        """Pass a line on unless it only repeats the last one with another pause. Words of the node may be in it."""
        message = clean_text(message, _MAX_LINE)
        key = message.split(";")[0]
        if key != self._last_message:
            self._last_message = key
            self._on_message(message)
