"""How the demo shows itself: one live screen on a terminal, plain lines elsewhere, a summary at the end."""

from __future__ import annotations

import time

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chain.primitives.amount import format_amount
from node.up.state import DemoState


def format_rate(rate: float) -> str:
    """Hashes a second with a unit: 34100000.0 is '34.1 MH/s'."""
    for unit in ("H/s", "kH/s", "MH/s", "GH/s"):
        if rate < 1000:
            return f"{rate:.3g} {unit}"
        rate /= 1000
    return f"{rate:.3g} TH/s"


class LiveScreen:
    """The terminal screen. Use as a context manager; `show` redraws."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, state: DemoState) -> None:
        """Draw the state."""
        self._live.update(render(state), refresh=True)


class PlainScreen:
    """For pipes and logs: a line whenever the height has changed, at most one a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_height: int | None = None
        self._next = 0.0

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, state: DemoState) -> None:
        """Print the state if it is news."""
        if state.height == self._shown_height or time.monotonic() < self._next:
            return
        self._shown_height, self._next = state.height, time.monotonic() + 1.0
        balances = ", ".join(f"{name} {format_amount(sum(parts))}" for name, parts in state.balances.items())
        line = f"height {state.height}, {format_rate(state.hash_rate)}, mempool {state.mempool_count}"
        self._console.print(f"{line}, {balances or 'no wallet yet'}", highlight=False, soft_wrap=True)


def render(state: DemoState) -> Group:
    """The whole screen for one moment."""
    node = Table.grid(padding=(0, 2))
    node.add_row("height", f"[bold]{state.height}[/]")
    node.add_row("coins issued", format_amount(state.supply))
    node.add_row("mempool", f"{state.mempool_count} transactions, {state.mempool_bytes} vB")
    node.add_row("hash rate", f"[bold]{format_rate(state.hash_rate)}[/]")
    node.add_row("mined here", f"{state.blocks_mined} blocks, {state.blocks_rejected} lost")
    node.add_row("payments", f"{state.payments}, {format_amount(state.paid)} in all")

    purses = Table(box=None, padding=(0, 2))
    for heading in ("wallet", "confirmed", "pending", "immature"):
        purses.add_column(heading, justify="left" if heading == "wallet" else "right")
    for name, parts in state.balances.items():
        purses.add_row(name, *map(format_amount, parts))

    blocks = Table(box=None, padding=(0, 2))
    for heading in ("height", "block", "transactions", "bytes", "age"):
        blocks.add_column(heading, justify="left" if heading == "block" else "right")
    now = time.time()
    for line in reversed(state.blocks):
        short = f"{line.hash_hex[:8]}…{line.hash_hex[-8:]}"
        age = f"{max(0, int(now - line.time))} s"
        blocks.add_row(str(line.height), short, str(line.transactions), str(line.size), age)

    seconds = int(state.uptime_s)
    title = f"pickaxe up · dev network · {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return Group(
        Text(f"{title} · {state.doing}", style="bold"),
        Columns([Panel(node, title="node and miner"), Panel(purses, title="wallets")], padding=(0, 1)),
        Panel(blocks, title="latest blocks", expand=False),
        Text("\n".join(state.events)),
        Text("Ctrl-C stops everything cleanly.", style="dim"),
    )


def summary(state: DemoState, datadir: str) -> str:
    """What the run came to, line by line."""
    start = state.start_height if state.start_height is not None else state.height
    lines = [
        f"height {state.height}: {state.height - start} blocks in {state.uptime_s:.0f} s, "
        f"{state.blocks_mined} mined here, {state.hashes} hashes",
        f"{state.payments} payments of {format_amount(state.paid)} in all",
    ]
    lines += [
        f"wallet {name}: {format_amount(confirmed)} confirmed, {format_amount(pending)} pending, "
        f"{format_amount(immature)} immature"
        for name, (confirmed, pending, immature) in state.balances.items()
    ]
    lines.append(f"everything is kept in {datadir}: run it again to go on, delete the folder to start over")
    return "\n".join(lines)
