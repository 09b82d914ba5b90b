"""JSON-RPC client for a node: Pickaxe's or Bitcoin Core's."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from chain.primitives.errors import UserError

if TYPE_CHECKING:
    import aiohttp  # at run time only when a session opens: it takes longer to load than most commands to run

T = TypeVar("T")
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0
MAX_COOKIE_BYTES = 4096
RPC_IN_WARMUP = -28
WARMUP_WAIT_S = 60.0


class NodeError(UserError):
    """The node cannot be reached or used. One line: what to check."""


class RpcError(Exception):
    """The node's answer to a call is an error. `code` and `message` are the node's."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: {message} (code {code})")
        self.method = method
        self.code = code
        self.message = message


@dataclass(frozen=True)
class NodeAddress:
    """Where the node listens and how to log in: a cookie file, or user and password. UserError for a URL that is no
    node's."""

    url: str
    cookie: Path | None = None
    user: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of the port
            usable = False
        if not usable:
            raise UserError(f"'{self.url}' is not a node's address: write it like http://127.0.0.1:8332")

    def headers(self) -> dict[str, str]:
        """HTTP basic authentication. A cookie is read anew each time: a node makes a new one at every start. NodeError
        while there is none, UserError for a file that can never be one."""
        if self.user is not None:
            return _basic(f"{self.user}:{self.password or ''}")
        if self.cookie is None:
            return {}
        try:
            with self.cookie.open("rb") as file:
                text = file.read(MAX_COOKIE_BYTES).decode().strip()
        except FileNotFoundError as error:
            raise NodeError(
                f"no node is running here: {self.cookie} is missing. Start one with `pickaxe node`, "
                "or give --rpc-cookie or --rpc-user"
            ) from error
        except OSError as error:
            raise UserError(f"the cookie {self.cookie} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.cookie} is not a node's cookie: it is no text") from error
        if ":" not in text:
            raise UserError(f"{self.cookie} is not a node's cookie: it holds no 'user:password'")
        return _basic(text)


class RpcClient:
    """Calls and batches over one HTTP session. Use as an async context manager."""

    def __init__(self, address: NodeAddress) -> None:
        self.address = address
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def __aenter__(self) -> RpcClient:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        self._session = aiohttp.ClientSession(headers=self.address.headers(), timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: object) -> Any:
        """The result of one call; RpcError for the node's own errors, NodeError when it cannot be reached."""
        deadline = asyncio.get_running_loop().time() + WARMUP_WAIT_S
        while True:
            reply = await self._post(self._request(method, params))
            if not isinstance(reply, dict):
                raise NodeError(f"{self.address.url} does not answer like a node")
            try:
                return _result(method, reply)
            except RpcError as error:
                if error.code != RPC_IN_WARMUP or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(0.5)  # the node is starting

    async def ask(self, kind: type[T], method: str, *params: object) -> T:
        """`call`, for a result of the given type; NodeError for any other."""
        result = await self.call(method, *params)
        if not isinstance(result, kind) or isinstance(result, bool):
            raise NodeError(f"{self.address.url} does not answer {method} like a node")
        return result

    async def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Results in order; an RpcError stands in the place of a failed call."""
        if not calls:
            return []
        requests = [self._request(method, params) for method, params in calls]
        replies = await self._post(requests)
        if not isinstance(replies, list):
            if isinstance(replies, dict):
                _result("batch", replies)
            raise NodeError(f"{self.address.url} does not answer batches like a node")
        by_id = {reply.get("id"): reply for reply in replies if isinstance(reply, dict)}
        results: list[Any] = []
        for request, (method, _) in zip(requests, calls, strict=True):
            reply = by_id.get(request["id"])
            if reply is None:
                raise NodeError(f"{self.address.url} left out an answer to {method}")
            try:
                results.append(_result(method, reply))
            except RpcError as error:
                results.append(error)
        return results

    def _request(self, method: str, params: Sequence[object]) -> dict[str, object]:
        self._next_id += 1
        return {"jsonrpc": "1.0", "id": self._next_id, "method": method, "params": list(params)}

    async def _post(self, payload: object) -> Any:
        import aiohttp

        if self._session is None:
            raise RuntimeError("the client is not open")
        url = self.address.url
        try:
            async with self._session.post(
                url, data=json.dumps(payload), headers={"Content-Type": "application/json"}
            ) as reply:
                if reply.status in (401, 403):
                    raise NodeError(
                        f"the node at {url} refused the login: check --rpc-cookie, or --rpc-user and --rpc-password"
                    )
                body = await reply.read()
                status = reply.status
        except TimeoutError as error:
            raise NodeError(
                f"the node at {url} does not answer: check that it is running and not overloaded"
            ) from error
        except aiohttp.ClientError as error:
            raise NodeError(
                f"no node answers at {url} ({error}): check that it is running and that the address is right"
            ) from error
        try:
            return json.loads(body)
        except ValueError as error:
            raise NodeError(f"{url} does not answer like a node (HTTP status {status})") from error


def _basic(login: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


def _result(method: str, reply: dict[str, Any]) -> Any:
    error = reply.get("error")
    if error is not None:
        if isinstance(error, dict):
            raise RpcError(method, int(error.get("code", 0)), str(error.get("message", "")))
        raise RpcError(method, 0, str(error))
    return reply.get("result")
