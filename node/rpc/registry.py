"""The one table of RPC methods: what each is called, which arguments it takes, where it runs and how it is
explained."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from node.rpc import jsonio
from node.rpc.errors import Code, RpcError, Text, misc, type_error
from node.rpc.jsonio import JSON

CATEGORIES: Final = ("Blockchain", "Control", "Mining", "Network", "Rawtransactions", "Util", "Wallet", "Zmq", "hidden")


class Kind(Enum):
    """JSON types of arguments; the value is the word that Core's type errors use."""

    STR = "string"
    HEX = "string "
    INT = "number"
    FLOAT = "number "
    BOOL = "bool"
    ARR = "array"
    OBJ = "object"
    AMOUNT = "amount"  # number or string; the method parses it
    ANY = "any"  # more than one type is allowed; the method checks

    def accepts(self, value: JSON) -> bool:
        if self in (Kind.ANY, Kind.AMOUNT):
            return True
        return jsonio.type_name(value) == str(self.value).strip()


class _Required(Enum):
    REQUIRED = 0


REQUIRED: Final = _Required.REQUIRED


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument. `names` may be 'canonical|alias|…'; a default makes it optional."""

    names: str
    kind: Kind
    default: JSON = REQUIRED
    help: str = ""
    hidden: bool = False
    oneline: str = ""
    options: tuple[str, ...] = ()  #: keys of this object that may also be named arguments (Core's OBJ_NAMED_PARAMS)

    @property
    def name(self) -> str:
        return self.names.split("|")[0]

    @property
    def aliases(self) -> list[str]:
        return self.names.split("|")

    @property
    def optional(self) -> bool:
        return self.default is not REQUIRED

    def usage(self) -> str:
        if self.oneline:
            return self.oneline
        if self.kind in (Kind.STR, Kind.HEX):
            return f'"{self.name}"'
        if self.kind is Kind.ARR:
            return f"[{self.name},...]"
        if self.kind is Kind.OBJ:
            return f"{{{self.name}}}"
        return self.name


@dataclass(frozen=True, slots=True)
class Command:
    """One method: `function(context, *arguments)`. Plain functions run in the chain's writer thread unless `on_loop`;
    coroutines on the loop."""

    name: str
    category: str
    function: Callable[..., Any]
    args: tuple[Arg, ...]
    help: str
    on_loop: bool
    is_async: bool

    def usage(self) -> str:
        """Name and arguments in one line, optional ones in round brackets, as in Core's help."""
        parts = [self.name]
        in_optional = False
        for arg in self.args:
            if arg.hidden:
                break
            if arg.optional and not in_optional:
                parts.append("(")
                in_optional = True
            elif not arg.optional and in_optional:
                parts.append(")")
                in_optional = False
            parts.append(arg.usage())
        if in_optional:
            parts.append(")")
        return " ".join(parts)

    def help_text(self) -> str:
        lines = [self.usage(), "", self.help.strip(), ""]
        shown = [a for a in self.args if not a.hidden]
        if shown:
            lines.append("Arguments:")
            for position, arg in enumerate(shown, 1):
                need = "required" if not arg.optional else "optional"
                default = f", default={jsonio.dumps(arg.default)}" if arg.optional and arg.default is not None else ""
                kind = "numeric" if arg.kind in (Kind.INT, Kind.FLOAT) else arg.kind.value.strip()
                lines.append(f"{position}. {arg.name:<20} ({kind}, {need}{default}) {arg.help}".rstrip())
            lines.append("")
        return "\n".join(lines)

    def bind(self, params: Sequence[JSON] | Mapping[str, JSON]) -> list[JSON]:
        """Arguments in order, defaults filled in. RpcError with Core's codes and texts for a wrong number, name or
        type."""
        given = self._positional(params) if isinstance(params, Mapping) else list(params)
        required = max((n for n, a in enumerate(self.args, 1) if not a.optional), default=0)
        if len(given) > len(self.args) or len(given) < required:
            raise misc(self.help_text())
        mismatch: dict[str, str] = {}
        for position, (arg, value) in enumerate(zip(self.args, given, strict=False), 1):
            if value is None and arg.optional:
                continue
            if not arg.kind.accepts(value):
                mismatch[f"Position {position} ({arg.names})"] = (
                    f"JSON value of type {jsonio.type_name(value)} is not of expected type {arg.kind.value.strip()}"
                )
        if mismatch:
            body = ",\n".join(f'    "{where}": "{what}"' for where, what in mismatch.items())
            raise type_error(f"Wrong type passed:\n{{\n{body}\n}}")
        if self.name in _RAW_PARAMS:
            return given
        bound: list[JSON] = []
        for position, arg in enumerate(self.args):
            value = given[position] if position < len(given) else None
            if value is None:
                bound.append(None if arg.default is REQUIRED else arg.default)
            elif arg.kind is Kind.INT:
                bound.append(integer(value))
            else:
                bound.append(value)
        return bound

    def _positional(self, named: Mapping[str, JSON]) -> list[JSON]:
        rest = dict(named)
        args = rest.pop("args", None)
        if args is not None and not isinstance(args, list):
            raise RpcError(Code.INVALID_PARAMETER, "Parameter args must be an array")
        out: list[JSON] = list(args or [])
        first_free = len(out)
        for position, arg in enumerate(self.args):
            found = [alias for alias in arg.aliases if alias in rest]
            named = {key: rest.pop(key) for key in arg.options if key in rest}
            if named:
                if found or position < first_free:
                    raise RpcError(
                        Code.INVALID_PARAMETER,
                        f"Parameter {next(iter(named))} conflicts with parameter {arg.name}",
                    )
                rest[arg.name] = named
                found = [arg.name]
            if not found:
                continue
            if position < first_free:
                raise RpcError(
                    Code.INVALID_PARAMETER,
                    f"Parameter {found[0]} specified twice both as positional and named argument",
                )
            if len(found) > 1:
                raise RpcError(Code.INVALID_PARAMETER, f"Parameter {found[1]} specified multiple times")
            out.extend([None] * (position - len(out)))
            out.append(rest.pop(found[0]))
        for name in rest:
            raise RpcError(Code.INVALID_PARAMETER, f"Unknown named parameter {name}")
        return out


REGISTRY: dict[str, Command] = {}

#: Methods that see their parameters as sent, without defaults: they answer with them.
_RAW_PARAMS = frozenset({"echo", "echojson"})


def rpc(
    name: str, category: str, *args: Arg, help: str, on_loop: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a method. The decorated function gets the context, then one value for each argument."""
    if category not in CATEGORIES:
        raise ValueError(f"no RPC category {category!r}")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in REGISTRY:
            raise ValueError(f"RPC {name} registered twice")
        is_async = inspect.iscoroutinefunction(function)
        REGISTRY[name] = Command(name, category, function, args, help, on_loop, is_async)
        return function

    return register


def integer(value: JSON) -> int:
    """A JSON number as an int; RpcError as UniValue::getInt gives it when it has a fraction or exceeds 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise jsonio.wrong_type(value, "number")
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise misc(Text.INTEGER_RANGE)
    return value
