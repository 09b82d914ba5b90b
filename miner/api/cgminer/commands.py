"""The table of commands: what each answers, whether it changes something, and whether it can be joined with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.primitives.errors import UserError
from miner.api.cgminer import reports
from miner.api.cgminer.messages import Message
from miner.api.cgminer.wire import Record, Reply, Request
from miner.api.control import RunControl
from miner.status import Status
from miner.telemetry import DeviceReport
from miner.work.source import PoolControl, PoolReport


@dataclass(frozen=True, slots=True)
class Context:
    """What a command sees. `write`: this caller may change things; `when`: Unix time of the request."""

    status: Status
    control: RunControl
    write: bool
    when: int


class _Refused(Exception):
    """The command ends with this message."""

    def __init__(self, message: Message, *places: object) -> None:
        super().__init__(message.text(*places))
        self.reply = Reply(message, places)


@dataclass(frozen=True, slots=True)
class Command:
    """`answer(context, parameter)`; `writes`: needs privileged access; `joins`: may stand in `a+b`."""

    answer: Callable[[Context, str | None], Reply]
    writes: bool = False
    joins: bool = True


def execute(request: Request, context: Context) -> list[tuple[str, Reply]]:
    """The reply to each command of a request."""
    if request.error is not None:
        return [("", Reply(request.error))]
    return [(name, _execute(name, request, context)) for name in request.commands]


def _execute(name: str, request: Request, context: Context) -> Reply:
    command = COMMANDS.get(name)
    if command is None:
        return Reply(Message.INVALID_COMMAND)
    if (command.writes and not context.write) or (request.joined and not command.joins):
        return Reply(Message.ACCESS_DENIED, (name,))
    try:
        return command.answer(context, request.parameter)
    except _Refused as refused:
        return refused.reply


# --- reports ---


def _one(message: Message, section: str, record: Callable[[Context], Record]) -> Command:
    def answer(context: Context, _: str | None) -> Reply:
        return Reply(message, (), section, [record(context)], headed=True)

    return Command(answer)


def _devices(context: Context, enabled_only: bool) -> Reply:
    status = context.status
    listed = reports.all_devices(status)
    if not listed:
        return Reply(Message.NO_DEVICES)
    counts = len(reports.boards(status)), len(reports.others(status))
    shown = [entry for entry in listed if not enabled_only or entry.failure is None]
    return Reply(Message.DEVICES, counts, "DEVS", [reports.device(status, entry, context.when) for entry in shown])


def _pools(context: Context, _: str | None) -> Reply:
    listed = reports.pools(context.status)
    if not listed:
        return Reply(Message.NO_POOLS)
    records = [reports.pool(context.status, entry, context.when) for entry in listed]
    return Reply(Message.POOLS, (len(listed),), "POOLS", records)


def _device_details(context: Context, _: str | None) -> Reply:
    listed = reports.all_devices(context.status)
    if not listed:
        return Reply(Message.NO_DEVICES)
    records = [reports.details(context.status, number, entry) for number, entry in enumerate(listed)]
    return Reply(Message.DEVICE_DETAILS, (), "DEVDETAILS", records)


def _notify(context: Context, _: str | None) -> Reply:
    listed = reports.all_devices(context.status)
    if not listed:
        return Reply(Message.NO_DEVICES)
    records = [reports.notify(context.status, number, entry, context.when) for number, entry in enumerate(listed)]
    return Reply(Message.NOTIFY, (), "NOTIFY", records)


def _stats(enabled_only: bool) -> Command:
    def answer(context: Context, _: str | None) -> Reply:
        return Reply(Message.STATS, (), "STATS", reports.stats(context.status, enabled_only))

    return Command(answer)


def _check(context: Context, parameter: str | None) -> Reply:
    if not parameter:
        return Reply(Message.MISSING_CHECK)
    command = COMMANDS.get(parameter)
    access = command is not None and (context.write or not command.writes)
    record = {"Exists": "Y" if command is not None else "N", "Access": "Y" if access else "N"}
    return Reply(Message.CHECK, (), "CHECK", [record], headed=True)


def _debug(_: Context, __: str | None) -> Reply:
    """There are no such settings here, and none is changed."""
    names = ("Silent", "Quiet", "Verbose", "Debug", "RPCProto", "PerDevice", "WorkTime")
    return Reply(Message.DEBUG, (), "DEBUG", [dict.fromkeys(names, False)], headed=True)


def _set_config(_: Context, parameter: str | None) -> Reply:
    name, comma, _value = (parameter or "").partition(",")
    if not name:
        return Reply(Message.MISSING_CONFIG)
    if name.lower() in ("queue", "scantime", "expiry"):
        return Reply(Message.DEPRECATED, (name,))
    return Reply(Message.UNKNOWN_CONFIG, (name,)) if comma else Reply(Message.MISSING_CONFIG_VALUE, (name,))


def _fixed(message: Message) -> Callable[[Context, str | None], Reply]:
    return lambda _context, _parameter: Reply(message)


# --- devices ---


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of cgminer's two kinds of device: its section and its messages."""

    section: str
    listed: Callable[[Status], list[DeviceReport]]
    none: Message
    invalid: Message
    one: Message
    already_enabled: Message
    already_disabled: Message
    enabled: Message
    disabled: Message
    no_identify: Message
    no_set: Message

    def find(self, context: Context, parameter: str | None) -> tuple[int, DeviceReport]:
        listed = self.listed(context.status)
        if not listed:
            raise _Refused(self.none)
        if not parameter:
            raise _Refused(Message.MISSING_DEVICE)
        number = _integer(parameter)
        if not 0 <= number < len(listed):
            raise _Refused(self.invalid, number, len(listed) - 1)
        return number, listed[number]

    def show(self, context: Context, parameter: str | None) -> Reply:
        number, report = self.find(context, parameter)
        return Reply(self.one, (number,), self.section, [reports.device(context.status, report, context.when)])

    def enable(self, context: Context, parameter: str | None) -> Reply:
        number, report = self.find(context, parameter)
        if not report.paused and report.failure is None:
            return Reply(self.already_enabled, (number,))
        context.control.resume_device(report.name)
        return Reply(self.enabled, (number,))

    def disable(self, context: Context, parameter: str | None) -> Reply:
        number, report = self.find(context, parameter)
        if report.paused:
            return Reply(self.already_disabled, (number,))
        context.control.pause_device(report.name)
        return Reply(self.disabled, (number,))

    def identify(self, context: Context, parameter: str | None) -> Reply:
        return Reply(self.no_identify, (self.find(context, parameter)[0],))

    def set(self, context: Context, parameter: str | None) -> Reply:
        return Reply(self.no_set, (self.find(context, (parameter or "").split(",")[0])[0],))


_ASC = _Kind(
    "ASC",
    reports.boards,
    Message.NO_ASCS,
    Message.INVALID_ASC,
    Message.ASC,
    Message.ASC_ALREADY_ENABLED,
    Message.ASC_ALREADY_DISABLED,
    Message.ASC_ENABLED,
    Message.ASC_DISABLED,
    Message.ASC_NO_IDENTIFY,
    Message.ASC_NO_SET,
)
_PGA = _Kind(
    "PGA",
    reports.others,
    Message.NO_PGAS,
    Message.INVALID_PGA,
    Message.PGA,
    Message.PGA_ALREADY_ENABLED,
    Message.PGA_ALREADY_DISABLED,
    Message.PGA_ENABLED,
    Message.PGA_DISABLED,
    Message.PGA_NO_IDENTIFY,
    Message.PGA_NO_SET,
)


# --- pools ---


def _find_pool(context: Context, parameter: str | None) -> PoolReport:
    listed = reports.pools(context.status)
    if not listed:
        raise _Refused(Message.NO_POOLS)
    if not parameter:
        raise _Refused(Message.MISSING_POOL)
    number = _integer(parameter)
    for entry in listed:
        if entry.number == number:
            return entry
    raise _Refused(Message.INVALID_POOL, number, max(entry.number for entry in listed))


def _control(context: Context, name: str) -> PoolControl:
    """How pools are changed; a node is none."""
    if context.control.pools is None:
        raise _Refused(Message.ACCESS_DENIED, name)
    return context.control.pools


def _url(entry: PoolReport) -> str:
    return entry.url or entry.name


def _switch_pool(context: Context, parameter: str | None) -> Reply:
    entry = _find_pool(context, parameter)
    _attempt(lambda: _control(context, "switchpool").switch_pool(entry.number), Message.ACCESS_DENIED, "switchpool")
    return Reply(Message.SWITCHING, (entry.number, _url(entry)))


def _enable_pool(context: Context, parameter: str | None) -> Reply:
    entry = _find_pool(context, parameter)
    if entry.enabled:
        return Reply(Message.POOL_ALREADY_ENABLED, (entry.number, _url(entry)))
    _attempt(lambda: _control(context, "enablepool").enable_pool(entry.number), Message.ACCESS_DENIED, "enablepool")
    return Reply(Message.POOL_ENABLED, (entry.number, _url(entry)))


def _disable_pool(context: Context, parameter: str | None) -> Reply:
    entry = _find_pool(context, parameter)
    if not entry.enabled:
        return Reply(Message.POOL_ALREADY_DISABLED, (entry.number, _url(entry)))
    control = _control(context, "disablepool")
    _attempt(lambda: control.disable_pool(entry.number), Message.LAST_POOL_DISABLED, entry.number, _url(entry))
    return Reply(Message.POOL_DISABLED, (entry.number, _url(entry)))


def _remove_pool(context: Context, parameter: str | None) -> Reply:
    entry = _find_pool(context, parameter)
    if len(reports.pools(context.status)) <= 1:
        return Reply(Message.LAST_POOL_REMOVED, (entry.number, _url(entry)))
    control = _control(context, "removepool")
    _attempt(lambda: control.remove_pool(entry.number), Message.ACTIVE_POOL, entry.number, _url(entry))
    return Reply(Message.POOL_REMOVED, (entry.number, _url(entry)))


def _add_pool(context: Context, parameter: str | None) -> Reply:
    if not parameter:
        return Reply(Message.MISSING_POOL_DETAILS)
    parts = _split_escaped(parameter)
    if len(parts) < 3 or not all(parts[:2]):
        return Reply(Message.INVALID_POOL_DETAILS, (parameter,))
    url, user, password = parts[0], parts[1], ",".join(parts[2:])
    control = _control(context, "addpool")
    try:
        number = control.add_pool(url, user, password)
    except UserError:
        return Reply(Message.INVALID_POOL_DETAILS, (parameter,))
    return Reply(Message.POOL_ADDED, (number, url))


def _pool_priority(context: Context, parameter: str | None) -> Reply:
    if not parameter:
        _find_pool(context, None)
    numbers: list[int] = []
    for part in (parameter or "").split(","):
        number = _find_pool(context, part or "-1").number
        if number in numbers:
            return Reply(Message.DUPLICATE_POOL, (number,))
        numbers.append(number)
    _attempt(lambda: _control(context, "poolpriority").order_pools(numbers), Message.ACCESS_DENIED, "poolpriority")
    return Reply(Message.POOL_PRIORITY)


def _pool_quota(context: Context, parameter: str | None) -> Reply:
    """Quotas belong to load balancing; the only strategy here is failover."""
    number, comma, _ = (parameter or "").partition(",")
    _find_pool(context, number)
    return Reply(Message.UNKNOWN_CONFIG, ("quota",)) if comma else Reply(Message.MISSING_CONFIG_VALUE, (number,))


def _attempt(change: Callable[[], None], message: Message, *places: object) -> None:
    try:
        change()
    except UserError:
        raise _Refused(message, *places) from None


def _split_escaped(text: str) -> list[str]:
    r"""At commas, where `\,` is a comma and `\\` a backslash."""
    parts, current, escaped = [], "", False
    for character in text:
        if escaped or character not in "\\,":
            current += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append(current)
            current = ""
    return [*parts, current]


def _integer(text: str) -> int:
    """As C's atoi reads it: leading digits, 0 without any."""
    text = text.strip()[:12]
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    length = next((index for index, digit in enumerate(digits) if digit not in "0123456789"), len(digits))
    return sign * int(digits[:length] or 0)


# --- the run ---


def _quit(context: Context, _: str | None) -> Reply:
    context.control.quit()
    return Reply(action="BYE")


def _restart(context: Context, _: str | None) -> Reply:
    context.control.restart()
    return Reply(action="RESTART")


def _count(message: Message, section: str, listed: Callable[[Status], Sequence[DeviceReport]]) -> Command:
    return _one(message, section, lambda context: {"Count": len(listed(context.status))})


def _writer(answer: Callable[[Context, str | None], Reply]) -> Command:
    return Command(answer, writes=True, joins=False)


COMMANDS = {
    "version": _one(Message.VERSION, "VERSION", lambda context: reports.version(context.status)),
    "config": _one(Message.CONFIG, "CONFIG", lambda context: reports.config(context.status)),
    "summary": _one(Message.SUMMARY, "SUMMARY", lambda context: reports.summary(context.status, context.when)),
    "coin": _one(Message.COIN, "COIN", lambda context: reports.coin(context.status, context.when)),
    "lcd": _one(Message.LCD, "LCD", lambda context: reports.lcd(context.status, context.when)),
    "devs": Command(lambda context, _: _devices(context, False)),
    "edevs": Command(lambda context, _: _devices(context, True)),
    "pools": Command(_pools),
    "devdetails": Command(_device_details),
    "notify": Command(_notify),
    "stats": _stats(False),
    "estats": _stats(True),
    "asccount": _count(Message.ASC_COUNT, "ASCS", reports.boards),
    "pgacount": _count(Message.PGA_COUNT, "PGAS", reports.others),
    "usbstats": Command(_fixed(Message.NO_USB_STATS)),
    "check": Command(_check, joins=False),
    "asc": Command(_ASC.show, joins=False),
    "ascenable": _writer(_ASC.enable),
    "ascdisable": _writer(_ASC.disable),
    "ascidentify": _writer(_ASC.identify),
    "ascset": _writer(_ASC.set),
    "pga": Command(_PGA.show, joins=False),
    "pgaenable": _writer(_PGA.enable),
    "pgadisable": _writer(_PGA.disable),
    "pgaidentify": _writer(_PGA.identify),
    "pgaset": _writer(_PGA.set),
    "switchpool": _writer(_switch_pool),
    "enablepool": _writer(_enable_pool),
    "disablepool": _writer(_disable_pool),
    "removepool": _writer(_remove_pool),
    "addpool": _writer(_add_pool),
    "poolpriority": _writer(_pool_priority),
    "poolquota": _writer(_pool_quota),
    "failover-only": _writer(lambda _, parameter: Reply(Message.DEPRECATED, (parameter or "",))),
    "privileged": _writer(_fixed(Message.ACCESS_OK)),
    "debug": _writer(_debug),
    "setconfig": _writer(_set_config),
    "hotplug": _writer(_fixed(Message.NO_HOTPLUG)),
    "lockstats": _writer(_fixed(Message.LOCK_STATS_OFF)),
    "quit": _writer(_quit),
    "restart": _writer(_restart),
}
