"""`pickaxe bench`: this machine's hash rate, against hashlib and against earlier runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chain.primitives.errors import UserError
from miner.cli.numbers import Number

if TYPE_CHECKING:
    from miner.bench import History, Measurement

_BASELINE = "hashlib, 1 thread"


@click.command()
@click.option("--seconds", type=Number(0.1, 60), default=2.0, show_default=True, help="Time for each row.")
@click.option("--no-gpu", is_flag=True, help="Leave graphics cards out.")
def bench(seconds: float, no_gpu: bool) -> None:
    """Measure this machine's hash rate and compare with earlier runs."""
    from miner.bench import History, Measurement, cpu_set, measure, measure_hashlib, processor_model
    from miner.cpu.features import usable_cores
    from miner.cpu.kernels import cache_folder
    from miner.cpu.tuner import tuned

    choice = tuned()
    cores = len(usable_cores())
    rows = [Measurement(_BASELINE, measure_hashlib(seconds), 1)]
    for threads in sorted({1, cores}):
        name = f"{choice.variant}, {choice.versions} versions, {threads} thread{'s' if threads > 1 else ''}"
        rate = measure(cpu_set(choice.variant, choice.versions, threads), choice.versions, seconds)
        rows.append(Measurement(name, rate, threads))
    remarks: list[str] = []
    if not no_gpu:
        rows += _graphics_cards(seconds, remarks)
    history = History(cache_folder() / "bench.json", processor_model())
    table = _table(rows, history)
    history.save({row.name: row.rate for row in rows})
    console = Console()
    console.print(table)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)


def _graphics_cards(seconds: float, remarks: list[str]) -> list[Measurement]:
    from miner.bench import Measurement, measure
    from miner.device import DeviceError
    from miner.gpu import gpu_devices

    rows = []
    try:
        for device in gpu_devices():
            try:
                rate = measure([device], device.preferred_versions, seconds)
                rows.append(Measurement(f"{device.name}, {device.found.title}", rate, None))
            except DeviceError as error:
                remarks.append(f"{device.name}: {error}")
    except UserError as error:
        remarks.append(f"{error}")
    return rows


def _table(rows: list[Measurement], history: History) -> Table:
    from miner.hashrate import format_rate

    table = Table("what", "hash rate", "a core", "× hashlib", "last run", "best before")
    for heading in table.columns[1:]:
        heading.justify = "right"
        heading.no_wrap = True
    baseline = rows[0].rate
    for row in rows:
        earlier = history.rates(row.name)
        change = f"{(row.rate / earlier[-1] - 1) * 100:+.1f} %" if earlier else "-"
        best = f"{format_rate(max(earlier))} of {len(earlier)}" if earlier else "-"
        a_core = format_rate(row.rate / row.threads) if row.threads else "-"
        table.add_row(Text(row.name), format_rate(row.rate), a_core, f"{row.rate / baseline:.1f}", change, best)
    return table
