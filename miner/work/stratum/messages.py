"""Stratum V1 on the wire: one JSON object a line, requests and answers in both directions.

Source: the de facto protocol of 2012 (slushpool's stratum manual), BIP310 for mining.configure, and what ckpool sends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

#: A notify of a pool that pays thousands of outputs in its coinbase has some 200 KB; a longer line is an attack.
MAX_LINE_BYTES = 512 << 10
_MAX_TEXT = 200

#: What pools mean by their numbers.
REJECT_NAMES = {
    20: "other",
    21: "stale",
    22: "duplicate",
    23: "low difficulty",
    24: "unauthorized",
    25: "not subscribed",
}
STALE, DUPLICATE, LOW_DIFFICULTY, UNAUTHORIZED, NOT_SUBSCRIBED = 21, 22, 23, 24, 25
UNKNOWN_METHOD = -3


class Malformed(ValueError):
    """A line that is not Stratum; one clause saying why."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the other side refused: a code of REJECT_NAMES, 20 for anything else, and its own words. `plain`: the words
    are the reason, the code only says what they mean (Stratum V2)."""

    code: int
    text: str
    plain: bool = False

    @property
    def reason(self) -> str:
        """What refusals are counted by."""
        return self.text if self.plain else f"{self.code} {REJECT_NAMES[self.code]}"

    def __str__(self) -> str:
        if self.plain:
            return self.text
        name = REJECT_NAMES[self.code]
        return f"{self.code} {name}" if self.text.lower() in ("", name) else f"{self.code} {name}: {self.text}"


@dataclass(frozen=True, slots=True)
class Request:
    """A call, or a notification where `id` is None."""

    id: int | str | None
    method: str
    params: list[Any]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `rejection` is None on success."""

    id: int
    result: Any
    rejection: Rejection | None


class LineBuffer:
    """Cuts a byte stream into lines of at most `limit` bytes, however it arrives."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer known to hold no line end
        self.overflowed = False  #: a line was too long; what follows it is lost

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by this data, without their ends, up to one that is too long."""
        if self.overflowed:
            return []
        lines = []
        self._buffer += data
        start = 0
        while (end := self._buffer.find(b"\n", max(start, self._searched))) >= 0 and end - start <= self._limit:
            lines.append(bytes(self._buffer[start:end]))
            start = end + 1
        del self._buffer[:start]
        self._searched = len(self._buffer)
        if end >= 0 or len(self._buffer) > self._limit:
            self.overflowed = True
            self._buffer.clear()
        return lines


def parse_line(line: bytes) -> Request | Response:
    """One line's message; raises Malformed."""
    try:
        message = json.loads(line.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    if not isinstance(message, dict):
        raise Malformed("not a JSON object")
    number = message.get("id")
    if "method" in message:
        return _request(message, number)
    if not ("result" in message or "error" in message):
        raise Malformed("neither a call nor an answer")
    if not isinstance(number, int) or isinstance(number, bool):
        raise Malformed("an answer without the number of its call")
    return Response(number, message.get("result"), _rejection(message))


def encode_request(number: int | None, method: str, params: list[Any]) -> bytes:
    """A call as a line."""
    return _line({"id": number, "method": method, "params": params})


def encode_result(number: int | str, result: Any) -> bytes:
    """An answer as a line."""
    return _line({"id": number, "result": result, "error": None})


def encode_error(number: int | str | None, code: int, text: str) -> bytes:
    """A refusal as a line."""
    return _line({"id": number, "result": None, "error": [code, text, None]})


def clean_text(value: object, limit: int = _MAX_TEXT) -> str:
    """Foreign text made fit for a terminal: one line, printable, bounded."""
    return "".join(char if char.isprintable() else " " for char in str(value)[:limit]).strip()


def _request(message: dict[str, Any], number: object) -> Request:
    method, params = message["method"], message.get("params")
    if not isinstance(method, str):
        raise Malformed("a call whose method is not text")
    if params is None:
        params = []
    if not isinstance(params, list):
        raise Malformed(f"{clean_text(method, 40)} without a list of parameters")
    if number is not None and (not isinstance(number, int | str) or isinstance(number, bool)):
        raise Malformed("a call with an impossible number")
    return Request(number, method, params)


def _rejection(message: dict[str, Any]) -> Rejection | None:
    """Pools write errors as [code, text, trace], an object or text, or as a false result with a reason beside it."""
    error = message.get("error")
    if not error:  # null, and in old pools false or nothing at all
        if message.get("result") is not False:
            return None
        return Rejection(20, clean_text(message.get("reject-reason") or ""))
    code: object = None
    text: object = error
    if isinstance(error, list):
        code, text = [*error, "", ""][:2]
    elif isinstance(error, dict):
        code, text = error.get("code"), error.get("message", "")
    known = code if isinstance(code, int) and not isinstance(code, bool) and code in REJECT_NAMES else 20
    return Rejection(known, clean_text(text if isinstance(text, str) else ""))


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are JavaScript's, not JSON's
