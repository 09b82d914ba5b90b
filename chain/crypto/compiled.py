"""How compiled loops are declared: with the types of their arguments, so that Numba compiles each once, keeps the
machine code on disk, and makes no variant for a constant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

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
    """`decorate`, but what is on disk and cannot be read is dropped: an older version's code that names what this one
    no longer has, of which Numba cannot even read that it is out of date, or files that a power cut left half written.
    """

    def declare(function: Any) -> Any:
        try:
            return decorate(function)
        except Exception:  # unpickling raises whatever it likes; what is wrong with the function comes again
            njit(cache=True)(function)._cache.flush()
            return decorate(function)

    return declare


def inlined(function: Any) -> Any:
    """Written into whatever compiled function calls it, never compiled by itself."""
    return njit(nogil=True, inline="always")(function)


@intrinsic
def _memcpy(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Bytes from one address to another."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = cgutils.voidptr_t
        to, start = (builder.inttoptr(arg, pointer) for arg in args[:2])
        cgutils.raw_memcpy(builder, to, start, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), codegen


@inner(BYTES, INT, INT, BYTES, INT)
def copy(data: Any, start: Any, size: Any, out: Any, at: Any) -> Any:
    """data[start:start+size] to out[at]; the next position. The two do not overlap."""
    _memcpy(np.uint64(out.ctypes.data) + np.uint64(at), np.uint64(data.ctypes.data) + np.uint64(start), size)
    return at + size
