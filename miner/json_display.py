"""A run as lines of JSON, for programs that watch the miner."""

from __future__ import annotations

import asyncio
import json
from typing import TextIO

from miner.status import StatusMonitor

_INTERVAL_S = 0.5


class JsonDisplay:
    """Every line is one object: a picture of the run twice a second (`miner.status.Status.as_dict`: the fields of
    `miner.telemetry.Report` and more), or {"message": TEXT}."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def message(self, text: str) -> None:
        self._write({"message": text})

    async def run(self, monitor: StatusMonitor) -> None:
        try:
            while True:
                self._write(monitor.status().as_dict())
                await asyncio.sleep(_INTERVAL_S)
        finally:
            self._write(monitor.status().as_dict())

    def _write(self, line: dict[str, object]) -> None:
        self._output.write(json.dumps(line) + "\n")
        self._output.flush()
