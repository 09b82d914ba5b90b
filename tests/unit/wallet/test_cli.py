"""The commands as users run them: processes of their own, a node over HTTP, one line for every mistake."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chain.params import network
from chain.primitives.amount import COIN
from chain.primitives.errors import UserError
from chain.script.addresses import decode_address
from wallet.cli import wallet
from wallet.vault import KdfCost
from wallet.wallet import Wallet

PROGRAM = "import sys; from wallet.cli import wallet; from chain.primitives.errors import *\n" + (
    "try: wallet(prog_name='wallet')\n"
    "except (UserError, LocalFault) as e: print('Error:', e, file=sys.stderr); sys.exit(1)\n"
)
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
REGTEST = network("regtest").addresses
Node = Any


class Cli:
    def __init__(self, home: Path, node: Node | None = None) -> None:
        self.home = home
        self.base = ["--network", "regtest", "--datadir", str(home)]
        if node is not None:
            self.base += ["--rpc-url", node.url, "--rpc-cookie", str(node.cookie)]
        self.environment = {**os.environ, "PICKAXE_WALLET_PASSWORD": "correct horse"}

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *self.base, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**self.environment, **environment},
        )

    def ok(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        done = self.run(*arguments, stdin=stdin, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fails(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        done = self.run(*arguments, stdin=stdin, **environment)
        assert done.returncode in (1, 2), (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.stderr.strip().split("\n")[-1]


def test_the_whole_way(node: Node, tmp_path: Path) -> None:
    cli = Cli(tmp_path, node)
    shown = cli.ok("create", "--wallet", "alice", "--words", "24")
    words = [w for w in shown.split() if not w.isdigit()]
    assert len(words) == 24
    cli.ok("create", "--wallet", "bob", "--json")
    assert {(w["wallet"], w["network"]) for w in json.loads(cli.ok("list", "--json"))} == {
        ("alice", "regtest"),
        ("bob", "regtest"),
    }
    assert sorted(p.name for p in (tmp_path / "wallets" / "regtest").iterdir()) == ["alice.sqlite", "bob.sqlite"]

    first, second = cli.ok("address", "--wallet", "alice"), cli.ok("address", "--wallet", "alice", "--type", "bip86")
    assert first.startswith("bcrt1q")
    assert second.startswith("bcrt1p")
    node.pay(decode_address(first, REGTEST), 3 * COIN)
    node.mine(1)
    node.pay(decode_address(second, REGTEST), COIN)
    assert json.loads(cli.ok("balance", "--wallet", "alice", "--json")) == {
        "confirmed": "3.00000000",
        "pending": "1.00000000",
        "immature": "0.00000000",
        "total": "4.00000000",
        "height": 111,
        "synchronized": True,
    }
    node.mine(1)
    to_bob = cli.ok("address", "--wallet", "bob")
    sent = json.loads(cli.ok("send", to_bob, "0.5", "--fee-rate", "2.5", "--yes", "--wallet", "alice", "--json"))
    assert list(node.mempool) == [sent["txid"]]
    bumped = cli.ok("bumpfee", sent["txid"], "--fee-rate", "9", "--yes", "--wallet", "alice")
    assert list(node.mempool) == [bumped]
    node.mine(1)
    assert json.loads(cli.ok("balance", "--wallet", "bob", "--json"))["confirmed"] == "0.50000000"
    history = json.loads(cli.ok("history", "--wallet", "alice", "--json"))
    assert sorted((h["kind"], h["state"]) for h in history) == [
        ("received", "confirmed"),
        ("received", "confirmed"),
        ("sent", "confirmed"),
        ("sent", "replaced"),
    ]
    cli.ok("send", to_bob, "all", "--yes", "--wallet", "alice")
    node.mine(1)
    assert json.loads(cli.ok("balance", "--wallet", "alice", "--json"))["total"] == "0.00000000"

    again = Cli(tmp_path / "elsewhere", node)
    again.ok("restore", "--wallet", "alice2", stdin=" ".join(words))
    again.ok("sync", "--wallet", "alice2")
    restored = json.loads(again.ok("history", "--wallet", "alice2", "--json"))
    assert [h["txid"] for h in restored] == [
        h["txid"] for h in json.loads(cli.ok("history", "--wallet", "alice", "--json")) if h["state"] == "confirmed"
    ]


def test_a_list_of_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for nowhere in (file, tmp_path / "nowhere"):
        assert Cli(nowhere).fails("list").endswith(f"--datadir {nowhere}: there is no such folder")
    cli = Cli(tmp_path)
    assert cli.run("list").returncode == 0  # a data folder without wallets
    (tmp_path / "wallets").write_text("")
    assert cli.fails("list").endswith("wallets cannot be read: Not a directory")
    home = tmp_path / "home"
    (home / "wallets" / "regtest").mkdir(parents=True)

    def closed(folder: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(Path, "iterdir", closed)
    done = CliRunner().invoke(wallet, ["list", "--datadir", str(home)])
    assert str(done.exception) == f"{home / 'wallets'} cannot be read: Permission denied"


def test_offline_signing(node: Node, tmp_path: Path) -> None:
    online, offline = Cli(tmp_path / "online", node), Cli(tmp_path / "offline")
    offline.ok("restore", stdin=WORDS)
    exported = offline.ok("export")
    assert "descriptors are missing" in online.fails("watch", "-", stdin=exported.split("\n")[0])
    assert "checksum" in online.fails("watch", "-", stdin=exported.replace("/0/*", "/1/*"))
    online.ok("watch", "-", stdin=exported)
    assert online.ok("export") == exported
    node.pay(decode_address(online.ok("address"), REGTEST), COIN)
    node.mine(1)
    target = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    psbt = online.ok("send", target, "0.25", "--fee-rate", "1", "--unsigned")
    assert not node.mempool
    assert "holds no keys" in online.fails("send", target, "0.25", "--fee-rate", "1", "--yes")
    assert "holds no keys" in online.fails("words", "--yes")
    (tmp_path / "p.psbt").write_text(psbt)
    signed = offline.ok("sign", str(tmp_path / "p.psbt"), "--yes")
    txid = online.ok("broadcast", "-", stdin=signed)
    assert list(node.mempool) == [txid]
    assert "balance" not in online.fails("sign", "-", "--yes", stdin="cHNidP8=")


def test_export_matches_the_addresses(tmp_path: Path) -> None:
    from wallet.descriptors import parse_descriptor

    cli = Cli(tmp_path)
    cli.ok("restore", stdin=WORDS)
    descriptors = json.loads(cli.ok("export", "--json"))
    expected = parse_descriptor(descriptors["bip84"]["receive"], REGTEST, require_checksum=True).expand(0).script_pubkey
    assert decode_address(cli.ok("address"), REGTEST) == expected
    assert "prv" not in json.dumps(descriptors)


def test_change_password(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.ok("restore", stdin=WORDS)
    (tmp_path / "new").write_text("battery staple\n")
    assert "give the new one with --new-password-file" in cli.fails("change-password")
    cli.ok("change-password", "--new-password-file", str(tmp_path / "new"))
    assert "wrong password" in cli.fails("address")
    assert cli.ok("address", "--password-file", str(tmp_path / "new")).startswith("bcrt1")
    assert cli.ok("words", "--yes", "--json", PICKAXE_WALLET_PASSWORD="battery staple").count("legal") == 2


def test_figures_without_a_node_say_how_old_they_are(node: Node, tmp_path: Path) -> None:
    cli = Cli(tmp_path, node)
    cli.ok("create")
    cli.ok("sync")
    node.stop()
    done = cli.run("balance")
    assert done.returncode == 0
    assert "as of block 110" in done.stderr
    assert "confirmed" in done.stdout
    assert "no node answers" in cli.fails("send", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "1", "--yes")


MISTAKES: list[tuple[list[str], str]] = [
    (["address", "--wallet", "none"], "there is no wallet 'none'"),
    (["address", "--wallet", "../x"], "cannot name a wallet"),
    (["address", "--network", "nonet"], "network 'nonet'"),
    (["create"], "exists already"),
    (["restore"], "exists already"),
    (["send", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt08", "1"], "not an address"),
    (["send", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1"], "not an address"),
    (["send", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "1"], "not an address"),
    (["send", "ADDRESS", "1,5"], "not an amount"),
    (["send", "ADDRESS", "0.123456789"], "more than eight decimals"),
    (["send", "ADDRESS", "0"], "zero"),
    (["send", "ADDRESS", "99999999999"], "more than there can be"),
    (["send", "ADDRESS", "1", "--fee-rate", "fast"], "not a fee rate"),
    (["send", "ADDRESS", "1", "--fee-rate", "1", "--yes"], "not enough funds"),
    (["send", "ADDRESS", "all", "--fee-rate", "1", "--yes"], "nothing to send"),
    (["bumpfee", "xyz", "--fee-rate", "3"], "not a transaction id"),
    (["bumpfee", "00" * 32, "--fee-rate", "3"], "no transaction"),
    (["abandon", "00" * 32], "no transaction"),
    (["sign", "/nonexistent"], "cannot be read"),
    (["sign", "-"], "not a PSBT"),
    (["address", "--password-file", "/nonexistent"], "cannot be read"),
    (["words"], "add --yes"),
    (["sync", "--rpc-url", "nonsense"], "not a node's address"),
    (["balance", "--rpc-url", "ftp://x"], "not a node's address"),
    (["balance", "--rpc-url", "http://127.0.0.1:99999"], "not a node's address"),
    (["history", "--rpc-cookie", "/proc"], "the cookie /proc cannot be read: Is a directory"),
    (["balance", "--rpc-cookie", "/proc/loadavg"], "is not a node's cookie"),
    (["create", "--wallet", "x", "--rpc-url", "ftp://x"], "not a node's address"),
    (["create", "--wallet", "x", "--words", "13"], "13"),
]


@pytest.fixture
def prepared(node: Node, tmp_path: Path) -> Cli:
    cli = Cli(tmp_path, node)
    path = tmp_path / "wallets" / "regtest" / "default.sqlite"
    cheap = KdfCost(iterations=1, lanes=1, memory_kib=64)
    Wallet.create(path, network("regtest"), "correct horse", WORDS, cost=cheap, gap_limit=20).close()
    return cli


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_mistakes_get_one_clear_line(prepared: Cli, arguments: list[str], message: str) -> None:
    given = ["bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080" if a == "ADDRESS" else a for a in arguments]
    done = CliRunner().invoke(wallet, [*prepared.base, *given], env={"PICKAXE_WALLET_PASSWORD": "correct horse"})
    assert done.exit_code != 0
    assert done.stdout == ""
    if isinstance(done.exception, UserError):
        assert message in str(done.exception)
        assert "\n" not in str(done.exception)
    else:
        assert isinstance(done.exception, SystemExit)  # click's own usage errors
        assert message in done.stderr.strip().split("\n")[-1]
    assert len(list((prepared.home / "wallets" / "regtest").iterdir())) == 1


def test_the_question_before_sending(prepared: Cli, node: Node) -> None:
    node.pay(decode_address(prepared.ok("address"), REGTEST), COIN)
    node.mine(1)
    command = ["send", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "0.5", "--fee-rate", "3"]
    assert "add --yes" in prepared.fails(*command)
    for answer, sent in (("n", 0), ("\x04", 0), ("y", 1)):
        keyboard, terminal = os.openpty()
        os.write(keyboard, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *prepared.base, *command],
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            env=prepared.environment,
        )
        os.close(keyboard)
        os.close(terminal)
        assert "Send 0.50000000 to bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080" in done.stderr
        assert "3.00 sat/vB" in done.stderr
        assert (done.returncode == 0) == bool(sent)
        assert len(node.mempool) == sent


def test_passwords_and_words_from_nowhere(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    del cli.environment["PICKAXE_WALLET_PASSWORD"]
    assert "no keyboard" in cli.fails("create")
    assert "password is empty" in cli.fails("create", PICKAXE_WALLET_PASSWORD="")
    assert "word 2 ('winer')" in cli.fails("restore", stdin="legal winer " + "thank " * 10, PICKAXE_WALLET_PASSWORD="x")
    assert "no words" in cli.fails("restore", stdin="", PICKAXE_WALLET_PASSWORD="x")
    assert not (tmp_path / "wallets").exists()


def test_a_damaged_file_is_one_line(prepared: Cli) -> None:
    path = prepared.home / "wallets" / "regtest" / "default.sqlite"
    path.write_bytes(path.read_bytes()[:5000])
    assert "restore the wallet from its words" in prepared.fails("address")
    path.write_bytes(b"hello")
    assert str(path) in prepared.fails("address")
