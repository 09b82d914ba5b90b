"""The settings of a mining run, from a TOML file and the command line.

The file is read strictly: an unknown key or a value of the wrong type is an error that names file, line and key.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chain.primitives.errors import UserError
from miner.energy.monitor import check_figures

DEVICE_KINDS = ("cpu", "gpu", "asic", "auto")
HTTP_PORT = 8078
API_PORT = 4028  #: cgminer's
_MAX_FILE = 1 << 20
_ONE_LINE = dict.fromkeys((*range(32), *range(127, 160)), " ")  # control characters of a text that is shown


class _Invalid(Exception):
    """A value that does not fit, without its place: 'must be …'."""


def _checked(check: Callable[[Any], None], **options: Any) -> Any:
    return field(metadata={"check": check}, **options)


def _perhaps_file(is_file: Callable[[str], bool], **options: Any) -> Any:
    """A field whose texts are names, or paths where `is_file` says so."""
    return field(metadata={"is_file": is_file}, **options)


def _between(low: float, high: float) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not low <= value <= high:
            raise _Invalid(f"must be {low:g} to {high:g}")

    return check


def _positive(value: Any) -> None:
    if not 0 < value < float("inf"):
        raise _Invalid("must be above 0")


def _not_negative(value: Any) -> None:
    if not 0 <= value < float("inf"):
        raise _Invalid("must not be negative")


def _kinds(value: Sequence[str]) -> None:
    for kind in value:
        if kind not in DEVICE_KINDS:
            raise _Invalid(f"knows {', '.join(DEVICE_KINDS)}, not '{kind}'")
    if not value:
        raise _Invalid("must name at least one kind")


def _address(value: str) -> None:
    parse_listen(value, 1)


def _networks(value: Sequence[str]) -> None:
    for text in value:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise _Invalid(f"knows networks like 192.168.1.0/24, not '{text}'") from None


def _figures(value: Mapping[str, float]) -> None:
    for name, watts in value.items():
        if not 0 <= watts < 1e9:
            raise _Invalid(f"has no such power: {name} = {watts:g}")
    try:
        check_figures(value)
    except UserError as error:
        raise _Invalid(f"is contradictory: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """One `[[pool]]`. The password is given, or in an environment variable, or the first line of a file; lower
    `priority` goes first."""

    url: str
    user: str | None = None
    password: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One `[[node]]`: a cookie file, or user and password as for pools; neither: the cookie below the data folder."""

    url: str | None = None
    cookie: Path | None = None
    user: str | None = None
    password: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSettings:
    """`[cpu]`. `idle`: lowest scheduling class, and pauses on battery and when other programs keep the processor busy
    beyond `idle_load` percent."""

    threads: int | None = _checked(_between(1, 4096), default=None)
    idle: bool = False
    idle_load: float = _checked(_between(1, 100), default=25.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """`[gpu]`. `use`: which cards, by number, name, PCI address or part of their title; all where empty."""

    use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AsicSettings:
    """`[asic]`: boards on serial ports. `boards`: which ones they are, one for all ports or one for each; `tune`: what
    their clock is to be found for (miner/asic/tuning/goal.py)."""

    ports: tuple[str, ...] = ()
    boards: tuple[str, ...] = _perhaps_file(lambda text: text.endswith(".toml") or "/" in text, default=())
    model: str | None = None
    frequency_mhz: float | None = _checked(_positive, default=None)
    tune: str | None = None
    zero_bits: int = _checked(_between(0, 32), default=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySettings:
    """`[energy]`. `watts`: by device, by kind, or "all"; `tariff`: price of a kilowatt-hour."""

    watts: dict[str, float] = field(default_factory=dict, metadata={"check": _figures})
    tariff: float | None = _checked(_not_negative, default=None)
    currency: str = ""
    sensors: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """`[http]`: the status page. `listen`: HOST:PORT; `token`: needed beyond this machine."""

    listen: str | None = _checked(_address, default=None)
    token: str | None = None
    token_env: str | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """`[api]`: the cgminer API. `write`: allow commands that change something; `allow`: networks that may ask besides
    this machine."""

    listen: str | None = _checked(_address, default=None)
    write: bool = False
    allow: tuple[str, ...] = _checked(_networks, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run can be told; the defaults are those of a run that is told nothing."""

    network: str = _perhaps_file(lambda text: text.endswith(".toml"), default="pickaxe")
    address: str | None = None
    user: str | None = None
    datadir: Path | None = None
    devices: tuple[str, ...] = _checked(_kinds, default=("cpu",))
    blocks: int | None = _checked(_positive, default=None)
    pace_s: float = _checked(_not_negative, default=0.0)
    min_difficulty: float | None = _checked(_positive, default=None)
    suggest_difficulty: float | None = _checked(_positive, default=None)
    version_rolling: bool = True
    tls_ca: Path | None = None
    follow_redirects: bool = False
    pool: tuple[PoolSettings, ...] = ()
    node: tuple[NodeSettings, ...] = ()
    cpu: CpuSettings = CpuSettings()
    gpu: GpuSettings = GpuSettings()
    asic: AsicSettings = AsicSettings()
    energy: EnergySettings = field(default_factory=EnergySettings)
    http: HttpSettings = HttpSettings()
    api: ApiSettings = ApiSettings()


def load_settings(path: Path) -> Settings:
    """Read a configuration file. Raises UserError naming the file, the line and the key."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise UserError(f"{path} is no configuration: it has {len(data)} bytes")
    try:
        text = data.decode()
        values = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    settings: Settings = _Reader(path, text).table(Settings, values, ())
    if settings.pool and settings.node:
        raise UserError(f"{path}: work comes from [[pool]]s or from [[node]]s, not from both")
    return settings


def dump_settings(settings: Settings) -> str:
    """The settings that are not as by default, as a configuration file."""
    plain: list[str] = []
    tables: list[str] = []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in ("pool", "node"):
            for entry in value:
                tables += ["", f"[[{item.name}]]", *_changed_lines(entry)]
        elif dataclasses.is_dataclass(value):
            lines = _changed_lines(value)
            if lines:
                tables += ["", f"[{item.name}]", *lines]
        elif value != _default(item):
            plain.append(_line(item, value))
    return "\n".join([*plain, *tables, ""]).lstrip("\n")


def resolve_secret(what: str, value: str | None, env: str | None, file: Path | None) -> str | None:
    """A password or token that is given, or named by a variable or a file. Raises UserError where that has none."""
    named = (("as its value", value), (f"in the variable {env}", env), (f"in the file {file}", file))
    places = [place for place, source in named if source is not None]
    if len(places) > 1:
        raise UserError(f"the {what} is given twice, {' and '.join(places)}: keep one")
    if env is not None:
        value = os.environ.get(env)
        if value is None:
            raise UserError(f"the {what} should be in the environment variable {env}, which is not set")
    if file is not None:
        try:
            lines = _at_home(str(file)).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise UserError(f"cannot read the {what} from {file}: {reason}") from None
        value = lines[0].strip() if lines else ""
        if not value:
            raise UserError(f"{file} should hold the {what} on its first line, and is empty")
    return value


def parse_listen(text: str, default_port: int) -> tuple[str, int]:
    """HOST:PORT, HOST, PORT, [V6]:PORT; the host is 127.0.0.1 unless named. Raises UserError."""
    match = re.fullmatch(
        r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]\s]*[^:\[\]\s\d][^:\[\]\s]*))?:?(?P<port>\d*)", text
    )
    if not text or match is None or text.endswith(":"):
        raise UserError(f"'{text}' is no place to listen at: write it like 127.0.0.1:{default_port}")
    port = int(match["port"] or default_port)
    if port > 65535:
        raise UserError(f"'{text}' is no place to listen at: ports go up to 65535")
    return match["v6"] or match["host"] or "127.0.0.1", port


class _Reader:
    """Turns tables into dataclasses."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def table(self, cls: type[Any], values: Mapping[str, Any], where: tuple[str | int, ...]) -> Any:
        hints = typing.get_type_hints(cls)
        known = {item.name: item for item in dataclasses.fields(cls)}
        arguments = {}
        for name, value in values.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f": did you mean '{close[0]}'?" if close else f": known are {', '.join(known)}"
                self._fail((*where, name), f"unknown key '{name}'{_table_name(where)}{hint}")
            arguments[name] = _placed(known[name], self._value(hints[name], value, (*where, name)), self._path.parent)
            check = known[name].metadata.get("check")
            if check is not None:
                try:
                    check(arguments[name])
                except (_Invalid, UserError) as error:
                    self._fail((*where, name), f"{_dotted((*where, name))} {error}")
        for name, item in known.items():
            if name not in values and item.default is item.default_factory is dataclasses.MISSING:
                self._fail(where, f"{name} is missing{_table_name(where)}")
            ways = [key for key in (name, f"{name}_env", f"{name}_file") if key in values]
            if len(ways) > 1:
                line = self._line_of((*where, ways[1]))
                there = f" in line {line}" if line else ""
                text = f"the {name}{_table_name(where)} is given twice, here as {ways[0]} and as {ways[1]}{there}"
                self._fail((*where, ways[0]), f"{text}: keep one")
        return cls(**arguments)

    def _value(self, hint: Any, value: Any, where: tuple[str | int, ...]) -> Any:
        if isinstance(hint, types.UnionType):
            hint = next(option for option in hint.__args__ if option is not types.NoneType)
        origin = typing.get_origin(hint)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            self._expect(isinstance(value, dict), where, f"a table: [{_dotted(where)}]", value)
            return self.table(hint, value, where)
        if origin is tuple:
            (inner,) = hint.__args__[:1]
            if inner is str and isinstance(value, str):
                value = [value]
            wanted = f"tables: [[{_dotted(where)}]]" if dataclasses.is_dataclass(inner) else "a list"
            self._expect(isinstance(value, list), where, wanted, value)
            return tuple(self._value(inner, entry, (*where, index)) for index, entry in enumerate(value))
        if origin is dict:
            self._expect(isinstance(value, dict), where, "a table", value)
            return {name: self._value(hint.__args__[1], entry, (*where, name)) for name, entry in value.items()}
        if hint is Path:
            self._expect(isinstance(value, str), where, "a path in quotes", value)
            return _at_home(value)
        if hint is float:
            # The comparison keeps out nan and inf, and whole numbers that no float holds.
            right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
            self._expect(right, where, "a number", value)
            return float(value)
        if hint is int:
            self._expect(isinstance(value, int) and not isinstance(value, bool), where, "a whole number", value)
        elif hint is bool:
            self._expect(isinstance(value, bool), where, "true or false", value)
        else:
            self._expect(isinstance(value, str), where, "text in quotes", value)
        return value

    def _expect(self, right: bool, where: tuple[str | int, ...], wanted: str, value: Any) -> None:
        if not right:
            self._fail(where, f"{_dotted(where)} must be {wanted}, not {_shown(value)}")

    def _fail(self, where: tuple[str | int, ...], message: str) -> typing.NoReturn:
        line = self._line_of(where)
        place = f"{self._path}, line {line}" if line else str(self._path)
        raise UserError(f"{place}: {message.translate(_ONE_LINE)}")

    def _line_of(self, where: tuple[str | int, ...]) -> int | None:
        """Where a key stands: found by reading the headers, as the parser keeps no places."""
        names = [part for part in where if isinstance(part, str)]
        wanted_count = next((part for part in where if isinstance(part, int)), 0)
        table: list[str] = []
        count = -1
        header_line = None
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
            if header is not None and "=" not in line.split("]")[0]:
                table = [part.strip().strip("\"'") for part in header[2].split(".")]
                count = count + 1 if header[1] == "[[" and table == names[:1] else (-1 if header[1] == "[" else count)
                if table == names and (header[1] == "[" or count == wanted_count):
                    header_line = number
                continue
            key = re.match(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=", line)
            if key is not None:
                full = table + [part.strip().strip("\"'") for part in key[1].split(".")]
                if full == names and (not any(isinstance(part, int) for part in where[:-1]) or count == wanted_count):
                    return number
        return header_line


def _table_name(where: tuple[str | int, ...]) -> str:
    return f" in [{_dotted(where)}]" if where else ""


def _dotted(where: tuple[str | int, ...]) -> str:
    return ".".join(part for part in where if isinstance(part, str))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _changed_lines(value: Any) -> list[str]:
    return [
        _line(item, getattr(value, item.name))
        for item in dataclasses.fields(value)
        if getattr(value, item.name) != _default(item)
    ]


def _line(item: dataclasses.Field[Any], value: Any) -> str:
    """A setting as the file has it; paths in full, as the reader takes others as relative to the file."""
    return f"{item.name} = {_toml(_placed(item, value, Path.cwd()))}"


def _placed(item: dataclasses.Field[Any], value: Any, folder: Path) -> Any:
    """A field's value with what it has of paths taken from this folder."""
    is_file = item.metadata.get("is_file")
    if isinstance(value, Path):
        return folder / value
    if is_file is None:
        return value
    if isinstance(value, tuple):
        return tuple(_placed(item, entry, folder) for entry in value)
    return str(folder / _at_home(value)) if is_file(value) else value


def _at_home(text: str) -> Path:
    """The path with its ~ or ~NAME taken for a home; where there is none, it is the name of a file, as for a shell."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_quoted(name)} = {_toml(entry)}" for name, entry in value.items()) + " }"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'
