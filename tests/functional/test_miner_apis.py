"""`pickaxe mine` with everything on: settings from a file, status page, metrics and the cgminer API, at a real node."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chain.params import network
from chain.script.addresses import encode_address
from tests.functional.processes import Node, nodes, pickaxe
from tests.support.emulator import emulator_process
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.functional

PAYOUT = encode_address(b"\x00\x14" + bytes(range(20)), network("dev").addresses) or ""


class Rig:
    """A running `pickaxe mine` on a node, with both servers on."""

    def __init__(self, folder: Path, node: Node, *options: str) -> None:
        self.http_port, self.api_port = free_port(), free_port()
        self.output = folder / "miner.log"
        config = folder / "rig.toml"
        config.write_text(
            f'network = "dev"\naddress = "{PAYOUT}"\npace_s = 0.05\n'
            f'[[node]]\nurl = "{node.url}"\ncookie = "{node.cookie}"\n'
            "[cpu]\nthreads = 1\n"
            '[energy]\nwatts = { cpu = 65 }\ntariff = 0.30\ncurrency = "EUR"\n'
            f'[http]\nlisten = "127.0.0.1:{self.http_port}"\n'
            f'[api]\nlisten = "127.0.0.1:{self.api_port}"\n'
        )
        command = [sys.executable, "-m", "node.cli.main", "mine", "--config", str(config), "--quiet", *options]
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str) -> None:
        def found() -> bool:
            assert self.process.poll() is None or text in self.said(), self.said()
            return text in self.said()

        until(f"the miner says {text!r}", found)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            body: bytes = answer.read()
        return body.decode()

    def status(self) -> dict[str, Any]:
        picture: dict[str, Any] = json.loads(self.get("/status.json"))
        return picture

    def metrics(self) -> dict[str, float]:
        families = text_string_to_metric_families(self.get("/metrics"))
        return {sample.name: sample.value for family in families for sample in family.samples}

    def ask(self, request: bytes) -> bytes:
        """As farm tools do: one request, read to the end, a zero byte at it."""
        with socket.create_connection(("127.0.0.1", self.api_port), timeout=30) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
        assert answer.endswith(b"\0")
        return answer[:-1]

    def ask_json(self, command: str, parameter: str | None = None) -> dict[str, Any]:
        request = {"command": command} | ({} if parameter is None else {"parameter": parameter})
        answer: dict[str, Any] = json.loads(self.ask(json.dumps(request).encode()))
        return answer

    def ask_text(self, command: str) -> list[dict[str, str]]:
        """Each record of the text form."""
        records = []
        for record in re.split(r"(?<!\\)\|", self.ask(command.encode()).decode())[:-1]:
            fields = [re.split(r"(?<!\\)=", field, maxsplit=1) for field in re.split(r"(?<!\\),", record)]
            records.append({field[0]: field[1] if len(field) > 1 else "" for field in fields})
        return records

    def end(self) -> str:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.said()
        return self.said()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "node")
    with nodes(made):
        yield made.start()


def test_mined_blocks_are_the_same_number_everywhere(tmp_path: Path, node: Node) -> None:
    rig = Rig(tmp_path, node, "--api-write")
    try:
        rig.wait_for("block 10 accepted")
        assert rig.ask_json("pgadisable", "0")["STATUS"][0]["Code"] == 64  # so that the numbers stand still
        rig.wait_for("cpu0 paused")

        def settled() -> dict[str, Any] | None:
            picture = rig.status()
            same = picture["accepted"] == rig.said().count(" accepted: ") == node.call("getblockcount")
            return picture if same else None

        picture = until("the counters agree with what was said", settled)
        mined = picture["accepted"]
        assert mined >= 10
        assert (picture["blocks"], picture["stale"], picture["hardware_errors"]) == (mined, 0, 0)
        assert [device["accepted"] for device in picture["devices"]] == [mined]
        assert picture["network"]["node"] == node.url
        assert picture["energy"]["watts"] == 65.0
        assert picture["energy"]["cost_per_day"] == pytest.approx(0.468)

        metrics = rig.metrics()
        assert metrics["pickaxe_miner_accepted_total"] == metrics["pickaxe_miner_blocks_total"] == mined
        assert metrics["pickaxe_device_accepted_total"] == mined
        assert metrics["pickaxe_power_watts"] == 65.0

        answer = rig.ask_json("summary+devs+pools+coin")
        summary = answer["summary"][0]["SUMMARY"][0]
        assert summary["Accepted"] == summary["Found Blocks"] == mined
        assert [device["Accepted"] for device in answer["devs"][0]["DEVS"]] == [mined]
        (place,) = answer["pools"][0]["POOLS"]
        assert (place["URL"], place["Accepted"], place["Has GBT"]) == (node.url, mined, True)
        _, as_text = rig.ask_text("summary")
        assert int(as_text["Accepted"]) == mined

        assert "pickaxe mine" in rig.get("/")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{rig.http_port}/", headers={"Host": "evil.example"}),
                timeout=30,
            )
        assert refused.value.code == 403
        refused.value.close()

        said = rig.end()
        assert f"mined {mined} blocks" in said
        assert node.call("getblockcount") == mined
        for port in (rig.http_port, rig.api_port):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
    finally:
        rig.process.kill()
        rig.process.wait()


def test_cores_and_a_board_mine_together_and_the_board_tells_of_itself(tmp_path: Path, node: Node) -> None:
    rig = None
    try:
        with emulator_process(tmp_path, "bm1370", "--chips", "2") as emulator:
            board = ("--device", "cpu", *emulator.options, "--watts", "asic0=18.5")
            rig = running = Rig(tmp_path, node, *board)

            def board_runs() -> dict[str, Any] | None:
                assert running.process.poll() is None, running.said()
                if "cgminer API" not in running.said():
                    return None
                devices = {device["name"]: device for device in running.status()["devices"]}
                board = devices["asic0"]
                alive = [chip["alive"] for chip in (board["details"] or {}).get("chips", ())]
                return board if alive == [True, True] else None  # it finds nothing: the core is first every time

            until("the board is up", board_runs, 120.0)
            answer = rig.ask_json("devs+config+stats")
            assert answer["devs"][0]["STATUS"][0]["Msg"] == "1 ASC(s) - 1 PGA(s)"
            assert [device["Name"] for device in answer["devs"][0]["DEVS"]] == ["ASC", "CPU"]
            assert answer["config"][0]["CONFIG"][0]["Device Code"] == "ASC CPU "
            stats = answer["stats"][0]["STATS"][0]
            assert (stats["ID"], stats["Chips"]) == ("ASC0", 2)
            assert stats["Frequency"] > 0
            chips = [
                (sample.labels["state"], sample.value)
                for family in text_string_to_metric_families(rig.get("/metrics"))
                for sample in family.samples
                if sample.name == "pickaxe_device_chips"
            ]
            assert chips == [("alive", 2.0), ("dead", 0.0)]
            power = {tuple(entry["devices"]): entry for entry in rig.status()["energy"]["power"]}
            assert power[("asic0",)]["source"] == "given"
            rig.end()
    finally:
        if rig is not None:
            rig.process.kill()
            rig.process.wait()


def test_a_farm_tool_with_permission_pauses_restarts_and_ends_it(tmp_path: Path, node: Node) -> None:
    rig = Rig(tmp_path, node, "--api-write")
    try:
        rig.wait_for("reads and changes")
        rig.wait_for("block 3 accepted")
        assert rig.ask(b"pgadisable|0").startswith(b"STATUS=I,")
        rig.wait_for("cpu0 paused")
        assert rig.ask_json("restart") == {"STATUS": "RESTART", "id": 1}
        until("it is back, and mines", lambda: rig.said().count("mining on node") == 2)
        pid = rig.process.pid
        assert rig.process.poll() is None
        assert rig.process.pid == pid  # the same process, the program begun anew
        until("it counts from the start", lambda: rig.status()["uptime_s"] < 30)
        assert rig.ask(b'{"command":"quit"}') == b'{"STATUS":"BYE","id":1}'
        assert rig.process.wait(60) == 0, rig.said()
        assert rig.said().count("mined ") == 2
    finally:
        rig.process.kill()
        rig.process.wait()


@pytest.mark.parametrize("option", ["--http", "--api"])
def test_a_busy_port_stops_it_before_anything_is_mined(tmp_path: Path, node: Node, option: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = f"127.0.0.1:{other.getsockname()[1]}"
        where = ("--address", PAYOUT, "--rpc-url", node.url, "--rpc-cookie", str(node.cookie), "--threads", "1")
        done = pickaxe(
            "mine", "--network", "dev", "--quiet", *where, option, place, env={"PICKAXE_DATADIR": str(tmp_path)}
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"Error: .* cannot listen at {re.escape(place)}: the port is in use.*{option}\n", done.stderr)
    assert node.call("getblockcount") == 0


def test_mistakes_in_the_file_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "miner.toml").write_text("network = 'dev'\n[cpu]\nthread = 2\n")
    done = pickaxe("mine", env={"PICKAXE_DATADIR": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {tmp_path}/miner.toml, line 3: unknown key 'thread' in [cpu]: did you mean 'threads'?\n"
    )


def test_devices_says_what_cannot_be_used_and_why() -> None:
    done = pickaxe("devices")
    assert done.returncode == 0, done.stderr
    for part in ("CPU: ", "GPU: ", "Boards: ", "Energy of the CPU: "):
        assert part in done.stdout
    assert "Traceback" not in done.stderr
