"""How compiled loops are declared: with the types of their arguments, so that Numba compiles each once, keeps the
machine code on disk, and makes no variant for a constant.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types

INT = types.int64
BYTES = types.uint8[::1]
WORDS = types.uint32[::1]
INTS = types.int64[::1]


def compiled(*arguments: Any) -> Any:
    """Decorates a function with arguments of these types; it holds no GIL."""
    return njit(arguments, nogil=True, cache=True)
