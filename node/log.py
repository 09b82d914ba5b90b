"""debug.log: one line an event, UTF-8, written out before the call that caused it returns."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chain.primitives.errors import LocalFault

#: Core's categories, in the order in which `logging` lists them.
CATEGORIES: Final = (
    "addrman", "bench", "blockstorage",
    "cmpctblock", "coindb", "estimatefee", "http", "i2p", "ipc", "kernel", "leveldb",
    "libevent", "mempool", "mempoolrej", "net", "privatebroadcast",
    "proxy", "prune", "qt", "rand", "reindex", "rpc", "scan", "selectcoins",
    "tor", "txpackages", "txreconciliation", "validation", "walletdb", "zmq",
)  # fmt: skip

#: `extra` of a record for the file alone: the console gets the same in the line with which the program ends.
FILE_ONLY: Final = {"file_only": True}

_KEEP_BYTES: Final = 10_000_000


class CategoryFilter(logging.Filter):
    """Passes INFO and above always, DEBUG only for categories that are switched on."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled: dict[str, bool] = dict.fromkeys(CATEGORIES, False)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.INFO:
            return True
        category = record.name.rpartition(".")[2]
        return self.enabled.get(category, any(self.enabled.values()))

    def switch(self, names: Iterable[str], on: bool) -> str | None:
        """Returns the first name that is no category, with nothing changed; None when all were."""
        wanted = list(names)
        for name in wanted:
            if name not in self.enabled and name not in ("all", "1", "0", "none", ""):
                return name
        for name in wanted:
            if name in ("all", "1", ""):
                self.enabled.update(dict.fromkeys(CATEGORIES, on))
            elif name in ("0", "none"):
                self.enabled.update(dict.fromkeys(CATEGORIES, False))
            else:
                self.enabled[name] = on
        return None


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if record.levelno >= logging.WARNING:
            prefix = f"[{record.levelname.lower()}] "
        else:
            prefix = f"[{record.name.rpartition('.')[2]}] " if record.levelno < logging.INFO else ""
        text = f"{stamp} {prefix}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _File(logging.StreamHandler):  # type: ignore[type-arg]
    """Closes over one open file; a write that fails must not kill what was being logged."""

    def handleError(self, record: logging.LogRecord) -> None:
        return


class NodeLog:
    """Handlers of the root logger for one node's life."""

    def __init__(
        self, path: Path | None, *, console: bool, categories: Iterable[str], exclude: Iterable[str], shrink: bool
    ) -> None:
        self.path = path
        self.categories = CategoryFilter()
        self.unknown: list[str] = []
        for name in categories:
            if self.categories.switch([name], True) is not None:
                self.unknown.append(name)
        for name in exclude:
            if self.categories.switch([name], False) is not None:
                self.unknown.append(name)
        self._handlers: list[logging.Handler] = []
        if path is not None:
            try:
                if shrink and path.exists() and path.stat().st_size > _KEEP_BYTES * 11 // 10:
                    path.write_bytes(path.read_bytes()[-_KEEP_BYTES:])
                self._add(_File(path.open("a", encoding="utf-8", errors="backslashreplace")))
            except OSError as error:
                raise LocalFault(f"Could not open debug log file {path}: {error.strerror}") from error
        if console:
            shown = _File(sys.stdout)
            shown.addFilter(lambda record: not getattr(record, "file_only", False))
            self._add(shown)
        root = logging.getLogger()
        root.setLevel(logging.DEBUG if any(self.categories.enabled.values()) else logging.INFO)
        for noisy in ("asyncio", "aiohttp", "numba", "concurrent"):
            logging.getLogger(noisy).setLevel(logging.WARNING)

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(_Formatter())
        handler.addFilter(self.categories)
        logging.getLogger().addHandler(handler)
        self._handlers.append(handler)

    def refresh_level(self) -> None:
        """After categories were switched: let DEBUG through only when some category wants it."""
        on = any(self.categories.enabled.values())
        logging.getLogger().setLevel(logging.DEBUG if on else logging.INFO)

    def close(self) -> None:
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.flush()
            if isinstance(handler, _File) and handler.stream is not sys.stdout:
                handler.stream.close()
        self._handlers.clear()
