"""Real `pickaxe` processes for functional tests: nodes, miners and wallets, each in folders of its own, none left
behind."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chain.params import network
from tests.support.ports import free_port
from tests.support.waiting import until

START_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 60.0
PASSWORD = "correct horse battery staple"


class CallError(Exception):
    """The node answered a call with an error."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.code, self.message = code, message


def pickaxe(*arguments: str, env: dict[str, str] | None = None, text_in: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "node.cli.main", *arguments],
        input=text_in,
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, **(env or {})},
    )


class Node:
    """A `pickaxe node` process with a fixed data folder and fixed ports: stop and start it as often as wanted."""

    def __init__(self, folder: Path, network_name: str = "dev", *options: str) -> None:
        self.folder = folder
        self.network_name = network_name
        self.options = options
        self.port, self.rpc_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: http.client.HTTPConnection | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def cookie(self) -> Path:
        return self.folder / network(self.network_name).data_folder / ".cookie"

    def start(self, *more: str) -> Node:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "node.cli.main", "node", "--network", self.network_name]
        command += ["--datadir", str(self.folder), "--bind", self.address, "--rpc-port", str(self.rpc_port), "--quiet"]
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen([*command, *self.options, *more], stdout=output, stderr=output)

        def answers() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the node ended: {self.output()[-600:]}")
            with contextlib.suppress(OSError, ValueError, CallError, http.client.HTTPException):  # also an old cookie
                return self.call("getblockcount") is not None
            return False

        until("the node answers", answers, START_TIMEOUT_S)
        return self

    def output(self) -> str:
        """What it has printed so far."""
        return (self.folder / "output").read_text(errors="replace")

    def call(self, method: str, *params: Any) -> Any:
        """One RPC; CallError if the node refuses."""
        login = base64.b64encode(self.cookie.read_bytes()).decode()
        body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
        answer = None
        while answer is None:
            reused = self._connection is not None
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=STEP_TIMEOUT_S * 2)
            try:
                self._connection.request("POST", "/", body, {"Authorization": f"Basic {login}"})
                answer = json.loads(self._connection.getresponse().read())
            except (OSError, ValueError, http.client.HTTPException):
                self._connection.close()
                self._connection = None
                if not reused:  # the node may close a connection that was idle
                    raise
        if answer["error"] is not None:
            raise CallError(method, answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def wait_for_block(self, block_hash: str) -> None:
        """Until that block is the tip."""
        answer = self.call("waitforblock", block_hash, int(STEP_TIMEOUT_S * 1000))
        assert answer["hash"] == block_hash, (answer, block_hash)

    def stop(self) -> None:
        """Stop it as a user would; it must end cleanly."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            status = self.process.wait(STEP_TIMEOUT_S)
            assert status == 0, self.output()[-600:]
        self._forget()

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self.process = None


@contextlib.contextmanager
def nodes(*all_nodes: Node) -> Iterator[None]:
    """Whatever happens inside, none of them is running afterwards."""
    try:
        yield
    finally:
        for node in all_nodes:
            node.kill()


def mine(node: Node, payout: str, blocks: int) -> None:
    """`pickaxe mine` on the node until so many blocks were accepted."""
    done = pickaxe(
        *("mine", "--network", node.network_name, "--address", payout, "--blocks", str(blocks), "--threads", "1"),
        *("--quiet", "--rpc-url", node.url, "--rpc-cookie", str(node.cookie)),
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Wallet:
    """`pickaxe wallet` commands on one wallet file, each a process of its own, talking to one node."""

    def __init__(self, folder: Path, node: Node, name: str = "default") -> None:
        self.folder, self.node, self.name = folder, node, name

    def run(self, *arguments: str, text_in: str = "") -> Any:
        """The command's JSON."""
        done = self.try_run(*arguments, text_in=text_in)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def try_run(self, *arguments: str, text_in: str = "") -> subprocess.CompletedProcess[str]:
        """The command, whatever becomes of it."""
        where = ["--datadir", str(self.folder), "--network", self.node.network_name, "--wallet", self.name]
        where += ["--rpc-url", self.node.url, "--rpc-cookie", str(self.node.cookie), "--json"]
        return pickaxe("wallet", *where, *arguments, env={"PICKAXE_WALLET_PASSWORD": PASSWORD}, text_in=text_in)
