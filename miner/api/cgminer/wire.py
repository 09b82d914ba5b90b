"""Requests in, replies out: the two forms of the API, as bytes.

A request is `command|parameter` or `{"command": …, "parameter": …}`; the reply comes in the same form and ends with a
zero byte. Several reports can be asked for at once: `summary+devs`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from miner.api.cgminer.messages import Message

MAX_REQUEST = 4096


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number with so many decimals."""

    value: float
    digits: int = 2


Value: TypeAlias = str | int | bool | Fixed
Record: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one command. `section`: name of its records, None without; `headed`: the text form writes the
    section's name before its one record, as the first field of each does it for lists. `action`: quit and restart
    answer with a bare word."""

    message: Message = Message.SUMMARY
    places: tuple[object, ...] = ()
    section: str | None = None
    records: Sequence[Record] = ()
    headed: bool = False
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """`commands`: one, or those joined by '+', each once, blank ones left out; `joined`: the reply names each.
    `error`: what was wrong with the request itself."""

    is_json: bool
    commands: tuple[str, ...] = ()
    parameter: str | None = None
    joined: bool = False
    error: Message | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every reply's STATUS section carries besides its message."""

    when: int
    description: str = field(default="")


def parse_request(data: bytes) -> Request:
    """Read one request. Never raises: what is wrong with it is its `error`."""
    text = data.split(b"\0", 1)[0].decode("utf-8", "replace").rstrip("\r\n")
    if not text.startswith("{"):
        command, _, parameter = text.partition("|")
        return _joined(command, parameter or None, False)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return Request(True, error=Message.INVALID_JSON)
    if not isinstance(fields, dict):
        return Request(True, error=Message.INVALID_JSON)
    name, value = fields.get("command"), fields.get("parameter")
    if not isinstance(name, str):
        return Request(True, error=Message.MISSING_COMMAND if name is None else Message.INVALID_COMMAND)
    usable = isinstance(value, str | int | float) and not isinstance(value, bool)
    return _joined(name, str(value) if usable else None, True)


def is_complete(data: bytes) -> bool:
    """Whether more bytes could belong to this request: clients send no terminator and wait, so JSON is whole when its
    braces are, and text ends with a zero byte or a line."""
    if b"\0" in data or data.endswith(b"\n"):
        return True
    if not data.startswith(b"{"):
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def render(request: Request, replies: Sequence[tuple[str, Reply]], envelope: Envelope) -> bytes:
    """The bytes that answer a request; `replies` by command."""
    if request.is_json:
        if request.joined:
            parts = [f"{_json_text(command)}:[{_json(reply, envelope)}]" for command, reply in replies]
            text = "{" + "".join(f"{part}," for part in parts) + '"id":1}'
        else:
            text = _json(replies[0][1], envelope)
    elif request.joined:
        text = "".join(f"CMD={_escaped(command)}|{_text(reply, envelope)}" for command, reply in replies)
    else:
        text = _text(replies[0][1], envelope)
    return text.encode("utf-8", "replace") + b"\0"


def _joined(command: str, parameter: str | None, is_json: bool) -> Request:
    if "+" not in command:
        return Request(is_json, (command,), parameter)
    commands = tuple(dict.fromkeys(part for part in command.split("+") if part))
    if not commands:
        return Request(is_json, error=Message.INVALID_COMMAND)
    return Request(is_json, commands, None, joined=True)


def _status(reply: Reply, envelope: Envelope) -> Record:
    record: dict[str, Value] = {
        "STATUS": reply.message.severity,
        "When": envelope.when,
        "Code": reply.message.code,
        "Msg": reply.message.text(*reply.places),
    }
    if reply.message is not Message.INVALID_COMMAND:  # nothing about us for those who only probe
        record["Description"] = envelope.description
    return record


def _json(reply: Reply, envelope: Envelope) -> str:
    if reply.action is not None:
        return f'{{"STATUS":{_json_text(reply.action)},"id":1}}'
    sections = [f'"STATUS":[{_json_record(_status(reply, envelope))}]']
    if reply.section is not None:
        sections.append(f'"{reply.section}":[{",".join(_json_record(record) for record in reply.records)}]')
    return "{" + ",".join([*sections, '"id":1']) + "}"


def _text(reply: Reply, envelope: Envelope) -> str:
    if reply.action is not None:
        return reply.action
    head = f"{reply.section}," if reply.headed else ""
    return f"{_text_record(_status(reply, envelope))}|" + "".join(
        f"{head}{_text_record(record)}|" for record in reply.records
    )


def _json_record(record: Record) -> str:
    return "{" + ",".join(f"{_json_text(name)}:{_json_value(value)}" for name, value in record.items()) + "}"


def _text_record(record: Record) -> str:
    return ",".join(f"{name}={_text_value(value)}" for name, value in record.items())


def _json_value(value: Value) -> str:
    return _json_text(value) if isinstance(value, str) else _number(value)


def _text_value(value: Value) -> str:
    return _escaped(value) if isinstance(value, str) else _number(value)


def _number(value: int | bool | Fixed) -> str:
    if isinstance(value, Fixed):
        return f"{value.value if math.isfinite(value.value) else 0.0:.{value.digits}f}"
    return str(value).lower()  # true, false, or an integer


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "\\|,=" else character for character in text)
