"""Where the miner's words go: terminals of all kinds, pipes that close, disks that fill up."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from rich.console import Console


class OutputConsole(Console):
    """A console whose reader may leave. Raises BrokenPipeError then, as any other file does: the SystemExit that rich
    raises tears through the event loop and leaves a traceback behind."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    @property
    def redraws(self) -> bool:
        """Whether it can show a live screen: a terminal that can move its cursor (TERM=dumb cannot)."""
        return self.is_terminal and not self.is_dumb_terminal


class LastingOutput(io.TextIOBase):
    """A file that the miner's lines go to, and whose disk may fill up or break: what cannot be written is left out,
    and `on_change(text)` says so once, and once more when there is room again. A reader that has left is an error as
    ever (BrokenPipeError)."""

    def __init__(self, descriptor: int, encoding: str, errors: str, on_change: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._errors = errors
        self._on_change = on_change
        self._pending = ""
        self._torn = False  # the last line written is not whole
        self._lost = 0  # lines since the first that could not be written

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the class of the library has a variable
        """What text becomes."""
        return self._encoding

    def fileno(self) -> int:
        """Of the file."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Keep the text for `flush`."""
        self._pending += text
        return len(text)

    def flush(self) -> None:
        """Write what is kept, or leave it out."""
        text, self._pending = self._pending, ""
        if not text:
            return
        data = memoryview(("\n" * self._torn + text).encode(self._encoding, self._errors))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._torn = True
        except BrokenPipeError:
            raise
        except OSError as error:
            first, self._lost = not self._lost, self._lost + text.count("\n")
            if first:
                self._on_change(f"cannot write the output ({error.strerror}): mining goes on without it")
            return
        self._torn = not text.endswith("\n")
        if self._lost:
            lost, self._lost = self._lost, 0
            self._on_change(f"the output is written again; {lost} line{'s are' if lost > 1 else ' is'} missing")


def standard_output() -> TextIO:
    """Standard output, lasting where it is no terminal: a terminal that is gone has nobody to mine for."""
    stream = sys.stdout
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or none of the system's
        return stream
    if stream.isatty():
        return stream
    stream.flush()
    return LastingOutput(descriptor, stream.encoding, stream.errors or "replace", _complain)  # type: ignore[return-value]


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the same file, perhaps
        sys.stderr.write(f"pickaxe: {text}\n")
        sys.stderr.flush()
