"""Runs kernels for 64-bit Arm on any machine: compiled by LLVM, linked with a small search loop, emulated by QEMU."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miner.cpu.device import CpuDevice
from miner.kernels.layout import JOB_WORDS, MIDSTATE_WORDS, SCRATCH_WORDS_PER_LANE
from miner.kernels.standalone import Machine, compile_module
from miner.kernels.variant import Variant

PLAIN = Machine("aarch64-linux-gnu", features="-sha2,-aes")  #: a Raspberry Pi 4, for one
WITH_SHA2 = Machine("aarch64-linux-gnu", features="+sha2")
_SOURCE = Path(__file__).with_name("aarch64_search.c")
_COMPILER, _EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


@dataclass(frozen=True, slots=True)
class ArmVariant:
    """A kernel for another machine."""

    variant: Variant
    machine: Machine

    def __str__(self) -> str:
        return f"aarch64-{self.variant}"


#: What Arm machines choose from.
ARM_VARIANTS = [
    ArmVariant(Variant(4, sha_extensions=True, arm=True), WITH_SHA2),
    ArmVariant(Variant(2, sha_extensions=True, arm=True), WITH_SHA2),
    ArmVariant(Variant(4), PLAIN),
    ArmVariant(Variant(1), PLAIN),
]


def missing_tool() -> str | None:
    """What this machine lacks for running Arm code, and where Debian has it."""
    if not shutil.which(_COMPILER):
        return f"no {_COMPILER} (Debian: gcc-aarch64-linux-gnu)"
    if platform.machine() != "aarch64" and not shutil.which(_EMULATOR):
        return f"no {_EMULATOR} (Debian: qemu-user)"
    return None


class EmulatedArmDevice(CpuDevice):
    """CpuDevice whose search runs in another process, under the emulator (on an Arm machine without it)."""

    def __init__(self, arm: ArmVariant, preferred_versions: int, folder: Path) -> None:
        super().__init__("emulated", Variant(1), preferred_versions)
        self.variant = arm.variant
        self._command = [str(_build(arm, folder))]
        if platform.machine() != "aarch64":
            self._command.insert(0, _EMULATOR)
        self._process: subprocess.Popen[bytes] | None = None
        self._search = self._search_elsewhere

    def open(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            assert self._process.returncode == 0
            self._process = None

    def _search_elsewhere(
        self, words: Any, scratch: Any, start: Any, count: int, versions: int, found: Any, stop: Any
    ) -> tuple[int, int]:
        assert self._process is not None
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(struct.pack("<QIIII", count, int(start), versions, found.size, words.size) + words.tobytes())
        requests.flush()
        done, candidates = struct.unpack("<qq", answers.read(16))
        found[:candidates] = np.frombuffer(answers.read(8 * candidates), dtype=np.uint64)
        return done, candidates


def _build(arm: ArmVariant, folder: Path) -> Path:
    _, code = compile_module(arm.variant, arm.machine)
    kernel, program = folder / f"{arm}.o", folder / f"{arm}"
    kernel.write_bytes(code)
    layout = {
        "WIDTH": arm.variant.width,
        "JOB_WORDS": JOB_WORDS,
        "MIDSTATE_WORDS": MIDSTATE_WORDS,
        "SCRATCH_WORDS_PER_LANE": SCRATCH_WORDS_PER_LANE,
    }
    subprocess.run(
        [
            *(_COMPILER, "-O2", "-Wall", "-Werror", "-ffreestanding", "-nostdlib", "-static"),
            *(f"-D{name}={value}" for name, value in layout.items()),
            *(str(_SOURCE), str(kernel), "-o", str(program)),
        ],
        check=True,
    )
    return program
