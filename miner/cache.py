"""Where the miner keeps what is cheap to make again: compiled kernels, tuning results, benchmark history."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

_writing = threading.Lock()


def cache_folder() -> Path:
    """$PICKAXE_CACHE, else pickaxe under the user's cache folder."""
    chosen = os.environ.get("PICKAXE_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pickaxe"


def recall(path: Path) -> dict[str, Any]:
    """The JSON object kept there; empty when there is none, or it is damaged: it can be made again."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def remember(path: Path, key: str, entry: dict[str, Any]) -> str | None:
    """Add an entry to a JSON object kept in a file, in one step; a folder that cannot be written loses only the time to
    make it again. Why it could not be kept, None when it is."""
    with _writing:
        entries = recall(path)
        entries[key] = entry
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(entries, indent=1))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):  # what a full disk has taken of it
                temporary.unlink(missing_ok=True)
            return f"{path} cannot be written: {error.strerror}"
    return None
