"""JSON-RPC over HTTP: 1.x, 2.0 and batches, with the status codes of Bitcoin Core's httprpc.cpp.

Methods come from `node.rpc.registry`. Until `ready()` every call is answered with the warm-up error and its status
line, as clients expect.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from chain.primitives.errors import LocalFault, UserError
from node.rpc import jsonio
from node.rpc.auth import Authenticator
from node.rpc.errors import Code, RpcError
from node.rpc.jsonio import JSON
from node.rpc.registry import REGISTRY, Command

if TYPE_CHECKING:
    from node.rpc.context import RpcContext

log = logging.getLogger("pickaxe.rpc")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_BODY_BYTES: Final = 0x02000000  #: Core's MAX_SIZE; a block in hex fits four times
_BATCH_SLICE: Final = 100  #: calls of a batch after which others have their turn
WRONG_PASSWORD_DELAY_S: Final = 0.25  #: slows guessing, as Core does
_JSON_HEADERS: Final = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Call:
    """One request object of a batch or a body."""

    method: str = ""
    params: JSON = None
    id: JSON = None
    has_id: bool = False
    version2: bool = False

    @property
    def notification(self) -> bool:
        return self.version2 and not self.has_id

    def reply(self, result: JSON, error: RpcError | None) -> dict[str, JSON]:
        out: dict[str, JSON] = {}
        if self.version2:
            out["jsonrpc"] = "2.0"
            if error is None:
                out["result"] = result
            else:
                out["error"] = error.as_json()
        else:
            out["result"] = None if error is not None else result
            out["error"] = None if error is None else error.as_json()
        if self.has_id:
            out["id"] = self.id
        return out


@dataclass(slots=True)
class ActiveCommand:
    """A call that is being answered, for getrpcinfo; `started` is on the monotonic clock."""

    method: str
    started: float


class RpcServer:
    """The HTTP server. `context` is handed to each method as its first argument."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        threads: int = 16,
        work_queue: int = 64,
        idle_timeout_s: float = 30,
        allow: Sequence[IPNetwork] = (),
    ) -> None:
        self.context: RpcContext | None = None
        self.warmup_status = "RPC server started"
        self.port = 0  #: of the first address, once listening
        self.active: dict[int, ActiveCommand] = {}
        self._auth = authenticator
        self._allow = tuple(allow)
        self._limit = threads + work_queue
        self._in_flight = 0
        self._serial = 0
        self._runner: web.ServerRunner | None = None
        self._idle_timeout_s = idle_timeout_s

    async def start(self, addresses: list[tuple[str, int]]) -> None:
        """Listen on each (host, port). OSError when none can be bound."""
        server = web.Server(
            self._handle, request_factory=self._make_request, keepalive_timeout=self._idle_timeout_s, access_log=None
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        for host, port in addresses:
            await web.TCPSite(self._runner, host, port, backlog=128).start()
        self.port = int(self._runner.addresses[0][1])

    def ready(self, context: RpcContext) -> None:
        """End the warm-up: from now on calls reach their methods."""
        self.context = context

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._auth.close()

    @staticmethod
    def _make_request(
        message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may_connect(request.remote):
            log.warning("Client network is not allowed RPC access: %s", request.remote)
            return web.Response(status=403)
        if request.path != "/" and not request.path.startswith("/wallet/"):
            return web.Response(status=404)
        if request.method != "POST":
            return web.Response(status=405, text="JSONRPC server handles only POST requests")
        header = request.headers.get("Authorization")
        if header is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        if not self._auth.allows(header):
            log.warning("RPC: incorrect password attempt from %s", request.remote)
            await asyncio.sleep(WRONG_PASSWORD_DELAY_S)
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        if self._in_flight >= self._limit:
            log.warning("request rejected because the RPC work queue is full; raise -rpcworkqueue")
            return web.Response(status=503, text="Work queue depth exceeded")
        self._in_flight += 1
        try:
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return web.Response(status=413, text=f"Request body exceeds {MAX_BODY_BYTES} bytes")
            return await self._answer(body)
        finally:
            self._in_flight -= 1

    def _may_connect(self, remote: str | None) -> bool:
        """Loopback always, others by -rpcallowip."""
        try:
            address = ipaddress.ip_address((remote or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        return address.is_loopback or any(
            address.version == network.version and address in network for network in self._allow
        )

    async def _answer(self, body: bytes) -> web.Response:
        try:
            document = jsonio.loads(body)
        except (ValueError, UnicodeDecodeError):
            return _response(Call(has_id=True), None, RpcError(Code.PARSE_ERROR, "Parse error"))
        if isinstance(document, list):
            replies = []
            for number, item in enumerate(document, 1):
                call, result, error = await self._one(item)
                if not call.notification:
                    replies.append(jsonio.encode(call.reply(result, error)))  # text takes a tenth of the objects' room
                if not number % _BATCH_SLICE:  # nothing above need have waited
                    await asyncio.sleep(0)
            if not replies and document:
                return web.Response(status=204)
            return _encoded_response(200, b"[" + b",".join(replies) + b"]")
        if not isinstance(document, dict):
            return _response(Call(has_id=True), None, RpcError(Code.PARSE_ERROR, "Top-level object parse error"))
        call, result, error = await self._one(document)
        if call.notification:
            return web.Response(status=204)
        return _response(call, result, error)

    async def _one(self, item: JSON) -> tuple[Call, JSON, RpcError | None]:
        call = Call()
        try:
            _parse_call(item, call)
            return call, await self.execute(call.method, call.params), None
        except RpcError as error:
            return call, None, error

    async def execute(self, method: str, params: JSON) -> JSON:
        """Run one method. RpcError for everything that can go wrong in it."""
        if self.context is None:
            raise RpcError(Code.IN_WARMUP, self.warmup_status)
        command = REGISTRY.get(method)
        if command is None:
            raise RpcError(Code.METHOD_NOT_FOUND, "Method not found")
        log.debug("ThreadRPCServer method=%s", method)
        arguments = command.bind(params if params is not None else [])
        self._serial += 1
        serial = self._serial
        self.active[serial] = ActiveCommand(method, time.monotonic())
        try:
            return await _invoke(self.context, command, arguments)
        finally:
            del self.active[serial]


async def _invoke(context: RpcContext, command: Command, arguments: list[JSON]) -> JSON:
    try:
        if command.is_async:
            return await command.function(context, *arguments)
        if command.on_loop:
            result = command.function(context, *arguments)
            if inspect.isawaitable(result):
                return await result
            return result
        return await context.chain_service.call(command.function, context, *arguments)
    except RpcError:
        raise
    except UserError as error:
        raise RpcError(Code.MISC_ERROR, str(error)) from error
    except LocalFault as error:
        log.error("%s: %s", command.name, error)
        raise RpcError(Code.INTERNAL_ERROR, str(error)) from error
    except asyncio.CancelledError:
        raise
    except Exception as error:
        log.exception("unexpected error in RPC %s", command.name)
        raise RpcError(Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}") from error


def _parse_call(item: JSON, call: Call) -> None:
    if not isinstance(item, Mapping):
        raise RpcError(Code.INVALID_REQUEST, "Invalid Request object")
    if "id" in item:
        call.id, call.has_id = item["id"], True
    version = item.get("jsonrpc")
    if version is not None:
        if not isinstance(version, str):
            raise RpcError(Code.INVALID_REQUEST, "jsonrpc field must be a string")
        if version == "2.0":
            call.version2 = True
        elif version != "1.0":
            raise RpcError(Code.INVALID_REQUEST, "JSON-RPC version not supported")
    method = item.get("method")
    if method is None:
        raise RpcError(Code.INVALID_REQUEST, "Missing method")
    if not isinstance(method, str):
        raise RpcError(Code.INVALID_REQUEST, "Method must be a string")
    params = item.get("params")
    if params is not None and not isinstance(params, list | dict):
        raise RpcError(Code.INVALID_REQUEST, "Params must be an array or object")
    call.method, call.params = method, params


_STATUS: Final = {Code.INVALID_REQUEST: 400, Code.METHOD_NOT_FOUND: 404}


def _response(call: Call, result: JSON, error: RpcError | None) -> web.Response:
    status = 200 if error is None or call.version2 else _STATUS.get(error.code, 500)
    return _json_response(status, call.reply(result, error))


def _json_response(status: int, document: JSON) -> web.Response:
    return _encoded_response(status, jsonio.encode(document))


def _encoded_response(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body + b"\n", headers=_JSON_HEADERS)
