"""JSON-RPC to a node, ours or Bitcoin Core's, with the failures a miner meets told apart."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp

from chain.primitives.errors import UserError
from miner.work.stratum.messages import clean_text

DEFAULT_TIMEOUT_S = 30.0
_RESPONSE_LIMIT = 64 << 20  #: a template of 4 MB of transactions is 8 MB of hexadecimal and its fields
_MAX_MESSAGE = 400  # characters of what a node says
_numbers = itertools.count(1)


class NodeUnreachable(Exception):
    """Nobody answers, or not in JSON-RPC; one line saying what happened. Trying again may help."""


class WrongPassword(Exception):
    """The node refuses the credentials; one line saying which."""


class RpcError(Exception):
    """The node understood and refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A node's RPC address and how to log in: a cookie file, read anew for each attempt, or user and password."""

    url: str
    cookie: Path | None = None
    user: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise UserError(f"'{self.url}' is not an RPC address: write it like http://127.0.0.1:8332")

    @property
    def address(self) -> str:
        """The URL without user and password, which belong in a header and in no message."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def __str__(self) -> str:
        return self.address.rstrip("/")

    def authorization(self) -> str | None:
        """The Authorization header. Raises NodeUnreachable while there is no cookie: the node writes it when it
        starts."""
        if self.user is not None:
            return _basic(f"{self.user}:{self.password or ''}")
        if self.cookie is not None:
            try:
                return _basic(self.cookie.read_text().strip())
            except FileNotFoundError:
                raise NodeUnreachable(f"the node has no cookie {self.cookie}: is it running?") from None
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not text"
                message = (
                    f"cannot read the node's cookie {self.cookie} ({reason}): name another file, or log in as a user"
                )
                raise NodeUnreachable(message) from None
        parts = urlsplit(self.url)
        return _basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}") if parts.username else None


class NodeClient:
    """Calls to one node. `async with` it, or close it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> NodeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any, timeout_s: float = DEFAULT_TIMEOUT_S) -> Any:
        """The result. Raises RpcError, WrongPassword or NodeUnreachable."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        body = json.dumps({"jsonrpc": "1.0", "id": next(_numbers), "method": method, "params": list(params)})
        headers = {"Content-Type": "application/json"}
        if (authorization := self.endpoint.authorization()) is not None:
            headers["Authorization"] = authorization
        try:
            async with self._session.post(
                self.endpoint.address,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=10),
            ) as response:
                if response.status in (401, 403):
                    raise WrongPassword(self._refusal(response.status))
                data = await _read_limited(response)
        except aiohttp.ClientConnectorCertificateError as error:
            problem = error.certificate_error
            reason = getattr(problem, "verify_message", "") or str(problem)
            raise NodeUnreachable(f"node {self.endpoint} has a certificate that is not trusted ({reason})") from None
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            reason = os.strerror(number) if number is not None and number > 0 else str(error.os_error)
            raise NodeUnreachable(f"node {self.endpoint} does not answer ({reason})") from None
        except TimeoutError:
            raise NodeUnreachable(f"node {self.endpoint} did not answer {method} within {timeout_s:g} s") from None
        except UnicodeError:  # as IDNA says it
            raise NodeUnreachable(f"node {self.endpoint} has a name that no host can have: check the address") from None
        except aiohttp.ClientError as error:
            raise NodeUnreachable(f"connection to {self.endpoint} failed ({error or type(error).__name__})") from None
        return _result(data, response.status, self.endpoint)

    def _refusal(self, status: int) -> str:
        if status == 403:
            return f"node {self.endpoint} does not allow connections from here (rpcallowip)"
        if self.endpoint.cookie is not None and self.endpoint.user is None:
            return f"node {self.endpoint} refuses the cookie {self.endpoint.cookie}: does it belong to another node?"
        return f"node {self.endpoint} refuses this user and password"


def _basic(user_and_password: str) -> str:
    # bytes of the command line that are not UTF-8 go out as they came in
    return "Basic " + base64.b64encode(user_and_password.encode(errors="surrogateescape")).decode()


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > _RESPONSE_LIMIT:
            raise NodeUnreachable(f"{response.url.host} sent more than {_RESPONSE_LIMIT >> 20} MB: not a node's answer")
        chunks.append(chunk)
    return b"".join(chunks)


def _result(data: bytes, status: int, endpoint: Endpoint) -> Any:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        raise NodeUnreachable(f"{endpoint} answers HTTP {status} but not as a node does: check the address")
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise RpcError(0, clean_text(error))
        code = error.get("code")
        message = clean_text(error.get("message", "no reason given"), _MAX_MESSAGE)
        raise RpcError(code if isinstance(code, int) else 0, message)
    return answer.get("result")


async def sleep_or_event(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for the event at most that long; whether it came."""
    try:
        async with asyncio.timeout(timeout_s):  # wait_for of Python 3.11 can lose a cancellation that comes just then
            await event.wait()
    except TimeoutError:
        return False
    return True
