"""`pickaxe node`: what is refused before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chain.primitives.errors import UserError
from node.cli.node import node
from tests.support.ports import free_port


def _refusal(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(node, ["--network", "dev", "--datadir", str(folder), *arguments])
    assert result.exit_code != 0
    if isinstance(result.exception, UserError):
        return str(result.exception)
    return result.stderr.strip().splitlines()[-1]  # click's own usage errors


@pytest.mark.parametrize("option", ["--port", "--rpc-port"])
def test_port_0_is_refused_rather_than_taken_for_the_default(tmp_path: Path, option: str) -> None:
    assert "0 is not in the range 1<=x<=65535" in _refusal(tmp_path, option, "0")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--addnode", "host:99999"),
        ("--addnode", "host:0"),
        ("--addnode", "host:x"),
        ("--addnode", "[::1]:70000"),
        ("--addnode", ":8333"),
        ("--connect", "host:99999"),
        ("--rpc-bind", "127.0.0.1:99999"),
    ],
)
def test_an_address_that_can_never_work_is_refused(tmp_path: Path, option: str, value: str) -> None:
    assert _refusal(tmp_path, option, value) == (
        f"{option} {value}: write HOST or HOST:PORT, with a port from 1 to 65535."
    )


def test_an_address_without_a_host_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path, "--addnode", "") == "--addnode needs a host: write HOST or HOST:PORT."


def test_an_unknown_log_category_is_refused_with_those_there_are(tmp_path: Path) -> None:
    message = _refusal(tmp_path, "--debug", "net", "--debug", "nonsense")
    assert message.startswith("--debug nonsense: there is no such log category; choose from all, addrman, ")
    assert "\n" not in message


def test_a_mistake_in_the_file_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "pickaxe.toml"
    file.write_text('[peers]\naddnode = ["host:99999"]\n')
    assert _refusal(tmp_path).startswith(f"{file}: peers.addnode host:99999: ")
    file.write_text('[log]\ncategories = ["nonsense"]\n')
    assert _refusal(tmp_path).startswith(f"{file}: log.categories nonsense: ")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pickaxe.toml").mkdir()
    assert _refusal(tmp_path) == f"{tmp_path / 'pickaxe.toml'}: cannot be read: Is a directory."


@pytest.mark.parametrize("options", [("--bind", "198.51.100.1:28112"), ("--bind", "127.0.0.1", "--assumevalid", "x")])
def test_an_error_at_the_start_is_said_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = ["node", "--network", "dev", "--datadir", str(tmp_path), "--rpc-port", str(free_port()), *options]
    done = subprocess.run([sys.executable, "-m", "node.cli.main", *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    told = done.stderr.removeprefix("Error: ").strip()
    assert told not in done.stdout
    assert "[error]" not in done.stdout
    assert f"[error] {told}" in (tmp_path / "dev" / "debug.log").read_text()
    if "198.51.100.1:28112" in options:
        assert told.endswith(
            "choose an address of this computer and a free port with --bind HOST:PORT, or --no-listen."
        )
