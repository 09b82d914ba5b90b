"""The nonce loop around the generated kernels, compiled by Numba without the GIL and cached on disk per machine and
generator.

Numba keys its cache on the file that holds the compiled function, but what that function does is decided by the
generator; so the cache used here carries a digest of every file that shapes the machine code (generator_stamp) in its
file names, next to Numba's own keys (signature, target triple, processor and its features).
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

from numba import njit
from numba import types as numba_types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from miner.kernels.generator import compress_intrinsic, expand_intrinsic
from miner.kernels.layout import JOB_WORDS, MIDSTATE_WORDS
from miner.kernels.variant import Variant, generator_stamp

_WORDS = numba_types.Array(numba_types.uint32, 1, "C")
_FOUND = numba_types.Array(numba_types.uint64, 1, "C")
_RESULT = numba_types.UniTuple(numba_types.int64, 2)
#: search(job, scratch, start, count, versions, found, stop) -> (nonces done, candidates written)
SIGNATURE = _RESULT(_WORDS, _WORDS, numba_types.uint32, numba_types.int64, numba_types.int64, _FOUND, _WORDS)

# The three names below are replaced per variant by build_search; they are here for the reader and the linters.
expand: Any = None
compress: Any = None
WIDTH = 1


def _search(job: Any, scratch: Any, start: Any, count: Any, versions: Any, found: Any, stop: Any) -> Any:
    job_address = job.ctypes.data
    scratch_address = scratch.ctypes.data
    room = found.size - versions * WIDTH
    candidates = 0
    done = 0
    nonce = start
    while done < count and candidates <= room and stop[0] == 0:
        expand(nonce, job_address, scratch_address)
        row = job_address + 4 * JOB_WORDS
        for version in range(versions):
            mask = compress(job_address, row, scratch_address)
            row += 4 * MIDSTATE_WORDS
            if mask:
                for lane in range(min(WIDTH, count - done)):
                    if (mask >> lane) & 1:
                        found[candidates] = (version << 32) | ((int(nonce) + lane) & 0xFFFFFFFF)
                        candidates += 1
        nonce += WIDTH
        done += WIDTH
    return min(done, count), candidates


def build_search(variant: Variant, cache_folder: Path | None) -> Any:
    """Compile (or load from `cache_folder`) one variant's search; returns a callable that releases the GIL.

    search(job, scratch, start, count, versions, found, stop) -> (nonces done, candidates): hashes nonces start, start
    + 1, … (modulo 2^32) under `versions` midstates of the job that miner.kernels.prepare made, and writes each
    candidate as version index << 32 | nonce into `found` (uint64). It stops early, having reported everything up to
    where it stopped, when another vector's candidates might not fit, or when another thread has written a 1 to the word
    `stop`: it is read for every vector of nonces, anew because LLVM cannot know that the kernels do not write it.
    `scratch` is SCRATCH_WORDS_PER_LANE * width words from prepare.aligned_words.
    """
    scope = {
        "expand": expand_intrinsic(variant),
        "compress": compress_intrinsic(variant),
        "WIDTH": variant.width,
        "JOB_WORDS": JOB_WORDS,
        "MIDSTATE_WORDS": MIDSTATE_WORDS,
        "__builtins__": __builtins__,
        "__name__": __name__,
    }
    function = types.FunctionType(_search.__code__, scope, f"search_{variant}")
    function.__qualname__ = f"search_{variant}"
    function.__module__ = __name__
    dispatcher: Any = njit(nogil=True)(function)
    if cache_folder is not None:
        dispatcher._cache = _cache_in(cache_folder)(function)
    dispatcher.compile(SIGNATURE)
    dispatcher.disable_compile()
    return dispatcher


def _cache_in(folder: Path) -> type[FunctionCache]:
    stamp = generator_stamp()

    class Locator(_CacheLocator):  # type: ignore[misc]  # numba has no type information
        def get_cache_path(self) -> str:
            return str(folder)

        def get_source_stamp(self) -> str:
            return stamp

        def get_disambiguator(self) -> str:
            return stamp[:16]

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            return cls()

    class Implementation(CompileResultCacheImpl):  # type: ignore[misc]
        _locator_classes = (Locator,)

    class Cache(FunctionCache):  # type: ignore[misc]
        _impl_class = Implementation

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            """None where there is nothing, or it is damaged: a power cut leaves files empty or half written, and
            unpickling those raises whatever it likes. What is left is forgotten, so that it is written anew."""
            try:
                return super().load_overload(sig, target_context)
            except Exception:
                self.flush()
                return None

    folder.mkdir(parents=True, exist_ok=True)
    return Cache
