"""RPC: the node itself."""

from __future__ import annotations

import time

from node.rpc.context import RpcContext
from node.rpc.errors import Code, RpcError, invalid_parameter, misc
from node.rpc.jsonio import JSON
from node.rpc.registry import CATEGORIES, REGISTRY, Arg, Command, Kind, rpc

_CATEGORY = "Control"
MAX_MOCKTIME = 9_223_372_036  #: seconds whose nanoseconds fit 63 bits


@rpc("uptime", _CATEGORY, help="Seconds since the node started.", on_loop=True)
def uptime(context: RpcContext) -> JSON:
    return context.clock.uptime_s()


@rpc(
    "stop",
    _CATEGORY,
    Arg("wait", Kind.INT, None, hidden=True),
    help="Stop the node.",
    on_loop=True,
)
def stop(context: RpcContext, wait: int | None) -> JSON:
    context.stop()
    return "Pickaxe stopping"


@rpc("help", _CATEGORY, Arg("command", Kind.STR, None, help="one method"), help="All methods, or one.", on_loop=True)
def help_(context: RpcContext, command: str | None) -> JSON:
    return help_text(command)


def help_text(name: str | None) -> str:
    """What the help method answers with."""
    if name is not None:
        command = REGISTRY.get(name)
        if command is None:
            return f"help: unknown command: {name}"
        return command.help if name == "generate" else command.help_text().rstrip("\n")
    lines: list[str] = []
    for category in CATEGORIES:
        if category == "hidden":
            continue
        commands = sorted((c for c in REGISTRY.values() if c.category == category), key=_by_name)
        if commands:
            lines += [f"== {category} ==", *(command.usage() for command in commands), ""]
    return "\n".join(lines).rstrip()


def _by_name(command: Command) -> str:
    return command.name


@rpc("getrpcinfo", _CATEGORY, help="What the RPC server is doing.", on_loop=True)
def getrpcinfo(context: RpcContext) -> JSON:
    now = time.monotonic()
    commands = [
        {"method": active.method, "duration": int((now - active.started) * 1_000_000)}
        for active in context.server.active.values()
    ]
    return {"active_commands": commands, "logpath": str(context.log_path) if context.log_path else ""}


@rpc(
    "logging",
    _CATEGORY,
    Arg("include", Kind.ARR, None, help="categories to log in detail"),
    Arg("exclude", Kind.ARR, None, help="categories not to"),
    help="Which categories are logged in detail; change them.",
    on_loop=True,
)
def logging_(context: RpcContext, include: list[JSON] | None, exclude: list[JSON] | None) -> JSON:
    categories = context.log.categories
    for names, on in ((include, True), (exclude, False)):
        for name in names or []:
            if categories.switch([str(name)], on) is not None:
                raise invalid_parameter(f"unknown logging category {name}")
    context.log.refresh_level()
    return dict(categories.enabled)


@rpc("getmemoryinfo", _CATEGORY, Arg("mode", Kind.STR, "stats", help="stats"), help="Memory in use.", on_loop=True)
def getmemoryinfo(context: RpcContext, mode: str) -> JSON:
    if mode != "stats":
        raise invalid_parameter(f"unknown mode {mode}")
    zero = dict.fromkeys(("used", "free", "total", "locked", "chunks_used", "chunks_free"), 0)
    return {"locked": zero}


@rpc(
    "setmocktime",
    "hidden",
    Arg("timestamp", Kind.INT, help="Unix seconds, 0 for the real time"),
    help="Set the node's clock. For regtest and dev.",
    on_loop=True,
)
def setmocktime(context: RpcContext, timestamp: int) -> JSON:
    if not context.params.is_mockable:
        raise misc("setmocktime is for regression testing (-regtest mode) only")
    if not 0 <= timestamp <= MAX_MOCKTIME:
        raise invalid_parameter(f"Mocktime must be in the range [0, {MAX_MOCKTIME}], not {timestamp}.")
    context.clock.mock = timestamp
    if context.peers is not None:
        context.peers.clock_moved()
    return None


@rpc(
    "mockscheduler",
    "hidden",
    Arg("delta_time", Kind.INT, help="seconds, up to 3600"),
    help="Run what would be due within this time. For regtest and dev.",
)
async def mockscheduler(context: RpcContext, delta_time: int) -> JSON:
    if not context.params.is_mockable:
        raise misc("mockscheduler is for regression testing (-regtest mode) only")
    if not 0 < delta_time <= 3600:
        raise misc("delta_time must be between 1 and 3600 seconds (1 hr)")
    await context.chain_service.call(lambda: None)
    context.mock_scheduler(delta_time)
    return None


_ECHO = tuple(Arg(f"arg{n}", Kind.ANY, None) for n in range(10))


@rpc("echo", "hidden", *_ECHO, help="Returns its arguments. For tests.", on_loop=True)
def echo(context: RpcContext, *arguments: JSON) -> JSON:
    if len(arguments) == 10 and arguments[9] == "trigger_internal_bug":
        raise RpcError(
            Code.INTERNAL_ERROR, 'Internal bug detected: request.params[9].get_str() != "trigger_internal_bug"'
        )
    return list(arguments)


@rpc("echojson", "hidden", *_ECHO, help="Returns its arguments. For tests.", on_loop=True)
def echojson(context: RpcContext, *arguments: JSON) -> JSON:
    return list(arguments)


@rpc("getzmqnotifications", "Zmq", help="Active ZMQ notifications.", on_loop=True)
def getzmqnotifications(context: RpcContext) -> JSON:
    return []
