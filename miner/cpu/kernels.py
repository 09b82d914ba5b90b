"""Compiled searches: one per variant and process, machine code cached on disk so that only the first start on a machine
compiles."""

from __future__ import annotations

import threading
from typing import Any

from miner.cache import cache_folder as cache_folder
from miner.kernels.search import build_search
from miner.kernels.variant import Variant

_lock = (
    threading.Lock()
)  # Numba compiles one function at a time anyway; the lock keeps two threads from compiling the same one
_loaded: dict[Variant, Any] = {}


def load_search(variant: Variant) -> Any:
    """The variant's search function (see kernels.search.build_search); a cache folder that cannot be written only costs
    the compilation."""
    with _lock:
        if variant not in _loaded:
            try:
                _loaded[variant] = build_search(variant, cache_folder() / "kernels")
            except OSError:
                _loaded[variant] = build_search(variant, None)
        return _loaded[variant]
