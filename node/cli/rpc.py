"""`pickaxe rpc METHOD [ARGUMENT…]`: a JSON-RPC client that also takes bitcoin-cli's single-dash options, so that
scripts for it work as they are."""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import click

from chain.primitives.errors import UserError
from node.bitcoin_conf import Arguments, load, parse_command_line
from node.config import CONFIG_FILE, default_datadir, load_toml
from node.networks import network_dir, resolve
from node.rpc import jsonio
from node.rpc.auth import read_cookie

_EPILOG = (
    "Options as in bitcoin-cli work too: -datadir=D -regtest -rpcport=N -rpcuser=U -rpcpassword=P -rpcwallet=W -named"
    " -stdin."
)


@dataclass(slots=True)
class Target:
    """Where to call and as whom."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str = "/"
    user: str = ""
    password: str = ""
    timeout_s: float = 900.0


@dataclass(slots=True)
class Invocation:
    """The command line, taken apart."""

    core: Arguments = field(default_factory=Arguments)
    network: str | None = None
    datadir: str | None = None
    url: str | None = None
    cookie: str | None = None
    words: list[str] = field(default_factory=list)
    named: bool = False
    stdin: bool = False


class RpcFailure(Exception):
    """The node answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_OWN: Final = {"--network": "network", "--datadir": "datadir", "--rpc-url": "url", "--rpc-cookie": "cookie"}
_CLIENT_CORE: Final = {
    "rpcconnect", "rpcport", "rpcuser", "rpcpassword", "rpccookiefile", "rpcwallet", "rpcclienttimeout", "rpcwait",
    "rpcwaittimeout",
    "datadir", "conf", "chain", "regtest", "testnet", "testnet4", "signet", "stdinrpcpass", "color",
}  # fmt: skip

_CLIENT_ONLY: Final = {
    "rpcconnect",
    "rpcwallet",
    "rpcclienttimeout",
    "rpcwait",
    "rpcwaittimeout",
    "stdinrpcpass",
    "color",
}


@click.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["-h", "--help"],
    },
    epilog=_EPILOG,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS] METHOD [ARGUMENT | NAME=VALUE]...")
def rpc(words: tuple[str, ...]) -> None:
    """Call METHOD of a running node.

    \b
    --network NAME      the node's network [default: pickaxe]
    --datadir DIR       where its cookie is [default: ~/.pickaxe]
    --rpc-url URL       http://HOST:PORT instead
    --rpc-cookie FILE   cookie file
    --rpc-user NAME, --rpc-password TEXT, --rpc-port N
    --named             arguments are NAME=VALUE
    --stdin             read further arguments from standard input, one a line
    """
    invocation = parse(list(words))
    if invocation.core.flag("stdinrpcpass"):
        invocation.core.values["rpcpassword"] = [sys.stdin.readline().rstrip("\n")]
    if invocation.stdin:
        lines = sys.stdin.read().splitlines()
        invocation.words += lines
    if not invocation.words:
        raise UserError("which method? `pickaxe rpc help` lists them.")
    method, *arguments = invocation.words
    target = find_node(invocation)
    try:
        params = convert(method, arguments, named=invocation.named)
        wait = invocation.core.flag("rpcwait")
        result = call(target, method, params, wait=wait)
    except RpcFailure as failure:
        click.echo(f"error code: {failure.code}\nerror message:\n{failure.message}", err=True)
        sys.exit(min(abs(failure.code), 255) or 1)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if isinstance(result, str) and not isinstance(result, jsonio.NumberLiteral):
        click.echo(result)
    elif result is not None:
        click.echo(jsonio.pretty(result))


def parse(words: list[str]) -> Invocation:
    """Options up to the method's name, ours and Core's; the rest are the method and its arguments. UserError for an
    unknown option."""
    out = Invocation()
    core: list[str] = []
    while words and words[0].startswith("-") and len(words[0]) > 1:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in _OWN:
            setattr(out, _OWN[name], value if equals else _next(words, name))
        elif name in ("--rpc-user", "--rpc-password", "--rpc-port"):
            text = value if equals else _next(words, name)
            core.append(f"-{name[2:].replace('-', '')}={text}")
        elif name.lstrip("-") in ("named", "nonamed", "stdin"):
            if name.endswith("stdin"):
                out.stdin = True
            else:
                out.named = name.lstrip("-") == "named"
        elif name.lstrip("-").removeprefix("no") in _CLIENT_CORE or name.lstrip("-") in _CLIENT_CORE:
            core.append(word)
        else:
            raise UserError(f"{word}: no such option; see `pickaxe rpc --help`.")
    kept = [w for w in core if w.lstrip("-").partition("=")[0] not in _CLIENT_ONLY]
    out.core = parse_command_line(kept)
    for word in core:
        name, _, value = word.lstrip("-").partition("=")
        if word not in kept:
            out.core.values.setdefault(name, []).append(value)
    out.words = words
    return out


def _next(words: list[str], name: str) -> str:
    if not words:
        raise UserError(f"{name} needs a value.")
    return words.pop(0)


def find_node(invocation: Invocation) -> Target:
    """Address and credentials from the options, the datadir's configuration and its cookie. UserError when there is no
    way in."""
    core = invocation.core
    target = Target()
    timeout = core.last("rpcclienttimeout")
    if timeout is not None:
        target.timeout_s = float(timeout) or 1e6
    wallet = core.last("rpcwallet")
    if wallet is not None:
        target.path = f"/wallet/{quote(wallet, safe='')}"
    user, password, port = core.last("rpcuser"), core.last("rpcpassword"), core.last("rpcport")
    cookie = invocation.cookie or core.last("rpccookiefile")
    if any(core.values.get(name) for name in ("datadir", "conf", "chain", "regtest", "testnet", "testnet4", "signet")):
        config = load(core).config
        params = resolve(config.network, config.datadir)
        user, password = user or config.rpc_user, password or config.rpc_password
        target.port = config.rpc_port or params.rpc_port
        cookie_path = Path(config.rpc_cookie_file or ".cookie")
        folder = network_dir(config.datadir, params)
    else:
        home = Path(invocation.datadir).expanduser() if invocation.datadir else default_datadir()
        values: dict[str, Any] = load_toml(home / CONFIG_FILE) if (home / CONFIG_FILE).is_file() else {}
        params = resolve(invocation.network or values.get("network") or "pickaxe", home)
        user, password = user or values.get("rpc_user"), password or values.get("rpc_password")
        target.port = values.get("rpc_port") or params.rpc_port
        cookie_path = Path(values.get("rpc_cookie_file") or ".cookie")
        folder = network_dir(home, params)
        if not port and not invocation.url and (folder / "rpc.port").is_file():
            target.port = int((folder / "rpc.port").read_text())
    if invocation.url:
        parts = urlsplit(invocation.url)
        if parts.scheme != "http" or not parts.hostname:
            raise UserError(f"--rpc-url {invocation.url}: expected http://HOST:PORT.")
        target.host, target.port = parts.hostname, parts.port or target.port
        user, password = user or parts.username, password or parts.password
    connect = core.last("rpcconnect")
    if connect:
        host, colon, text = connect.rpartition(":")
        target.host, target.port = (host, int(text)) if colon and text.isdigit() else (connect, target.port)
    if port:
        target.port = int(port)
    if password:
        target.user, target.password = user or "", password
    else:
        path = Path(cookie) if cookie else (cookie_path if cookie_path.is_absolute() else folder / cookie_path)
        target.user, target.password = read_cookie(path)
    return target


def convert(method: str, arguments: list[str], *, named: bool) -> list[Any] | dict[str, Any]:
    """Text arguments as JSON: text where the method wants text, parsed JSON elsewhere."""
    if not named:
        return [_value(method, text) for text in arguments]
    out: dict[str, Any] = {}
    positional: list[Any] = []
    for text in arguments:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            out[name] = _value(method, value)
        else:
            positional.append(_value(method, text))
    if positional:
        out["args"] = positional
    return out


#: Methods with free text that may look like a number; everywhere else a number is a number.
_FREE_TEXT: Final = frozenset({"help", "verifymessage", "signmessagewithprivkey"})
_LONGEST_NUMBER: Final = 20  #: digits; longer ones are hashes


def _value(method: str, text: str) -> Any:
    try:
        parsed = json.loads(text, parse_float=jsonio.number)
    except ValueError:
        return text
    is_number = isinstance(parsed, int | jsonio.NumberLiteral) and not isinstance(parsed, bool)
    return text if is_number and (method in _FREE_TEXT or len(text) > _LONGEST_NUMBER) else parsed


def call(target: Target, method: str, params: Any, *, wait: bool = False) -> Any:
    """One request. RpcFailure for an error reply; UserError when no node answers or it refuses us."""
    body = jsonio.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    credentials = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
    while True:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=target.timeout_s)
        try:
            connection.request("POST", target.path, body, headers)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            if wait:
                time.sleep(0.25)
                continue
            raise UserError(
                f"Could not connect to the server {target.host}:{target.port}: {error}. Make sure that the node is"
                " running and that you are connecting to the correct RPC port."
            ) from error
        finally:
            connection.close()
        if status == 401:
            raise UserError("Incorrect rpcuser or rpcpassword (authorization failed)")
        if status == 503:
            raise UserError(f"Server response: {answer.decode(errors='replace')}")
        try:
            reply = json.loads(answer, parse_float=jsonio.number)  # numbers are printed as the node wrote them
        except ValueError as error:
            raise UserError(f"Server returned HTTP error {status}") from error
        failure = reply.get("error")
        if failure is None:
            return reply.get("result")
        if wait and failure.get("code") == -28:
            time.sleep(0.25)
            continue
        raise RpcFailure(int(failure.get("code", -1)), str(failure.get("message", "")))
