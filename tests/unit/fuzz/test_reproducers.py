"""`make fuzz` on rules that were broken on purpose: it stops, and what it writes is small and can be replayed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chain.consensus.block import ConnectChecks
from chain.consensus.errors import ConsensusError
from chain.primitives.block import Block
from chain.primitives.errors import DecodeError
from chain.script import interpreter, operations
from chain.script.flags import ScriptFlags
from chain.script.opcodes import Opcode
from tests.conftest import ROOT
from tests.fuzz import parsers
from tests.fuzz.__main__ import main
from tests.fuzz.cases import ParserCase, SpendCase, load, shrink
from tests.support.scripts import assemble, spend_of

pytest.importorskip("pbk", reason="py-bitcoinkernel, a development dependency, is not installed")


def found_by(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """The one case that fuzzing wrote."""
    arguments = ["--only", kind, "--cases", str(tmp_path), "--seconds", "60", "--seed", "5", *options]
    assert main(arguments) == 1
    (path,) = tmp_path.glob("*.json")
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert "replay with" in printed
    body: dict[str, Any] = json.loads(path.read_text())
    assert body["difference"] in printed
    assert main(["--replay", str(path)]) == 1
    assert body["difference"] in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--replay", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, "no difference" in done.stdout) == (0, True), done.stderr  # with the right rules
    return body


def wrong_depth(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """OP_DEPTH leaves this, whatever the depth."""
    right = operations.HANDLERS[Opcode.OP_DEPTH]

    def wrong(machine: Any, stack: list[bytes]) -> None:
        right(machine, stack)
        stack[-1] = answer

    handlers = list(operations.HANDLERS)
    handlers[Opcode.OP_DEPTH] = wrong
    monkeypatch.setattr(interpreter, "HANDLERS", handlers)


def test_a_wrong_opcode_becomes_a_short_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong_depth(monkeypatch, b"\x07")
    body = found_by("scripts", tmp_path, capsys)
    assert body["kind"] == "spend"
    case = load(next(tmp_path.glob("*.json")))
    assert isinstance(case, SpendCase)
    assert len(case.tx.inputs) == 1
    assert "OP_DEPTH" in body["scripts"][0]
    assert len(body["scripts"][0].split()) <= 5, body["scripts"]
    assert case.tx.total_size < 90


def test_a_block_rule_becomes_a_small_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coinbases may pay a satoshi too much: the block loses its other transactions, if it keeps the difference."""
    right = ConnectChecks.finish

    def wrong(self: ConnectChecks, coinbase: Any) -> None:
        self.fees += 1
        right(self, coinbase)

    monkeypatch.setattr(ConnectChecks, "finish", wrong)
    body = found_by("blocks", tmp_path, capsys, "--shrink-seconds", "15")
    assert body["kind"] == "block"
    assert "bad-cb-amount" in body["difference"]
    assert len(Block.parse(bytes.fromhex(body["block"])).transactions) <= 6
    assert len(body["chain"]) >= 110


def test_a_broken_parser_becomes_few_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(data: bytes) -> None:
        if data.count(b"\xfd") >= 2 and len(data) > 3:
            raise KeyError("lost")
        raise DecodeError("no")

    target = parsers.Target(broken, (DecodeError,), lambda: [b"\xfd" + bytes(100)])
    monkeypatch.setitem(parsers.TARGETS, "header", target)
    body = found_by("parsers", tmp_path, capsys)
    assert body["target"] == "header"
    data = bytes.fromhex(body["data"])
    assert len(data) == 4
    assert data.count(b"\xfd") == 2


def test_an_allocation_without_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    target = parsers.Target(lambda data: [None] * (data[0] << 12) and None, (), lambda: [b"\xff"])
    assert target.difference(b"\x01", memory=True) == ""
    assert "bytes of memory for 1 of input" in target.difference(b"\xff", memory=True)
    monkeypatch.setitem(parsers.TARGETS, "header", target)
    case, difference = shrink(ParserCase("header", b"\xff" * 40))
    assert case.fields() == {"target": "header", "data": "ff"}
    assert "memory" in difference.text


def test_a_process_that_dies_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.fuzz import judges

    def deadly(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setitem(judges.JUDGES, "bodies", (deadly, 1))
    assert main(["--only", "bodies", "--cases", str(tmp_path), "--seed", "9"]) == 1
    assert "the process ended with -9" in capsys.readouterr().out


def test_a_case_behind_hashes_is_unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    from chain.crypto.hashes import sha256
    from chain.script import standard

    inner = assemble("1 2 ADD 3 EQUALVERIFY DEPTH 0 EQUAL")
    tx, coin = spend_of(standard.p2wsh(sha256(inner)), b"", (inner,), 1000)
    case = SpendCase(tx, (coin,), ScriptFlags.P2SH | ScriptFlags.WITNESS)
    with pytest.raises(ValueError, match="agree"):
        shrink(case)
    wrong_depth(monkeypatch, b"\x01")
    small, difference = shrink(case)
    assert isinstance(small, SpendCase)
    assert small.fields()["scripts"] == ["OP_DEPTH"] or len(small.coins[0]) <= 12 + 3
    assert "kernel" in difference.relation
    assert small.flags == ScriptFlags.NONE


def test_a_file_that_is_no_case_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    for text in ("{}", "[", '{"kind": "spend"}'):
        path.write_text(text)
        assert main(["--replay", str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_a_short_run_of_every_kind_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeded anew each time; the seed is printed."""
    from tests.fuzz.judges import JUDGES

    status = main(["--rounds", str(len(JUDGES)), "--count", "60", "--cases", str(tmp_path), "--only", *JUDGES])
    printed = capsys.readouterr().out
    print(printed)
    assert status == 0
    for what in ("spends", "blocks", "headers", "bodies", "parsed"):
        assert what in printed.splitlines()[-1]


def test_consensus_errors_are_no_crash() -> None:
    """Guards the comparison: a refusal is a verdict, anything else that is raised a difference."""
    assert issubclass(ConsensusError, Exception)
    tx, coin = spend_of(b"\x51")
    assert SpendCase(tx, (coin,), ScriptFlags.NONE).difference() is None
