"""A run as lines of JSON on standard output, for programs that watch the miner."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys

from miner.telemetry import Telemetry

_INTERVAL_S = 0.5


class JsonDisplay:
    """Every line is one object: the fields of `miner.telemetry.Report` twice a second, or {"message": TEXT}."""

    def message(self, text: str) -> None:
        self._write({"message": text})

    async def run(self, telemetry: Telemetry) -> None:
        try:
            while True:
                self._write(dataclasses.asdict(telemetry.report()))
                await asyncio.sleep(_INTERVAL_S)
        finally:
            self._write(dataclasses.asdict(telemetry.report()))

    def _write(self, line: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
