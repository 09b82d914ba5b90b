"""Which kernel: its width and its method."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variant:
    """One kernel.

    `width`: nonces hashed side by side, one per vector lane. `ternary`: logic through vpternlogd (AVX-512, with VL for
    widths under 16). `sha_extensions`: the processor's SHA-256 instructions instead of vector arithmetic; the width is
    then how many hashes are interleaved to hide their latency. `arm`: those instructions are AArch64's, not x86's.
    """

    width: int
    ternary: bool = False
    sha_extensions: bool = False
    arm: bool = False

    def __str__(self) -> str:
        method = ("armsha" if self.arm else "sha") if self.sha_extensions else "w"
        return f"{method}{self.width}{'t' if self.ternary else ''}"


def generator_stamp() -> str:
    """Digest of every source that shapes the machine code; cached kernels of another stamp are not used."""
    here = Path(__file__).parent
    names = ("generator.py", "sha_extensions.py", "search.py", "layout.py", "sha256_constants.py", "variant.py")
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in names)).hexdigest()
