"""A running node's JSON-RPC: who gets in, what is answered, what is refused."""

from __future__ import annotations

import base64
import http.client
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.rpc.registry import REGISTRY
from node.rpc.table import MODULES
from tests.functional.processes import CallError, Node, nodes, pickaxe

pytestmark = pytest.mark.functional

OP_TRUE_ADDRESS = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85"  # a well-known P2WSH


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(tmp_path_factory.mktemp("rpc"), "regtest")
    with nodes(one):
        yield one.start()


def _post(
    node: Node, body: bytes, *, login: str | None = "", method: str = "POST", path: str = "/"
) -> tuple[int, str, bytes]:
    """(status, content type, body); `login` None sends no credentials, '' the cookie's."""
    headers = {}
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode((login or node.cookie.read_text()).encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", node.rpc_port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def _request(node: Node, document: Any, **options: Any) -> tuple[int, Any]:
    status, kind, body = _post(node, json.dumps(document).encode(), **options)
    if body:
        assert kind == "application/json"
    return status, json.loads(body) if body else None


def test_only_the_cookie_opens(node: Node) -> None:
    call = json.dumps({"method": "getblockcount"}).encode()
    assert _post(node, call)[0] == 200
    assert _post(node, call, login=None)[0] == 401
    assert _post(node, call, login="__cookie__:wrong")[0] == 401
    assert _post(node, call, login="root:toor")[0] == 401
    assert node.cookie.stat().st_mode & 0o777 == 0o600


def test_only_post_and_known_paths(node: Node) -> None:
    call = json.dumps({"method": "getblockcount"}).encode()
    assert _post(node, call, method="GET")[0] == 405
    assert _post(node, call, path="/wallet/any")[0] == 200
    assert _post(node, call, path="/secret")[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 500, -32700),
        (b"this is bad", 500, -32700),
        (b"3", 500, -32700),
        (b"[" * 50_000, 500, -32700),
        (b'{"method": "echo", "params": [1e99999999999999999999]}', 500, -32700),
        (b'{"id": 1}', 400, -32600),
        (b'{"method": 5}', 400, -32600),
        (b'{"method": "echo", "params": "x"}', 400, -32600),
        (b'{"method": "echo", "jsonrpc": 2}', 400, -32600),
        (b'{"method": "nosuch"}', 404, -32601),
        (b'{"method": "getblockhash", "params": [-1]}', 500, -8),
        (b'{"method": "getblockhash", "params": ["1"]}', 500, -3),
        (b'{"method": "getblockhash"}', 500, -1),
        (b'{"method": "getblock", "params": ["zz"]}', 500, -8),
        (b'{"method": "getblockstats", "params": [0, [["height"]]]}', 500, -3),
        (b'{"method": "getblockstats", "params": [0, ["height", {}]]}', 500, -3),
        (b'{"method": "dumptxoutset", "params": ["' + b"x" * 300 + b'", "latest"]}', 500, -8),
        (b'{"method": "sendrawtransaction", "params": ["00"]}', 500, -22),
        (b'{"method": "submitblock", "params": ["00"]}', 500, -22),
        (b'{"method": "submitheader", "params": ["00"]}', 500, -22),
        (b'{"method": "generatetoaddress", "params": [1, "nowhere"]}', 500, -5),
    ],
)
def test_bad_calls_get_one_clear_error(node: Node, body: bytes, status: int, code: int) -> None:
    got, kind, answer = _post(node, body)
    document = json.loads(answer)
    assert (got, document["error"]["code"]) == (status, code)
    assert kind == "application/json"
    assert document["result"] is None
    assert "Traceback" not in document["error"]["message"]


def test_a_body_beyond_the_limit_is_refused(node: Node) -> None:
    head = b'{"method": "echo", "params": ["'
    try:
        status, _, _ = _post(node, head + b"a" * 0x02000001)
    except (BrokenPipeError, ConnectionResetError):  # the node need not read what it will not take
        return
    assert status == 413


def test_version_two_answers_200_and_has_one_of_result_and_error(node: Node) -> None:
    status, answer = _request(node, {"jsonrpc": "2.0", "id": "x", "method": "nosuch"})
    assert status == 200
    assert set(answer) == {"jsonrpc", "error", "id"}
    status, answer = _request(node, {"jsonrpc": "2.0", "id": None, "method": "getblockcount"})
    assert status == 200
    assert set(answer) == {"jsonrpc", "result", "id"}


def test_notifications_are_done_and_not_answered(node: Node) -> None:
    before = node.call("getblockcount")
    call = {"jsonrpc": "2.0", "method": "generatetoaddress", "params": [1, OP_TRUE_ADDRESS]}
    assert _request(node, call) == (204, None)
    assert node.call("getblockcount") == before + 1
    assert _request(node, [call]) == (204, None)
    assert node.call("getblockcount") == before + 2


def test_a_batch_is_answered_in_order_each_for_itself(node: Node) -> None:
    status, answers = _request(
        node,
        [
            {"id": 1, "method": "echo", "params": [1]},
            {"id": 2, "method": "nosuch"},
            5,
            {"id": 4, "method": "echo", "params": {"arg1": 2}},
        ],
    )
    assert status == 200
    assert answers[0] == {"result": [1], "error": None, "id": 1}
    assert answers[1]["error"]["code"] == -32601
    assert answers[2]["error"]["code"] == -32600
    assert answers[3]["result"] == [None, 2]
    assert _request(node, []) == (200, [])


def test_amounts_keep_their_eight_places(node: Node) -> None:
    node.call("generatetoaddress", 1, OP_TRUE_ADDRESS)
    block = node.call("getbestblockhash")
    _, _, body = _post(node, json.dumps({"method": "getblock", "params": [block, 2]}).encode())
    assert b'"value":50.00000000' in body
    assert b'"value":0.00000000' in body


def test_a_template_becomes_a_block(node: Node) -> None:
    with pytest.raises(CallError, match="segwit rule set"):
        node.call("getblocktemplate", {})
    template = node.call("getblocktemplate", {"rules": ["segwit"]})
    assert template["height"] == node.call("getblockcount") + 1
    made = node.call("generateblock", OP_TRUE_ADDRESS, [], False)
    assert node.call("getblocktemplate", {"mode": "proposal", "data": made["hex"], "rules": ["segwit"]}) is None
    flipped = made["hex"][:72] + ("0" if made["hex"][72] != "0" else "1") + made["hex"][73:]
    assert node.call("submitblock", flipped) in ("high-hash", "bad-txnmrklroot")
    assert node.call("submitblock", made["hex"]) is None
    assert node.call("submitblock", made["hex"]) == "duplicate"
    assert node.call("getbestblockhash") == made["hash"]


_JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    2**70,
    1.5,
    "",
    "0",
    "00",
    "zz",
    "f" * 64,
    "0" * 64,
    "regtest",
    "start",
    "\u0000",
    "\ud800",
    OP_TRUE_ADDRESS,
    "raw(51)",
    "combo(",
    "multi(1,",
    [],
    [None],
    [[]],
    ["00"],
    ["f" * 64],
    [{"txid": "f" * 64, "vout": 0}],
    [{OP_TRUE_ADDRESS: 1}],
    [{"desc": "raw(51)", "range": [0, 1]}],
    {},
    {"rules": ["segwit"]},
    {"rules": ["segwit"], "mode": "proposal", "data": "00"},
    {"data": "00"},
]
_NOT_CALLED = {"stop", "waitfornewblock", "waitforblock", "waitforblockheight", "setmocktime", "setnetworkactive"}


def test_no_call_whatever_its_arguments_is_an_internal_error(node: Node, rng: random.Random) -> None:
    """Malformed calls get an error of their own; -32603 would be a defect of ours."""
    assert MODULES
    defects: list[Any] = []
    for name, command in REGISTRY.items():
        if name in _NOT_CALLED or name.startswith("generate"):
            continue
        for _ in range(25):
            arguments = [rng.choice(_JUNK) for _ in range(rng.randint(0, len(command.args)))]
            try:
                node.call(name, *arguments)
            except CallError as error:
                if error.code == -32603:
                    defects.append((name, arguments, error.message))
    assert not defects
    assert node.call("getblockcount") >= 0


def test_the_command_line_client(node: Node) -> None:
    where = ["--network", "regtest", "--datadir", str(node.folder)]
    assert pickaxe("rpc", *where, "getblockhash", "0").stdout.strip() == node.call("getblockhash", 0)
    assert json.loads(pickaxe("rpc", *where, "--named", "echo", "arg1=[1]").stdout) == [None, [1]]
    core = [f"-datadir={node.folder}", "-regtest", f"-rpcport={node.rpc_port}"]
    assert pickaxe("rpc", *core, "getblockcount").stdout.strip() == str(node.call("getblockcount"))
    failed = pickaxe("rpc", *where, "getblockhash", "999999")
    assert failed.returncode == 8
    assert failed.stderr == "error code: -8\nerror message:\nBlock height out of range\n"
    assert "getblockcount" in pickaxe("rpc", *where, "help").stdout


def test_the_client_says_when_no_node_answers(tmp_path: Path) -> None:
    gone = pickaxe("rpc", "--network", "regtest", "--datadir", str(tmp_path), "getblockcount")
    assert gone.returncode == 1
    assert gone.stderr.count("\n") == 1
    assert "is the node running?" in gone.stderr
