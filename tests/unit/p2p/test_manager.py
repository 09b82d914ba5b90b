"""The asyncio edge, over real loopback sockets."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chain.primitives.errors import LocalFault, UserError
from p2p.config import Bind, P2PConfig
from p2p.errors import RequestRefused
from p2p.manager import PeerManager
from p2p.messages import Ping, VerAck, Version
from p2p.peer import ConnectionType
from p2p.permissions import Permission, parse_whitelist
from p2p.transport_v1 import Received, TransportV1, frame
from tests.support.fake_node import FakeNode, make_transaction

WAIT_S = 30.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  (the condition belongs to the other side)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(node: FakeNode, config: P2PConfig | None = None) -> AsyncIterator[PeerManager]:
    manager = PeerManager(node, config or P2PConfig(binds=(Bind("127.0.0.1", 0),), connect=()))
    node.events = manager
    await manager.start()
    task = asyncio.create_task(manager.run())
    await asyncio.sleep(0)
    try:
        yield manager
    finally:
        manager.stop()
        await task


def target(manager: PeerManager) -> str:
    host, port = manager.listening[0]
    return f"{host}:{port}"


class Client:
    """A raw socket that speaks the protocol as far as a test needs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, magic: bytes) -> None:
        self.reader, self.writer, self.magic = reader, writer, magic
        self.transport = TransportV1(magic)
        self.heard: list[Received] = []
        self.closed = False

    @classmethod
    async def open(cls, manager: PeerManager) -> Client:
        return cls(*await asyncio.open_connection(*manager.listening[0]), manager.params.magic)

    def send(self, *messages: Version | VerAck | Ping) -> None:
        for message in messages:
            self.writer.write(self.transport.frame(message))

    async def hear(self, command: str) -> bytes:
        """The payload of the next such message."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for i, event in enumerate(self.heard):
                    if event.command == command:
                        del self.heard[: i + 1]
                        return event.payload
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self.heard += [e for e in self.transport.receive_data(data) if isinstance(e, Received)]

    async def shake(self) -> None:
        self.send(Version(70016, 9, 1_700_000_000, nonce=5, user_agent=b"/client/"), VerAck())
        ping = await self.hear("ping")
        self.writer.write(frame(self.magic, "pong", ping))

    async def end(self) -> None:
        """Until the other side hangs up."""
        async with asyncio.timeout(WAIT_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    def close(self) -> None:
        self.writer.transport.abort()


def test_two_nodes_sync_relay_and_part(rng: random.Random) -> None:
    async def main() -> None:
        import time

        a, b = FakeNode(), FakeNode()
        a.extend(300)
        b.initial_download = True
        async with running(a) as at_a:
            config = P2PConfig(connect=(target(at_a),), user_agent_comments=("b",))
            async with running(b, config) as at_b:
                await until(lambda: b.tip().hash == a.tip().hash)
                b.initial_download = False
                a.extend(1, time=int(time.time()) - 5)
                await until(lambda: b.tip().hash == a.tip().hash)
                info = at_b.peer_info()[0]
                assert info["addr"] == target(at_a)
                assert info["connection_type"] == "manual"
                assert info["synced_headers"] == 301
                assert info["subver"] == "/Pickaxe:0.1.0/"
                assert info["bytesrecv_per_msg"]["block"] > 300 * 80
                (at_a_info,) = at_a.peer_info()
                assert at_a_info["inbound"]
                assert at_a_info["subver"] == "/Pickaxe:0.1.0(b)/"
                assert at_a_info["addr"] == info["addrbind"]

                def all_has_arrived() -> bool:
                    (sent,), (received,) = at_a.peer_info(), at_b.peer_info()
                    whole = int(sum(received["bytesrecv_per_msg"].values()))
                    return bool(sent["bytessent"] == received["bytesrecv"] == whole)

                await until(all_has_arrived)
                assert at_a.connection_counts() == (1, 0)
                await until(lambda: at_a.peer_info()[0]["bytesrecv_per_msg"].get("pong") == 32)
                tx = make_transaction(1)
                at_a.engine.peers[0].tx.next_send = 1.0  # type: ignore[union-attr]
                a.add_transaction(tx)
                await until(lambda: tx.wtxid in b.pool)
            await until(lambda: not at_a.engine.peers)
            received, sent = at_a.network_totals()
            assert received > 0
            assert sent > 300 * 80

    asyncio.run(main())


def test_onetry_disconnect_and_errors() -> None:
    async def main() -> None:
        async with running(FakeNode()) as a, running(FakeNode()) as b:
            await a.add_node(target(b), "onetry")
            await until(lambda: bool(a.peer_info() and a.peer_info()[0]["version"]))
            await a.add_node(target(b), "onetry")  # there is one already
            assert len(a.engine.peers) == 1
            with pytest.raises(RequestRefused, match="Node not found in connected nodes"):
                a.disconnect(peer_id=99)
            a.disconnect(peer_id=0)
            await until(lambda: not a.engine.peers and not b.engine.peers)
            await a.add_node(target(b), "onetry")
            a.disconnect(address=target(b))
            await until(lambda: not a.engine.peers and not b.engine.peers)
            await a.add_node("127.0.0.1:1", "onetry")  # nobody listens: no error, no peer
            assert not a.engine.peers
            await a.add_node("not a host:99999", "onetry")

    asyncio.run(main())


def test_added_nodes_are_kept_connected() -> None:
    async def main() -> None:
        async with running(FakeNode()) as a, running(FakeNode()) as b:
            await a.add_node(target(b), "add")
            with pytest.raises(RequestRefused, match="Error: Node already added"):
                await a.add_node(target(b), "add")
            await until(lambda: len(a.engine.peers) == 1)
            a.disconnect(peer_id=0)
            await until(lambda: 1 in a.engine.peers)
            assert [t for t, p in a.added_nodes() if p] == [target(b)]
            await a.add_node(target(b), "remove")
            with pytest.raises(RequestRefused, match="has not been added"):
                await a.add_node(target(b), "remove")

    asyncio.run(main())


def test_connection_types_have_their_limits() -> None:
    async def main() -> None:
        async with running(FakeNode()) as a, running(FakeNode()) as b:
            await a.add_connection(target(b), ConnectionType.BLOCK_RELAY)
            await until(lambda: [peer["connection_type"] for peer in a.peer_info()] == ["block-relay-only"])
            await until(lambda: [peer["relaytxes"] for peer in b.peer_info()] == [False])
            with pytest.raises(RequestRefused, match="Already at capacity"):
                await a.add_connection(target(b), ConnectionType.MANUAL)
            b.ping_all()
            await a.add_connection("127.0.0.1:1", ConnectionType.FEELER)

    asyncio.run(main())


def test_a_connection_to_oneself_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with running(FakeNode()) as a:
            await a.add_node(target(a), "onetry")
            await until(lambda: "connected to self at" in caplog.text)
            await until(lambda: not a.engine.peers)
            assert a.peer_info() == []
            assert caplog.text.count("connected to self at") == 1, "noticed by one of its two ends"

    asyncio.run(main())


def test_messages_are_answered_in_order_and_a_pong_ends_everything_before() -> None:
    async def main() -> None:
        from p2p.messages import BlockMessage
        from tests.support.fake_node import make_block

        node = FakeNode()
        slow: list[float] = []
        original = node.process_block

        async def process_block(raw: bytes, *, requested: bool):  # type: ignore[no-untyped-def]
            await asyncio.sleep(0.2)
            slow.append(1)
            return await original(raw, requested=requested)

        node.process_block = process_block  # type: ignore[method-assign]
        async with running(node) as a:
            client = await Client.open(a)
            await client.shake()
            block = make_block(node.active[0].header, 1, 1_700_000_000)
            client.writer.write(client.transport.frame(BlockMessage(block.raw)))
            client.send(Ping(77))
            assert await client.hear("pong") == (77).to_bytes(8, "little")
            assert slow == [1]
            assert node.tip().hash == block.hash
            client.close()

    asyncio.run(main())


def test_a_peer_that_does_not_read_is_not_served_without_end() -> None:
    async def main() -> None:
        from p2p.messages import GetData, Inv
        from p2p.messages.inventory import MSG_WITNESS_BLOCK

        node = FakeNode()
        (block_hash,) = node.extend(1)
        node.entries[block_hash].raw = (node.entries[block_hash].raw or b"") + bytes(1_000_000)
        reads: list[bytes] = []

        async def read_block(wanted: bytes) -> bytes | None:
            reads.append(wanted)
            return node.entries[wanted].raw

        node.read_block = read_block  # type: ignore[method-assign]
        async with running(node) as a:
            client = await Client.open(a)
            await client.shake()
            # type: ignore[arg-type]
            client.writer.write(client.transport.frame(GetData((Inv(MSG_WITNESS_BLOCK, block_hash),) * 500)))
            await until(lambda: bool(reads))
            count = 0
            while count < len(reads):  # until it rests
                count = len(reads)
                await asyncio.sleep(0.3)
            assert count < 100  # the send queue and the kernel's buffers are full; nobody reads the disk for nothing
            client.close()
            await until(lambda: not a.engine.peers)

    asyncio.run(main())


def test_inbound_slots_and_bans(tmp_path: Path) -> None:
    async def main() -> None:
        config = P2PConfig(binds=(Bind("127.0.0.1", 0),), connect=(), max_connections=14, datadir=tmp_path)
        async with running(FakeNode(), config) as a:
            clients = []
            for _ in range(3):
                client = await Client.open(a)
                await client.shake()
                clients.append(client)
            fourth = await Client.open(a)
            await fourth.end()  # three inbound slots are left beside the outbound ones
            a.set_ban("127.0.0.1")
            for client in clients:
                await client.end()
            await until(lambda: not a.engine.peers)
            banned = await Client.open(a)
            await banned.end()
            with pytest.raises(RequestRefused, match="already banned"):
                a.set_ban("127.0.0.1/32")
            with pytest.raises(RequestRefused, match="already banned"):
                a.set_ban("127.0.0.1")
            assert [str(s) for s in a.list_banned()] == ["127.0.0.1/32"]
            a.unban("127.0.0.1")
            back = await Client.open(a)
            await back.shake()
            a.set_network_active(False)
            await back.end()
        assert (tmp_path / "peers.dat").exists()
        assert (tmp_path / "banlist.json").exists()

    asyncio.run(main())


def test_whitelisted_peers_ignore_bans() -> None:
    async def main() -> None:
        config = P2PConfig(binds=(Bind("127.0.0.1", 0),), connect=(), whitelist=(parse_whitelist("noban@127.0.0.1"),))
        async with running(FakeNode(), config) as a:
            a.set_ban("127.0.0.0/8")
            client = await Client.open(a)
            await client.shake()
            await until(lambda: a.peer_info()[0]["permissions"] == ["noban", "download"])
            assert a.engine.peers[0].may(Permission.NOBAN)
            client.close()

    asyncio.run(main())


def test_garbage_closes_only_its_own_connection() -> None:
    async def main() -> None:
        async with running(FakeNode()) as a:
            good = await Client.open(a)
            await good.shake()
            for junk in (b"GET / HTTP/1.0\r\n\r\n" + bytes(20), frame(b"\xf9\xbe\xb4\xd9", "version", b"x")):
                bad = await Client.open(a)
                bad.writer.write(junk)
                await bad.end()
            good.send(Ping(3))
            assert await good.hear("pong") == (3).to_bytes(8, "little")
            good.close()

    asyncio.run(main())


def test_a_port_in_use_is_one_line() -> None:
    async def main() -> None:
        async with running(FakeNode()) as a:
            host, port = a.listening[0]
            other = PeerManager(FakeNode(), P2PConfig(binds=(Bind(host, port),)))
            with pytest.raises(UserError, match=rf"^Unable to bind to {host}:{port} on this computer"):
                await other.start()

    asyncio.run(main())


def test_a_fault_of_this_machine_ends_the_run() -> None:
    async def main() -> None:
        node = FakeNode()
        node.extend(1)

        async def read_block(block_hash: bytes) -> bytes | None:
            raise LocalFault("No space left on device")

        node.read_block = read_block  # type: ignore[method-assign]
        a = PeerManager(node, P2PConfig(binds=(Bind("127.0.0.1", 0),), connect=()))
        node.events = a
        await a.start()
        run = asyncio.create_task(a.run())
        client = await Client.open(a)
        await client.shake()
        from p2p.messages import GetData, Inv
        from p2p.messages.inventory import MSG_WITNESS_BLOCK

        # type: ignore[arg-type]
        client.writer.write(client.transport.frame(GetData((Inv(MSG_WITNESS_BLOCK, node.tip().hash),))))
        with pytest.raises(LocalFault, match="No space left"):
            await asyncio.wait_for(run, WAIT_S)
        client.close()

    asyncio.run(main())


def test_dns_seeds_are_asked_when_we_know_nobody() -> None:
    async def main() -> None:
        asked: list[str] = []

        async def resolve(name: str) -> list[str]:
            asked.append(name)
            return ["8.8.8.8", "2001:4860:4860::8888"]

        async def refuse(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            raise ConnectionRefusedError

        config = P2PConfig(dns_seeds=("seed.example",))
        manager = PeerManager(FakeNode(), config, resolver=resolve, connector=refuse)
        run = asyncio.create_task(manager.run())
        await until(lambda: len(manager.addrman) == 2)
        assert asked == ["seed.example"]
        manager.stop()
        await run

    asyncio.run(main())
