"""How many instructions does a hash take on 64-bit Arm, kernel by kernel? Compiled and counted on any machine.

    python -m benchmarks.arm_code

Counts, not speeds: moves, loads and address arithmetic are in them, and a rotation with NEON is two instructions. The
last column is how many times fewer they are than those of four lanes with NEON.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from miner.kernels.standalone import Machine, compile_module, count_instructions
from miner.kernels.variant import Variant

VERSIONS = (1, 4, 64)
TRIPLE = "aarch64-linux-gnu"
#: What it is, the kernel and the machine; the first is what the others are compared with.
ROWS = (
    ("NEON, 4 lanes", Variant(4), Machine(TRIPLE, features="-sha2")),
    ("the same with FEAT_SHA3's eor3", Variant(4), Machine(TRIPLE, features="+sha3")),
    ("no vectors", Variant(1), Machine(TRIPLE)),
    ("SHA-256 instructions, 2 hashes", Variant(2, sha_extensions=True, arm=True), Machine(TRIPLE, features="+sha2")),
    ("SHA-256 instructions, 4 hashes", Variant(4, sha_extensions=True, arm=True), Machine(TRIPLE, features="+sha2")),
)


def main() -> None:
    headings = [f"{count} version{'s' if count > 1 else ''}" for count in VERSIONS]
    table = Table("kernel", "what", *headings, "SHA-256 instructions", "ratio", caption="instructions per hash")
    baseline = 0.0
    for title, variant, machine in ROWS:
        assembly, _ = compile_module(variant, machine)
        counts = count_instructions(assembly)
        compress, expand = (counts[name].total() / variant.width for name in ("compress", "expand"))
        special = [
            sum(count for name, count in counts[function].items() if name.startswith("sha256")) / variant.width
            for function in ("compress", "expand")
        ]
        totals = [compress + expand / versions for versions in VERSIONS]
        baseline = baseline or totals[-1]
        table.add_row(
            *(str(variant), title, *(f"{total:.1f}" for total in totals)),
            f"{special[0]:.0f} + {special[1]:.0f} / versions",
            f"{baseline / totals[-1]:.2f}",
        )
    Console(width=max(120, Console().width)).print(table)


if __name__ == "__main__":
    main()
