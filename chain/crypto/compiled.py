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
TABLE = types.int64[:, ::1]


def compiled(*arguments: Any) -> Any:
    """Decorates a function with arguments of these types; it holds no GIL."""
    return _declare(njit(arguments, nogil=True, cache=True))


def inner(*arguments: Any) -> Any:
    """The same for one that only compiled functions call: what Python would need to call it takes longer to compile
    than the function.
    """
    return _declare(njit(arguments, nogil=True, cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True))


def _declare(decorate: Any) -> Any:
    """`decorate`, but where the code on disk is an older version's and names what this one no longer has, Numba cannot
    even read that it is out of date: then it is dropped.
    """

    def declare(function: Any) -> Any:
        try:
            return decorate(function)
        except (ImportError, AttributeError):
            njit(cache=True)(function)._cache.flush()
            return decorate(function)

    return declare


def inlined(function: Any) -> Any:
    """Written into whatever compiled function calls it, never compiled by itself."""
    return njit(nogil=True, inline="always")(function)
